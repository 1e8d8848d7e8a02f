"""Which rows are judged, and which the baselines may learn from."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eddyline.errors import ConfigError
from eddyline.evaluation.scored import CALIBRATE, STREAMED, TEST, TRAIN, parts_of, scored_flows
from tests.evaluation.streams import Flow, scored_table

FLOWS: list[Flow] = [
    (0, "a", "b", None, 0.5),
    (60, "b", "c", None, 0.4),
    (120, "a", "c", None, 0.3),
    (180, "d", "b", "scan", 1e-4),
    (240, "a", "b", None, 0.2),
    (300, "c", "b", "scan", 0.1),
]


def test_part_2_is_judged_and_comes_by_source_row() -> None:
    table = scored_table(FLOWS).take([5, 4, 3, 2, 1, 0])  # any order: source_row says which row it was
    scored = scored_flows(table, np.array([0, 1, 2, 2, 2, 3]), None)
    assert scored.part.tolist() == [0, 1, 2, 2, 2, 3]  # in time order again
    assert scored.truth.attack.tolist() == [False, True, False]
    assert scored.p["p"][scored.judged] == pytest.approx([0.3, 1e-4, 0.2])


def test_an_attack_that_is_only_streamed_makes_nothing_collateral() -> None:
    flows = [FLOWS[0], (1.0, "x", "b", "misconfigured", 0.5), (2.0, "a", "c", None, 0.5)]
    assert scored_flows(scored_table(flows), np.array([2, 3, 2]), None).truth.clean.tolist() == [True, True]
    assert scored_flows(scored_table(flows), np.array([2, 2, 2]), None).truth.clean.tolist() == [False, False, True]


def test_without_parts_flows_are_judged_from_a_time_on_and_earlier_benign_ones_are_split() -> None:
    flows: list[Flow] = [(float(second), "a", "b", "scan" if second == 4 else None, 0.5) for second in range(13)]
    scored = scored_flows(scored_table(flows), None, 11_000_000)
    assert scored.part.tolist() == [TRAIN] * 4 + [STREAMED] + [TRAIN] * 2 + [CALIBRATE] * 4 + [TEST] * 2


def test_without_parts_and_time_all_is_judged() -> None:
    assert len(scored_flows(scored_table(FLOWS), None, None).truth) == 6


def test_flows_without_a_first_packet_stand_at_their_last() -> None:
    table = scored_table(FLOWS)
    place = table.schema.get_field_index("ts_start")
    table = table.set_column(place, "ts_start", pa.nulls(6, table.schema.field(place).type))
    assert scored_flows(table, None, None).time_us[1] == 60_000_000


def test_detectors_are_rows_of_their_own_only_where_there_are_several() -> None:
    one = scored_table(FLOWS, p_gae=[0.1] * 6)
    assert list(scored_flows(one, None, None).p) == ["p"]
    two = scored_table(FLOWS, p_gae=[0.1] * 6, p_habits=[0.2] * 6)
    assert list(scored_flows(two, None, None).p) == ["p", "p_gae", "p_habits"]


def test_attacks_without_a_name_are_a_class() -> None:
    table = scored_table(FLOWS)
    place = table.schema.get_field_index("attack")
    table = table.set_column(place, "attack", pa.nulls(6, table.schema.field(place).type))
    assert scored_flows(table, None, None).truth.kinds == ("attack",)


@pytest.mark.parametrize(
    ("column", "said"), [("label", "no labels"), ("ts_end", "6 flows have no time")], ids=["labels", "times"]
)
def test_what_cannot_be_judged_is_said(column: str, said: str) -> None:
    table = scored_table(FLOWS)
    for name in (column, "ts_start") if column == "ts_end" else (column,):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, pa.nulls(6, table.schema.field(place).type))
    with pytest.raises(ConfigError, match=said):
        scored_flows(table, None, None)


def test_a_time_after_the_last_flow_leaves_nothing_to_judge() -> None:
    with pytest.raises(ConfigError, match="earlier --from"):
        scored_flows(scored_table(FLOWS), None, 10**15)


def test_parts_are_read_from_the_file_that_has_them(tmp_path: Path) -> None:
    pq.write_table(pa.table({"src": ["a"]}), tmp_path / "without.parquet")
    pq.write_table(pa.table({"src": ["a", "b"], "part": pa.array([0, 2], pa.int8())}), tmp_path / "with.parquet")
    assert parts_of(tmp_path / "without.parquet") is None
    found = parts_of(tmp_path / "with.parquet")
    assert found is not None
    assert found.tolist() == [0, 2]
