"""Whole sequences of hostile datagrams, from several exporters, in several batches."""

from __future__ import annotations

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sources.netflow_bytes import (
    VARIABLE,
    data_set,
    ipfix,
    ipfix_options,
    ipfix_template,
    options_set,
    template_set,
    v9,
)
from tests.sources.netflow_hostile import check, seeds, split

ids = st.sampled_from([0, 1, 2, 3, 4, 255, 256, 257, 258, 65_535])
elements = st.sampled_from([1, 2, 4, 7, 8, 12, 21, 22, 23, 27, 28, 34, 48, 85, 139, 150, 152, 153, 154, 155, 156, 157,
                            158, 159, 160, 161, 162, 176, 177, 302, 305, 306, 309, 310, 322, 323, 0x7FFF])  # fmt: skip
lengths = st.sampled_from([0, 1, 2, 3, 4, 8, 9, 16, 255, 1024, 1025, VARIABLE])
v9_fields = st.lists(st.tuples(elements, lengths), max_size=6)
ipfix_fields = st.lists(st.tuples(elements, lengths, st.sampled_from([0, 0, 29305, 9])), max_size=6)
bodies = st.binary(max_size=120) | st.integers(0, 60).map(lambda n: b"\xff" * n) | st.integers(0, 60).map(bytes)
ends9, ends10 = st.just([(8, 4), (12, 4)]), st.just([(8, 4), (12, 4)])
v9_sets = st.one_of(
    st.builds(lambda i, ends, more: template_set(i, ends + more), ids, ends9, v9_fields),
    st.builds(options_set, ids, v9_fields, v9_fields),
    st.builds(data_set, ids, bodies),
    bodies,
)
ipfix_sets = st.one_of(
    st.builds(lambda i, ends, more: ipfix_template(i, ends + more), ids, ends10, ipfix_fields),
    st.builds(ipfix_options, ids, ipfix_fields, ipfix_fields),
    st.builds(data_set, ids, bodies),
    st.builds(lambda i, of: struct.pack(">HHHH", of, 8, i, 0), ids, st.sampled_from([2, 3])),
    bodies,
)
numbers = st.sampled_from([0, 1, 5, 0x7FFFFFFF, 0xFFFFFFFF])
heads = st.fixed_dictionaries({"sequence": numbers, "domain": st.sampled_from([0, 7]), "export_s": numbers})
datagrams = st.one_of(
    st.builds(lambda sets, head: v9(*sets, **head), st.lists(v9_sets, max_size=5), heads),
    st.builds(lambda sets, head: ipfix(*sets, **head), st.lists(ipfix_sets, max_size=5), heads),
    st.binary(max_size=80),
)
origins = st.integers(0, 40).map(lambda n: f"198.51.100.{n}")


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(st.tuples(origins, datagrams), max_size=8), max_size=4))
def test_no_sequence_of_datagrams_raises_makes_flows_up_or_passes_a_limit(
    batches: list[list[tuple[str, bytes]]],
) -> None:
    check(batches)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_mutation_of_a_good_sequence_does_either(data: st.DataObject) -> None:
    raw = bytearray(seeds()[0] * 2)
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    check(split(bytes(raw)))


def test_the_seed_of_the_fuzzer_decodes() -> None:
    check(split(seeds()[0]))
    assert [len(raw) for _, raw in split(seeds()[0])[0]] == [len(raw) for _, raw in split(seeds()[0] * 2)[0][3:]]
