"""Records of a topic: what comes out of Arrow and JSON, and that no bytes can hurt the reader."""

import json
import struct
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eddyline.dialects import load_dialect
from eddyline.flows import BATCH_SCHEMA, REJECTED_SCHEMA, flow_table
from eddyline.sources.kafka.claims import claimed_bytes
from eddyline.sources.kafka.records import MOST_BAD_ROWS, MOST_BYTES, MOST_ROWS, Decoder, Record

OWN = Decoder(load_dialect("eddyline"), None, "flows/3")
NPROBE = Decoder(load_dialect("nprobe"), None, "flows/3")
FLOW = {"src_addr": "10.0.0.1", "dst_addr": "10.0.0.2", "ts_end": 1_700_000_000, "proto": 6, "bytes": 60}


def stream(table: pa.Table, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def flows(count: int, **more: Sequence[Any]) -> pa.Table:
    ends = pa.array([1_700_000_000_000_000 + n for n in range(count)]).cast(pa.timestamp("us", tz="UTC"))
    columns = {
        "src_addr": [f"10.0.0.{n % 250}" for n in range(count)], "dst_addr": ["10.0.1.1"] * count, "ts_end": ends,
        "proto": [17] * count, "bytes": list(range(count)), "site": ["hq"] * count,
    }  # fmt: skip
    return flow_table({**columns, **more}, count)


def told(rejected: pa.Table) -> list[tuple[str, str, int, bytes]]:
    return [(one["reason"], one["origin"], one["source_row"], one["raw"]) for one in rejected.to_pylist()]


def test_an_arrow_stream_comes_back_as_it_was() -> None:
    found, rejected = OWN.arrow(Record(7, stream(flows(5))))
    assert found.schema.names == BATCH_SCHEMA.names
    assert found.drop(["source_row"]).to_pylist() == flows(5).drop(["source_row"]).to_pylist()
    assert rejected.num_rows == 0


def test_a_bad_row_of_an_arrow_record_costs_itself() -> None:
    table = pa.table({name: [value] * 3 for name, value in FLOW.items()})
    table = table.set_column(4, "bytes", pa.array([60, -1, 61]))
    found, rejected = OWN.arrow(Record(9, stream(table)))
    assert found["bytes"].to_pylist() == [60, 61]
    ((reason, origin, offset, raw),) = told(rejected)
    assert (origin, offset) == ("flows/3#1", 9)
    assert "bytes" in reason
    assert json.loads(raw)["bytes"] == -1


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "not an Arrow stream of flows"),
        (b"\x00\x01 noise", "not an Arrow stream of flows"),
        (stream(flows(3))[:-400], "not an Arrow stream of flows"),
        (stream(pa.table({"a": [1]})), "lacks src_addr, dst_addr, ts_end, proto, bytes (dialect eddyline)"),
        (stream(pa.table([pa.array([1]), pa.array([2])], names=["a", "A "])), "a column comes twice"),
        (stream(pa.table({**{name: [value] for name, value in FLOW.items()}, "app": [[1]]})), "column `app` is list"),
    ],
)
def test_an_arrow_record_that_cannot_be_read_is_kept_whole(value: bytes, reason: str) -> None:
    found, rejected = OWN.arrow(Record(4, value))
    assert found.num_rows == 0
    ((said, origin, offset, raw),) = told(rejected)
    assert reason in said
    assert (origin, offset, raw) == ("flows/3", 4, value)


def test_a_short_record_cannot_claim_a_billion_rows() -> None:
    table = pa.table({name: pa.nulls(MOST_ROWS + 1) for name in FLOW})
    value = stream(table)
    assert len(value) < 10_000
    found, rejected = OWN.arrow(Record(0, value))
    assert found.num_rows == 0
    assert told(rejected)[0][0].endswith("more than 1,000,000 rows")


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_compressed_streams_are_read_and_claim_what_they_hold(compression: str) -> None:
    plain, packed = stream(flows(5_000)), stream(flows(5_000), compression)
    assert len(packed) < len(plain)
    assert 0.5 * len(plain) < claimed_bytes(packed) < 1.1 * len(plain)
    assert OWN.arrow(Record(7, packed))[0].equals(OWN.arrow(Record(7, plain))[0])


