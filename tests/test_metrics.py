"""What a run counts."""

from collections import Counter

import numpy as np
import pyarrow as pa

from eddyline.flows import REJECTED_SCHEMA
from eddyline.metrics import OTHER, Counts, count_reasons


def test_reasons_that_a_sender_makes_up_stay_bounded_and_none_goes_uncounted() -> None:
    counts = Counter[str]()
    for first in range(0, 6_000, 500):
        reasons = [f"{n} records" for n in [first, *range(first, first + 500)]]
        rows = [{"reason": reason, "origin": "x", "source_row": None, "raw": b""} for reason in reasons]
        count_reasons(pa.Table.from_pylist(rows, REJECTED_SCHEMA), counts)
    assert counts["0 records"] == 2
    assert counts[OTHER] == 5_010
    assert (len(counts), counts.total()) == (1_001, 6_012)


def test_the_totals_of_several_runs_lose_nothing_that_one_of_them_counts() -> None:
    one = Counts(flows=5, scored=4, windows=2, late=1, alerts=1, held_back=3, bytes=100, newest_us=7, bucket=2.0)
    two = Counts(flows=6, bytes=50, newest_us=9, bucket=1.0)
    one.rejected["cut"], two.rejected["cut"], two.rejected["odd"] = 1, 2, 1
    one.source, two.source = {"gaps": 1}, {"gaps": 2}
    one.levels, two.levels = {"hq": 2.0}, {"lab": 1.0}
    one.queues, two.queues = {"read": (1, 4)}, {"read": (3, 4)}
    one.p.add(np.array([1e-4, 0.5]))
    two.p.add(np.array([0.05]))
    two.took_s.add(np.array([0.2]))
    one.latency_s.append(0.1)
    two.recent.append({"combined": np.array([0.5])})
    total = Counts.over([one, two], 3.0)
    assert (total.flows, total.scored, total.windows, total.late, total.alerts, total.held_back) == (11, 4, 2, 1, 1, 3)
    assert (total.bytes, total.newest_us, total.bucket, total.seconds) == (150, 9, 2.0, 3.0)
    assert (dict(total.rejected), dict(total.source)) == ({"cut": 3, "odd": 1}, {"gaps": 3})
    assert (total.levels, total.queues) == ({"hq": 2.0, "lab": 1.0}, {"read": (4, 8)})
    assert (total.p.number, total.p.at_most.tolist()) == (3, [0, 0, 1, 1, 1, 2, 3])
    assert (total.took_s.number, list(total.latency_s), len(total.recent)) == (1, [0.1], 1)
