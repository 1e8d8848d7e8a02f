"""nProbe names and the NF data sets."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from eddyline.dialects import load_dialect, read_flows
from eddyline.errors import ConfigError

V1 = {"ipv4_src_addr": ["10.0.0.1", "10.0.0.2", "10.0.0.3"], "ipv4_dst_addr": ["10.0.0.9"] * 3}
COUNTERS = {"protocol": ["6", "17", "1"], "in_bytes": ["280", "84", "56"], "in_pkts": ["2", "3", "1"]}


def read(**columns: Any) -> pa.Table:
    found = read_flows(load_dialect("nprobe"), pa.table({**V1, **COUNTERS, **columns}))
    assert found.good.all(), found.reasons
    return found.flows


def test_without_out_columns_the_records_are_one_way() -> None:
    assert read()["rev_bytes"].null_count == 3
    assert read(out_bytes=["40", "0", "0"])["rev_bytes"].to_pylist() == [40, 0, 0]


def test_a_column_that_is_called_as_ours_changes_nothing() -> None:
    six = {"ipv6_src_addr": ["2001:db8::1"] * 3, "ipv6_dst_addr": ["::"] * 3}
    assert read(**six, src_addr=["x"] * 3)["src_addr"].to_pylist() == read(**six)["src_addr"].to_pylist()


def test_v2_has_durations_but_no_times() -> None:
    flows = read(flow_duration_milliseconds=["4293498", "0", "15"])
    assert flows["ts_end"].null_count == 3
    assert flows["duration_us"].to_pylist() == [4_293_498_000, 0, 15_000]


def test_v3_has_times_in_milliseconds() -> None:
    flows = read(flow_start_milliseconds=["1000", "2000", "3000"], flow_end_milliseconds=["1500", "2000", "3001"])
    assert flows["ts_end"].to_pylist() == [
        datetime(1970, 1, 1, 0, 0, 1, 500_000, UTC),
        datetime(1970, 1, 1, 0, 0, 2, 0, UTC),
        datetime(1970, 1, 1, 0, 0, 3, 1000, UTC),
    ]
    assert flows["duration_us"].to_pylist() == [500_000, 0, 1_000]


def test_switched_times_are_seconds_and_a_wrong_unit_is_refused() -> None:
    flows = read(first_switched=[1_600_000_000, 1_600_000_001, 1_600_000_002], last_switched=[1_600_000_005] * 3)
    assert flows["ts_end"].to_pylist() == [datetime(2020, 9, 13, 12, 26, 45, tzinfo=UTC)] * 3
    columns = {**V1, **COUNTERS, "last_switched": [1_600_000_005, 1_600_000_005_000, 1_600_000_005]}
    found = read_flows(load_dialect("nprobe"), pa.table(columns))
    assert found.good.tolist() == [True, False, True]
    assert found.reasons == ["column `last_switched` is out of range"]


def test_an_answer_that_ends_before_it_starts_is_refused() -> None:
    columns = {**V1, **COUNTERS, "first_switched": [10, 10, 10], "last_switched": [10, 9, 11]}
    found = read_flows(load_dialect("nprobe"), pa.table(columns))
    assert found.reasons == ["ends before it starts"]
    assert found.good.tolist() == [True, False, True]


def test_icmp_type_is_split_and_ignored_outside_icmp() -> None:
    flows = read(icmp_type=["5000", "35840", "771"], l4_src_port=["1", "2", "0"], l4_dst_port=["80", "53", "771"])
    assert flows["icmp_type"].to_pylist() == [None, None, 3]
    assert flows["icmp_code"].to_pylist() == [None, None, 3]
    assert flows["dst_port"].to_pylist() == [80, 53, 0]


def test_flags_are_per_direction_where_the_file_splits_them() -> None:
    flows = read(tcp_flags=["22", "0", "0"], client_tcp_flags=["2", "0", "0"], server_tcp_flags=["20", "0", "0"])
    assert (flows["tcp_flags"][0].as_py(), flows["rev_tcp_flags"][0].as_py()) == (2, 20)
    flows = read(tcp_flags=["22", "0", "0"])
    assert (flows["tcp_flags"][0].as_py(), flows["rev_tcp_flags"][0].as_py()) == (22, None)


def test_fractional_applications_stay_text() -> None:
    assert read(l7_proto=["7.0", "5.126", "188"])["app"].to_pylist() == ["7", "5.126", "188"]
    assert read(l7_proto=[7.0, 5.126, 188.0])["app"].to_pylist() == ["7", "5.126", "188"]


def test_extra_columns_become_probe_columns_and_infinity_costs_no_flow() -> None:
    flows = read(
        min_ttl=["64", "", "32"], src_to_dst_second_bytes=["1e300", "2856.0", "inf"], unheard_of=["1", "2", "3"]
    )
    assert flows["probe.min_ttl"].to_pylist() == [64, None, 32]
    assert flows["probe.src_to_dst_second_bytes"].to_pylist() == [None, 2856, None]
    assert "probe.unheard_of" not in flows.column_names


def test_ipv6_stands_in_where_ipv4_is_empty() -> None:
    flows = read(
        ipv4_src_addr=["0.0.0.0", "10.0.0.2", ""],  # noqa: S104  # nProbe's "no address"
        ipv6_src_addr=["2001:DB8::1", "::", "fe80::1"],
        ipv6_dst_addr=["::", "", None],
    )
    assert flows["src_addr"].to_pylist() == ["2001:db8::1", "10.0.0.2", "fe80::1"]
    assert flows["dst_addr"].to_pylist() == ["10.0.0.9"] * 3


def test_labels_of_the_nf_sets() -> None:
    flows = read(label=["0", "1", "1"], attack=["Benign", "DoS", "Theft"])
    assert flows["label"].to_pylist() == ["benign", "malicious", "malicious"]
    assert flows["attack"].to_pylist() == [None, "DoS", "Theft"]


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("ipv4_src_addr", "10.0.0.256", "column `ipv4_src_addr` is no address"),
        ("protocol", "300", "column `protocol` is no protocol"),
        ("protocol", "quux", "column `protocol` is no protocol"),
        ("in_bytes", "-1", "column `in_bytes` is not from 0 to 18446744073709551615"),
        ("in_bytes", "12.5", "column `in_bytes` is no whole number"),
        ("in_bytes", "many", "column `in_bytes` is no whole number"),
        ("in_pkts", "99999999999999999999", "column `in_pkts` is no whole number"),
        ("l4_dst_port", "65536", "column `l4_dst_port` is not from 0 to 65535"),
        ("label", "maybe", "column `label` is no known word"),
        ("min_ttl", "x", "column `min_ttl` is no number"),
    ],
)
def test_what_cannot_be_read_is_refused_alone(column: str, value: str, reason: str) -> None:
    columns = {**V1, **COUNTERS, "l4_dst_port": ["80", "53", "0"], "label": ["0"] * 3, "min_ttl": ["1"] * 3}
    columns[column] = [columns[column][0], value, columns[column][2]]
    found = read_flows(load_dialect("nprobe"), pa.table(columns))
    assert found.good.tolist() == [True, False, True]
    assert found.reasons == [reason]


def test_a_column_of_lists_is_a_wrong_file_not_a_bad_record() -> None:
    with pytest.raises(ConfigError, match="in_bytes"):
        read_flows(load_dialect("nprobe"), pa.table({**V1, **COUNTERS, "in_bytes": [[1], [2], [3]]}))