def test_a_compressed_record_cannot_claim_all_memory() -> None:
    table = pa.table({**{name: [value] for name, value in FLOW.items()}, "app": ["x" * (MOST_BYTES + 1)]})
    value = stream(table, "zstd")
    assert len(value) < 200_000
    found, rejected = OWN.arrow(Record(0, value))
    assert found.num_rows == 0
    assert "claims 536,8" in told(rejected)[0][0]


def test_a_buffer_of_less_than_nothing_does_not_hide_what_another_claims() -> None:
    table = pa.table({**{name: [value] for name, value in FLOW.items()}, "app": ["x" * 5_000], "attack": ["y" * 6_000]})
    value = stream(table, "zstd")
    for size, claim in ((5_000, 1 << 40), (6_000, -(1 << 40))):
        before, _, after = value.rpartition(struct.pack("<q", size))  # where the text itself is
        value = before + struct.pack("<q", claim) + after
    found, rejected = OWN.arrow(Record(0, value))
    assert found.num_rows == 0
    assert "a buffer of -1099511627776 bytes" in told(rejected)[0][0]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40), st.integers(0, 10_000), st.booleans(), st.sampled_from([None, "zstd"]))
def test_no_damage_to_an_arrow_record_raises(noise: bytes, place: int, cut: bool, compression: str | None) -> None:
    whole = stream(flows(4), compression)
    at = place % len(whole)
    value = whole[:at] + noise + (b"" if cut else whole[at + len(noise) :])
    found, rejected = OWN.arrow(Record(1, value))
    assert found.schema.names[: len(BATCH_SCHEMA)] == BATCH_SCHEMA.names
    assert rejected.schema == REJECTED_SCHEMA
    found.validate(full=True)


def test_a_bad_row_with_a_time_that_no_calendar_has_keeps_the_record() -> None:
    table = pa.table({name: [value] * 2 for name, value in FLOW.items()})
    table = table.set_column(2, "ts_end", pa.array([1_700_000_000_000_000, 2**62]).cast(pa.timestamp("us")))
    found, rejected = OWN.arrow(Record(9, value := stream(table)))
    assert found.num_rows == 1
    ((reason, origin, offset, raw),) = told(rejected)
    assert reason.startswith("1 more rows, the first: column `ts_end`")
    assert (origin, offset, raw) == ("flows/3", 9, value)


def test_of_many_bad_rows_the_first_are_kept_and_then_the_record() -> None:
    bad = MOST_BAD_ROWS + 5
    table = pa.table({name: [value] * (bad + 2) for name, value in FLOW.items()})
    value = stream(table.set_column(4, "bytes", pa.array([60, *[-1] * bad, 61])))
    found, rejected = OWN.arrow(Record(9, value))
    assert found["bytes"].to_pylist() == [60, 61]
    assert rejected.num_rows == MOST_BAD_ROWS + 1
    assert told(rejected)[-1][0].startswith("5 more rows, the first: column `bytes`")
    assert told(rejected)[-1][1:] == ("flows/3", 9, value)


def test_json_records_hold_one_object_several_lines_or_an_array() -> None:
    one, two, three = (json.dumps({**FLOW, "bytes": size}).encode() for size in (1, 2, 3))
    values = [one, two + b"\r\n\n" + three, b"[" + one + b"," + two + b"]"]
    found, rejected = OWN.json([Record(n, value) for n, value in enumerate(values)])
    assert found["bytes"].to_pylist() == [1, 2, 3, 1, 2]
    assert rejected.num_rows == 0


def test_bad_json_costs_itself_and_says_where_it_was() -> None:
    good, negative = json.dumps(FLOW).encode(), json.dumps({**FLOW, "bytes": -5}).encode()
    values = [b"{torn", good, b"", good + b"\n" + negative, b" [1, 2 \n", negative + b" "]
    found, rejected = OWN.json([Record(10 + n, value) for n, value in enumerate(values)])
    assert found.num_rows == 2
    assert [(origin, offset, raw) for _, origin, offset, raw in told(rejected)] == [
        ("flows/3", 10, b"{torn"),
        ("flows/3", 12, b""),
        ("flows/3#1", 13, negative),
        ("flows/3", 14, b" [1, 2 \n"),
        ("flows/3", 15, negative + b" "),
    ]


