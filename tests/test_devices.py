"""Devices: which one is meant and why; columns that travel in one copy are those of the CPU's own path."""

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eddyline.config import RunSettings
from eddyline.devices import by_copy, chosen, compiles, floats, moved, numbered
from eddyline.errors import ConfigError
from eddyline.flows import flow_table
from eddyline.graphs import _on_device, _unified_codes, build_graph
from eddyline.runtimes.embedded import model_of
from eddyline.windows import Window

WITHOUT = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")


@WITHOUT
def test_auto_is_the_cpu_where_torch_finds_no_gpu_and_says_so() -> None:
    found = chosen("auto")
    assert found.device == "cpu"
    assert torch.__version__ in found.why
    assert chosen("cpu").why == "as configured"


@WITHOUT
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "tpu"])
def test_a_device_that_is_not_there_is_a_wrong_configuration(device: str) -> None:
    with pytest.raises(ConfigError, match=f"no device `{device}` here.*give --device cpu"):
        chosen(device)


@WITHOUT
def test_a_run_says_in_the_log_which_device_it_chose_and_why(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        model = model_of(RunSettings(source="simulate://office", model=[Path("artifacts/gae")], device="auto"))
    assert model.device == "cpu"
    assert any(line.startswith("device: cpu (torch ") for line in caplog.messages)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_auto_is_the_gpu_where_there_is_one() -> None:
    assert chosen("auto").device == "cuda"
    assert "GiB" in chosen("cuda:0").why


@pytest.mark.parametrize(("version", "new"), [("3.0.0", False), ("3.6.0", True), ("3.7.1+git", True), ("3.10.0", True)])
def test_kernels_are_left_alone_by_a_triton_that_cannot_compile_them(version: str, new: bool) -> None:
    assert compiles(version) == new


def test_columns_of_any_type_and_in_pieces_arrive_bit_by_bit() -> None:
    pieces = [np.array([1, 65535], np.uint16), np.array([], np.uint16), np.array([7], np.uint16)]
    columns = [pieces, [np.array([-1, 2**40])], [np.array([True, False])], [], [np.array([2**64 - 1], np.uint64)]]
    ports, counts, flags, nothing, largest = moved(columns, "cpu")
    assert (ports.int() & 0xFFFF).tolist() == [1, 65535, 7]
    assert counts.tolist() == [-1, 2**40]
    assert flags.tolist() == [True, False]
    assert len(nothing) == 0
    assert largest.tolist() == [-1]


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=20))
def test_unsigned_counters_become_the_float_that_numpy_rounds_them_to(values: list[int]) -> None:
    edges = [2**63 + 2**39 + 1, 2**63 + 2**39, 2**63, 2**63 - 1, 2**24 + 1, 2**64 - 1]
    column = np.array([*values, *edges], np.uint64)
    found = floats(moved([[column]], "cpu")[0], column.dtype)
    np.testing.assert_array_equal(found.numpy(), column.astype(np.float32))


def test_entries_are_numbered_by_first_appearance_senders_first() -> None:
    edges, kept = numbered(torch.tensor([[4, 1, 4], [0, 4, 1]], dtype=torch.int32), 6)
    assert kept.tolist() == [4, 1, 0]
    assert edges.tolist() == [[0, 1, 0], [2, 0, 1]]


addresses = st.sampled_from(["10.0.0.1", "10.0.0.2", "::1", "host"])
some_flows = st.lists(
    st.tuples(addresses, addresses, st.none() | st.integers(0, 2**63 - 1), st.none() | st.integers(0, 65535)),
    max_size=9,
)


@settings(deadline=None, max_examples=20)
@given(st.lists(some_flows, min_size=1, max_size=3), st.integers(0, 2))
def test_the_way_to_a_gpu_gives_the_graph_of_the_cpu_edge_for_edge(batches: list, skipped: int) -> None:
    tables = []
    for flows in batches:
        src, dst, size, port = ([flow[place] for flow in flows] for place in range(4))
        tables.append(flow_table({"src_addr": src, "dst_addr": dst, "bytes": size, "src_port": port}, len(flows)))
    flows = pa.concat_tables(tables).slice(skipped)  # chunks, and chunks that begin in the middle of a buffer
    here = build_graph(Window("default", 0, 1, 0, False, flows))
    src, dst, hosts = _unified_codes(flows)
    names, edges, features = _on_device(*by_copy(flows, [[src], [dst]], "cpu"), hosts)
    assert names == here.hosts
    assert torch.equal(edges, here.edge_index)
    torch.testing.assert_close(features, here.edge_features, equal_nan=True, rtol=0, atol=0)
    assert features.T.is_contiguous()
