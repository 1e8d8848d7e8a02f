"""What the judged flows were, on nine flows small enough to sort by hand."""

import numpy as np
import pytest

from eddyline.errors import ConfigError
from eddyline.evaluation.truth import Truth, flagged_cells, truth_of

A, B, C, D, E = range(5)
# second, source, destination, class (0 theft, 1 scan, -1 benign); minutes 0, 1 and 2
FLOWS = (
    (0, A, B, -1),
    (10, A, B, -1),
    (20, C, B, -1),
    (60, A, B, -1),  # B is attacked in this minute: collateral
    (70, D, B, 1),
    (75, D, B, 1),
    (80, C, E, -1),
    (130, D, E, 0),
    (135, C, A, -1),
)


def nine() -> Truth:
    second, src, dst, kind = (np.array(column, np.int64) for column in zip(*FLOWS, strict=True))
    return truth_of(second * 1_000_000, src, dst, kind, ["theft", "scan"])


def test_benign_flows_of_an_attacked_host_in_that_minute_are_collateral_and_no_others() -> None:
    truth = nine()
    assert np.flatnonzero(truth.collateral).tolist() == [3]
    assert np.flatnonzero(truth.clean).tolist() == [0, 1, 2, 6, 8]


def test_a_pair_minute_is_one_cell_however_many_flows_it_has() -> None:
    cell = nine().cell
    assert cell[0] == cell[1]
    assert cell[4] == cell[5]
    assert len({cell[0], cell[2], cell[3], cell[4], cell[6], cell[7], cell[8]}) == 7


def test_a_pair_minute_is_flagged_by_any_of_its_flows_of_that_kind() -> None:
    truth = nine()
    flagged = np.zeros(9, bool)
    flagged[[1, 5]] = True
    first, hit = flagged_cells(truth, truth.clean, flagged)
    assert dict(zip(first.tolist(), hit.tolist(), strict=True)) == {0: True, 2: False, 6: False, 8: False}
    first, hit = flagged_cells(truth, truth.attack, flagged)
    assert dict(zip(first.tolist(), hit.tolist(), strict=True)) == {4: True, 7: False}


def test_classes_are_named_in_order_and_those_without_flows_are_left_out() -> None:
    src = dst = np.zeros(3, np.int64)
    truth = truth_of(np.arange(3), src, dst, np.array([2, -1, 0]), ["worm", "unseen", "flood"])
    assert truth.kinds == ("flood", "worm")
    assert truth.kind.tolist() == [0, -1, 1]


def test_hosts_are_those_that_send_benign_flows_so_spoofed_sources_dilute_nothing() -> None:
    assert nine().sources == 2  # A and C; D only attacks


def test_a_short_trace_is_resampled_by_minutes_and_lasts_at_least_the_hour_of_a_group() -> None:
    truth = nine()
    assert truth.block.tolist() == [0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert truth.days == 1 / 24


def test_a_long_trace_is_resampled_by_hours() -> None:
    hours = np.array([0, 1, 1, 9], np.int64) * 3_600_000_000
    truth = truth_of(hours, np.zeros(4, np.int64), np.ones(4, np.int64), np.full(4, -1), [])
    assert truth.block.tolist() == [0, 1, 1, 2]
    assert truth.days == 9 / 24


def test_without_a_benign_flow_there_is_no_promise_to_judge() -> None:
    one = np.zeros(1, np.int64)
    with pytest.raises(ConfigError, match="no benign flow"):
        truth_of(one, one, one, one, ["scan"])
