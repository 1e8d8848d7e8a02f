"""From a detector's numbers to a sentence."""

import math

from eddyline.explanations import Explanation, Reason, reasons


def why(*rows: tuple[str, float, float]) -> Explanation:
    n = len(rows)
    return Explanation(
        [7] * n,
        [r[0] for r in rows],
        [""] * n,
        [r[1] for r in rows],
        [r[2] for r in rows],
        [1.0] * n,
        ["burst"] * n,
        [""] * n,
    )


def test_the_strongest_reasons_come_first_and_no_more_than_asked_for() -> None:
    found = reasons(why(("flows", 90, 3), ("ports", 40, 1), ("hosts", 9, 1)), limit=2)
    assert found == {7: Reason("burst", "", ("flows 90, usual 3", "ports 40, usual 1"))}


def test_what_looks_as_usual_is_no_reason() -> None:
    assert reasons(why(("hosts", 2, 2), ("flows", 90, 3)), limit=2)[7].sentences == ("flows 90, usual 3",)
    assert reasons(why(("hosts", 2, 2)), limit=2) == {}


def test_a_reason_without_a_number_is_its_name() -> None:
    assert reasons(why(("host pair", math.nan, math.nan)), limit=2)[7].sentences == ("host pair",)


def test_zero_against_usual_is_a_reason() -> None:
    assert reasons(why(("packets received", 0, 6)), limit=1)[7].sentences == ("packets received 0, usual 6",)
