"""The evaluation layout: times, hosts of any kind, ICMP, labels."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eddyline.dialects import load_dialect, read_flows

FLOWS = Path(__file__).parents[2] / ".." / "shared" / "data" / "flows"
needs_shared = pytest.mark.skipif(not FLOWS.exists(), reason="needs ../shared/data")


def read(columns: Mapping[str, Any]) -> pa.Table:
    table = pa.table(columns)
    found = read_flows(load_dialect("normalized"), table)
    assert found.good.all(), found.reasons
    assert found.flows.num_rows == table.num_rows
    return found.flows


def first_rows(name: str, rows: int) -> list[dict[str, Any]]:
    with pq.ParquetFile(FLOWS / name) as file:
        batch = next(file.iter_batches(rows))
    rows_read: list[dict[str, Any]] = read_flows(
        load_dialect("normalized"), pa.Table.from_batches([batch])
    ).flows.to_pylist()
    return rows_read


def test_a_flow_ends_its_duration_after_its_start() -> None:
    flows = read({"ts": [100.25, 100.5], "dur": [1.5, None], "src": ["a", "b"], "dst": ["b", "c"]})
    at = [datetime(1970, 1, 1, 0, 1, 40, us, UTC) for us in (250_000, 500_000)]
    assert flows["ts_start"].to_pylist() == at
    assert flows["ts_end"].to_pylist() == [datetime(1970, 1, 1, 0, 1, 41, 750_000, UTC), at[1]]
    assert flows["duration_us"].to_pylist() == [1_500_000, None]


def test_timestamps_without_zone_are_utc() -> None:
    flows = read({"ts": [datetime(1998, 6, 1, 7, 55)], "src": ["a"], "dst": ["b"]})  # noqa: DTZ001
    assert flows["ts_end"].to_pylist() == [datetime(1998, 6, 1, 7, 55, tzinfo=UTC)]


def test_a_file_without_time_has_null_times() -> None:
    flows = read({"src": ["a"], "dst": ["b"]})
    assert [flows[name].null_count for name in ("ts_start", "ts_end", "duration_us", "bytes")] == [1, 1, 1, 1]


def test_addresses_are_canonical_and_share_one_dictionary() -> None:
    flows = read(
        {
            "src": ["2001:DB8:0:0::1", "::ffff:10.0.0.1", " AS786 ", "b8:27:eb:15:88:9c"],
            "dst": ["10.0.0.1", "2001:db8::1", "AS786", "ff:ff:ff:ff:ff:ff"],
        }
    )
    assert flows["src_addr"].to_pylist() == ["2001:db8::1", "10.0.0.1", "AS786", "b8:27:eb:15:88:9c"]
    assert flows["dst_addr"].to_pylist() == ["10.0.0.1", "2001:db8::1", "AS786", "ff:ff:ff:ff:ff:ff"]
    both = [flows[name].chunk(0).dictionary for name in ("src_addr", "dst_addr")]
    assert both[0].equals(both[1])
    assert len(both[0]) == 5  # each host once, however it was written


def test_an_empty_host_is_no_flow() -> None:
    found = read_flows(load_dialect("normalized"), pa.table({"src": ["a", "", None], "dst": ["b", "c", "d"]}))
    assert found.good.tolist() == [True, False, False]
    assert found.reasons == ["column `src` is no address"] * 2
    assert found.flows["dst_addr"].to_pylist() == ["b"]


def test_protocols_come_as_names_numbers_and_westermo_words() -> None:
    protos = ["tcp", "IPV4-TCP", "IPv6-UDP", "IPV4-2", "17", "ARP", "LLDP", None]
    flows = read({"src": ["a"] * 8, "dst": ["b"] * 8, "proto": protos})
    assert flows["proto"].to_pylist() == [6, 6, 17, 2, 17, None, None, None]


def test_icmp_has_type_and_code_instead_of_ports() -> None:
    flows = read(
        {
            "src": ["10.0.0.1", "10.0.0.1", "fe80::1", "10.0.0.1"],
            "dst": ["10.0.0.2", "10.0.0.2", "fe80::2", "10.0.0.2"],
            "sport": [3, 8, 135, 5],
            "dport": [3, 0, 136, 80],
            "proto": ["icmp", "icmp", "icmp", "tcp"],
        }
    )
    assert flows["proto"].to_pylist() == [1, 1, 58, 6]
    assert flows["icmp_type"].to_pylist() == [3, 8, 135, None]
    assert flows["icmp_code"].to_pylist() == [3, 0, 0, None]  # 136 is the type of the answer, not a code
    assert flows["src_port"].to_pylist() == [0, 0, 0, 5]
    assert flows["dst_port"].to_pylist() == [0, 0, 0, 80]


def test_ports_are_null_only_where_the_file_has_none() -> None:
    flows = read({"src": ["a"] * 3, "dst": ["b"] * 3, "proto": ["tcp", "1", "ARP"], "dport": [None, None, None]})
    assert flows["dst_port"].to_pylist() == [None, 0, None]
    assert flows["src_port"].to_pylist() == [None, None, None]


def test_labels_are_words_and_a_benign_flow_has_no_attack() -> None:
    columns = {"label": [0, 1, None, 0], "attack": ["Normal", "BAD-SSH", "outlier", "-"]}
    flows = read({"src": ["a"] * 4, "dst": ["b"] * 4, **columns})
    assert flows["label"].to_pylist() == ["benign", "malicious", None, "benign"]
    assert flows["attack"].to_pylist() == [None, "BAD-SSH", "outlier", None]


def test_a_bool_attack_is_the_label_and_the_label_its_name() -> None:
    flows = read({"src": ["a"] * 2, "dst": ["b"] * 2, "label": ["-", "smurf"], "attack": [False, True]})
    assert flows["label"].to_pylist() == ["benign", "malicious"]
    assert flows["attack"].to_pylist() == [None, "smurf"]


def test_counters_keep_null_for_one_way_records() -> None:
    flows = read({"src": ["a"] * 2, "dst": ["b"] * 2, "spkts": [3, 4], "sbytes": [180, 2**40], "dpkts": [0, None]})
    assert flows["packets"].to_pylist() == [3, 4]
    assert flows["bytes"].to_pylist() == [180, 2**40]
    assert flows["rev_packets"].to_pylist() == [0, None]
    assert flows["rev_bytes"].null_count == 2


@needs_shared
def test_the_first_rows_of_westermo_are_read_as_by_hand() -> None:
    row = first_rows("westermo_ics_first_half.parquet", 1)[0]
    assert row["ts_start"] == datetime(2023, 3, 10, 10, 29, 34, 78_823, UTC)
    assert row["duration_us"] == 5
    assert (row["src_addr"], row["dst_addr"], row["proto"]) == ("b8:27:eb:15:88:9c", "ff:ff:ff:ff:ff:ff", None)
    assert (row["packets"], row["bytes"], row["rev_packets"], row["rev_bytes"]) == (3, 180, 0, 0)
    assert (row["src_port"], row["label"], row["attack"], row["site"]) == (None, "benign", None, "default")


@needs_shared
def test_the_first_rows_of_luflow_and_darpa_are_read_as_by_hand() -> None:
    row = first_rows("luflow_2020-12_16-24.parquet", 1)[0]
    assert row["ts_start"] == datetime(2020, 12, 15, 23, 59, 28, 342_833, UTC)
    assert row["ts_end"] == datetime(2020, 12, 15, 23, 59, 58, 106_478, UTC)
    assert (row["src_addr"], row["src_port"], row["dst_addr"], row["dst_port"]) == ("AS3786", 46909, "AS786", 445)
    assert (row["proto"], row["label"], row["attack"]) == (6, "malicious", "malicious")
    row = first_rows("darpa1998_june_01_19.parquet", 1)[0]
    assert row["ts_end"] == datetime(1998, 6, 1, 7, 55, tzinfo=UTC)
    assert (row["src_addr"], row["dst_addr"]) == ("172.16.112.20", "192.168.1.10")
    assert (row["label"], row["attack"], row["bytes"], row["src_port"]) == ("benign", None, None, None)