def test_json_goes_through_the_dialect_that_was_asked_for() -> None:
    record = {
        "IPV4_SRC_ADDR": "10.0.0.1", "IPV4_DST_ADDR": "10.0.0.2", "L4_SRC_PORT": 5, "L4_DST_PORT": 53, "PROTOCOL": 17,
        "IN_BYTES": 70, "OUT_BYTES": 90, "IN_PKTS": 1, "OUT_PKTS": 2,
    }  # fmt: skip
    found, rejected = NPROBE.json([Record(0, json.dumps(record).encode())])
    assert rejected.num_rows == 0, told(rejected)
    assert found.select(["src_addr", "bytes", "rev_bytes"]).to_pylist() == [
        {"src_addr": "10.0.0.1", "bytes": 70, "rev_bytes": 90}
    ]


def test_marks_and_events_of_another_kind_between_flows_are_neither_flows_nor_rejected() -> None:
    decoder = Decoder(load_dialect("pmacct"), None, "flows/3")
    flow: dict[str, Any] = {"event_type": "purge", "ip_src": "10.0.0.1", "ip_dst": "10.0.0.2", "bytes": 5}
    records: list[dict[str, Any]] = [
        {"event_type": "purge_init"},
        flow,
        {**flow, "bytes": -1},
        {"event_type": "purge_close"},
    ]
    values = [json.dumps(record).encode() for record in records]
    found, rejected = decoder.json([Record(n, value) for n, value in enumerate(values)])
    assert found["bytes"].to_pylist() == [5]
    assert told(rejected) == [("column `bytes` is not from 0 to 18446744073709551615", "flows/3", 2, values[2])]
    marks, rejected = decoder.json([Record(0, values[0])])
    assert (marks.num_rows, rejected.num_rows) == (0, 0)
    columns = {name: [record.get(name) for record in records] for name in flow}
    found, rejected = decoder.arrow(Record(8, stream(pa.table(columns))))
    assert found["bytes"].to_pylist() == [5]
    assert [origin for _, origin, _, _ in told(rejected)] == ["flows/3#2"]


def test_a_json_record_that_lacks_a_column_is_rejected_whatever_its_neighbours_have() -> None:
    whole, short = json.dumps(FLOW).encode(), json.dumps({**FLOW, "proto": None}).encode()
    for values in ([short], [whole, short], [short, whole]):
        records = [Record(n, value) for n, value in enumerate(values)]
        found, rejected = OWN.json(records)
        assert found.num_rows == len(values) - 1
        assert told(rejected) == [("lacks proto (dialect eddyline)", "flows/3", values.index(short), short)]


def test_the_site_may_be_any_column() -> None:
    decoder = Decoder(load_dialect("eddyline"), "where", "flows/3")
    found, rejected = decoder.json(
        [
            Record(0, json.dumps({**FLOW, "where": "lab"}).encode()),
            Record(1, json.dumps({**FLOW, "where": ""}).encode()),
        ]
    )
    assert found["site"].to_pylist() == ["lab", "default"]
    lacking, rejected = decoder.json([Record(2, json.dumps(FLOW).encode())])
    assert lacking.num_rows == 0
    assert told(rejected) == [("lacks where (dialect eddyline)", "flows/3", 2, json.dumps(FLOW).encode())]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
odd_flows = st.fixed_dictionaries({}, optional={name: st.just(value) | json_values for name, value in FLOW.items()})


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=30) | odd_flows.map(lambda flow: json.dumps(flow).encode()), max_size=6))
def test_no_json_raises_and_every_record_is_a_flow_or_rejected(values: list[bytes]) -> None:
    found, rejected = OWN.json([Record(n, value) for n, value in enumerate(values)])
    known = {offset for _, _, offset, _ in told(rejected)}
    assert found.num_rows + len(known) >= len(values)
    assert known <= set(range(len(values)))
