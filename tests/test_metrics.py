"""What a run counts."""

from collections import Counter

import pyarrow as pa

from eddyline.flows import REJECTED_SCHEMA
from eddyline.metrics import OTHER, count_reasons


def test_reasons_that_a_sender_makes_up_stay_bounded_and_none_goes_uncounted() -> None:
    counts = Counter[str]()
    for first in range(0, 6_000, 500):
        reasons = [f"{n} records" for n in [first, *range(first, first + 500)]]
        rows = [{"reason": reason, "origin": "x", "source_row": None, "raw": b""} for reason in reasons]
        count_reasons(pa.Table.from_pylist(rows, REJECTED_SCHEMA), counts)
    assert counts["0 records"] == 2
    assert counts[OTHER] == 5_010
    assert (len(counts), counts.total()) == (1_001, 6_012)
