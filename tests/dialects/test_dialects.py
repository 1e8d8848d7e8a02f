"""The table of dialects, our own columns, and single values."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eddyline.dialects import DIALECTS, infer_dialect, load_dialect, read_flows
from eddyline.dialects.columns import RawColumns
from eddyline.dialects.values import canonical_address, parse_protocol, parse_time, parse_whole
from eddyline.errors import ConfigError
from eddyline.flows import BATCH_SCHEMA, FLOW_SCHEMA, flow_table


@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_loads_under_its_name(name: str) -> None:
    assert load_dialect(name).name == name


def test_an_unknown_dialect_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"zeke.*argus, eddyline, goflow2, .*, unsw, zeek"):
        load_dialect("zeke")


def test_a_dialect_is_inferred_only_from_its_required_columns() -> None:
    inferred = infer_dialect(["src", "dst", "x"])
    assert inferred is not None
    assert inferred.name == "normalized"
    assert infer_dialect(["src", "x"]) is None
    assert infer_dialect(["src", "dst", "srcip", "dstip", "proto", "stime"]) is None


def test_our_own_columns_come_back_as_they_were() -> None:
    time = pa.array([1_000_000, 2_000_000, None], pa.timestamp("us", "UTC"))
    flows = flow_table(
        {
            "ts_start": time, "ts_end": time, "duration_us": pa.array([None, 5, None], pa.int64()),
            "bytes": pa.array([1, 2**63, 3], pa.uint64()),
            
            "src_addr": ["a", "b", "a"], "dst_addr": ["b", "a", "a"], "proto": [6, None, 17], "site": ["x", "y", "x"],
            "label": ["benign", None, "malicious"], "probe.min_ttl": [1.0, None, 3.0], "head": [b"\0\xff", None, b""],
        }, 3,
    )  # fmt: skip
    scored = flows.append_column("p", pa.array([0.1, 0.2, 0.3], pa.float32()))
    read = read_flows(load_dialect("eddyline"), scored)
    assert read.good.all()
    assert read.flows.schema.names == [*BATCH_SCHEMA.names, "head", "probe.min_ttl"]
    assert read.flows.to_pylist() == flows.to_pylist()


TYPES = [
    pa.nulls(1), pa.array([True]), pa.array([-1], pa.int8()), pa.array([2**64 - 1], pa.uint64()),
    pa.array([1], pa.float16()), pa.array([float("nan")]), pa.array([Decimal("1.5")]), pa.array([date(2020, 1, 1)]),
    pa.array([2**62], pa.timestamp("s")), pa.array([5], pa.timestamp("us", "Nowhere/There")),
    pa.array([1], pa.time32("s")), pa.array([1], pa.duration("s")), pa.array([(1, 2, 3)], pa.month_day_nano_interval()),
    pa.array(["1"], pa.large_string()), pa.array(["1"], pa.string_view()), pa.array([b"1"], pa.binary_view()),
    pa.array([b"1"]), pa.array([[1]]), pa.array([{"a": 1}]), pa.RunEndEncodedArray.from_arrays([1], [5]),
    pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"1" * 16], pa.binary(16))),
    pa.array(["a"], pa.large_string()).dictionary_encode(), pa.array([1.5]).dictionary_encode(),
    pa.array([Decimal("1.5")]).dictionary_encode(), pa.array([5], pa.timestamp("us")).dictionary_encode(),
    pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), pa.array([None], pa.utf8())),
    pa.DictionaryArray.from_arrays(pa.array([0], pa.uint64()), pa.array(["10.0.0.1"])),
]  # fmt: skip


@pytest.mark.parametrize("column", TYPES, ids=lambda column: str(column.type))
@pytest.mark.parametrize("name", ["eddyline", "goflow2", "nprobe"])
def test_a_column_of_any_type_is_read_or_refused_by_name(name: str, column: pa.Array) -> None:
    dialect = load_dialect(name)
    required = {group[0]: pa.array(["1"]) for group in dialect.required}
    for wanted in sorted(dialect.columns or [*FLOW_SCHEMA.names, "probe.x", "head"]):
        try:
            read = read_flows(dialect, pa.table({**required, wanted: column}))
        except ConfigError as error:
            assert f"column `{wanted}` is {column.type}; give it as" in str(error)  # noqa: PT017
        else:
            assert len(read.reasons) == 1 - read.flows.num_rows


def test_text_may_be_of_any_width_and_times_of_any_zone_and_dictionaries_may_hold_nulls() -> None:
    text = pa.array(["10.0.0.1", "10.0.0.2"])
    times = pa.array([1_000_000, 2_000_000], pa.timestamp("us", "Nowhere/There"))
    for hosts in (
        text.cast(pa.large_string()),
        text.cast(pa.string_view()),
        text.cast(pa.large_string()).dictionary_encode(),
    ):
        raw = {"src_addr": hosts, "dst_addr": hosts, "ts_end": times, "proto": [6, 6], "bytes": [1, 2]}
        read = read_flows(load_dialect("eddyline"), pa.table(raw))
        assert read.flows["src_addr"].to_pylist() == ["10.0.0.1", "10.0.0.2"]
        assert read.flows["ts_end"].cast(pa.int64()).to_pylist() == [1_000_000, 2_000_000]
    nulls = pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array(["10.0.0.1", None]))
    read = read_flows(load_dialect("normalized"), pa.table({"src": text, "dst": nulls}))
    assert (read.good.tolist(), read.reasons) == ([True, False], ["column `dst` is no address"])


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("2001:0DB8::0001", "2001:db8::1"),
        ("::FFFF:192.0.2.1", "192.0.2.1"),
        ("::", "::"),
        ("192.0.2.1 ", "192.0.2.1"),
        ("010.0.0.1", None),  # octal to some, decimal to others: no address
        ("1.2.3", None),
        ("", None),
    ],
)
def test_addresses_in_canonical_text(text: str, canonical: str | None) -> None:
    assert canonical_address(text, True) == canonical


def test_protocol_names_of_every_kind() -> None:
    names = ["TCP", "ipv6-icmp", "ospf", "sctp", "IPV6-ICMP", "unas", "lldp", "255", "6.0", "ax.25", "rohc"]
    assert [parse_protocol(name) for name in names] == [6, 58, 89, 132, 58, None, None, 255, 6, 93, 142]
    with pytest.raises(ValueError, match="256"):
        parse_protocol("256")


def test_times_with_a_zone_are_moved_to_utc() -> None:
    assert parse_time("2011/08/10 09:46:53+02:00", 1) == 1_312_962_413_000_000
    assert parse_time("1312962413", 1_000_000) == 1_312_962_413_000_000
    assert datetime.fromtimestamp(1_312_962_413, UTC).hour == 7


@given(st.lists(st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.integers(0, 2**70).map(hex),
    st.floats(allow_nan=True, allow_infinity=True).map(str),
    st.sampled_from(["", "-", " 7 ", "7.0", "+5", "1e3", "1_000", "0x", "nan", "None", "inf", "٣", ".5", "5.", "1,5"]),
), min_size=1, max_size=6))  # fmt: skip
def test_a_number_is_accepted_whatever_its_neighbours(texts: list[str]) -> None:
    for whole in (True, False):
        raw = RawColumns(pa.table({"x": pa.array(texts, pa.utf8())}))
        together = raw.numbers("x", whole)
        assert together is not None
        for row, text in enumerate(texts):
            alone = RawColumns(pa.table({"x": pa.array([text], pa.utf8())}))
            number = alone.numbers("x", whole)
            assert number is not None
            assert (alone.faults[0] == 0) == (raw.faults[row] == 0)
            assert (number[0][0], number[1][0]) == (together[0][row], together[1][row])


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_whole_numbers_keep_every_digit(number: int) -> None:
    assert parse_whole(str(number)) == number
