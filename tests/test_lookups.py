"""Look-ups on a device against the host's own tables and calibrations; on a GPU where one is."""

import numpy as np
import pytest
import torch

from eddyline.calibration import ENOUGH, Calibration, Ranks
from eddyline.habits import Table
from eddyline.habits.keys import SENT, _joined, marked
from eddyline.lookups import DeviceCalibration, DeviceRanks, SortedTable, device_keys, joined_keys

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def some_table(keys: np.ndarray, now: int) -> Table:
    table = Table.empty(1 << 12, 1, 2, 50.0)
    random = np.random.default_rng(0)
    for window in range(now - 2, now + 1):
        some = random.permutation(keys)[: len(keys) // 2]
        mean = random.random((len(some), 2)).astype(np.float32)
        weight, more = np.ones(len(some), np.float32), random.random((len(some), 1)).astype(np.float32)
        table.take(some[None], window, weight, mean, np.zeros_like(mean), more)
    return table


def test_keys_beyond_int64_known_and_unknown_are_found_where_the_table_finds_them() -> None:
    random = np.random.default_rng(1)
    keys = np.concatenate([random.integers(0, 2**64, 500, np.uint64), np.array([0, 2**63, 2**64 - 1], np.uint64)])
    table = some_table(keys, 9)
    asked = np.concatenate([keys, random.integers(0, 2**64, 500, np.uint64)])
    here, there = table.find(asked), SortedTable.of(table, DEVICE)
    found = there.find(device_keys(asked, DEVICE))
    assert (here >= 0).any()
    assert (here < 0).any()
    np.testing.assert_array_equal(found.cpu().numpy(), here)
    for column in (0, 1):
        np.testing.assert_allclose(there.weights(found, 12, column).cpu(), table.weights(here, 12, column), rtol=1e-14)


def test_keys_of_pairs_and_of_what_a_host_has_are_those_of_the_memory() -> None:
    random = np.random.default_rng(2)
    first, second = random.integers(0, 2**64, (2, 200), np.uint64)
    there = device_keys(first, DEVICE), device_keys(second, DEVICE)
    np.testing.assert_array_equal(joined_keys(*there).cpu().numpy().view(np.uint64), _joined(first, second))
    marks = joined_keys(there[0], 7 + (SENT << 40)).cpu().numpy()
    np.testing.assert_array_equal(marks.view(np.uint64), marked(first, SENT, 7))


def test_an_empty_table_knows_nothing() -> None:
    there = SortedTable.of(Table.empty(8, 0, 0, 1.0), DEVICE)
    found = there.find(torch.tensor([[1, 2]], device=DEVICE))
    assert found.tolist() == [[-1, -1]]
    assert there.weights(found, 3).tolist() == [[0.0, 0.0]]


ODD = np.array([-np.inf, -1e30, 0, 1e30, np.inf, np.nan], np.float32)


@pytest.mark.parametrize("flows", [1, 2, 5000])
def test_p_values_are_those_of_the_calibration(flows: int) -> None:
    random = np.random.default_rng(flows)
    raw = random.normal(size=flows).astype(np.float32).round(2)
    calibration = Calibration.of(raw, random.integers(0, 3 * ENOUGH, flows), least=0.1)
    tried = np.concatenate([raw, random.normal(scale=3, size=300).astype(np.float32), ODD])
    found = DeviceCalibration.of(calibration, DEVICE).p(torch.from_numpy(tried).to(DEVICE))
    np.testing.assert_allclose(found.cpu(), calibration.p(tried), rtol=1e-12)


def test_supported_surprises_are_those_of_the_ranks() -> None:
    ranks = Ranks.of(np.array([0.5, 0.5, 1, 2], np.float32))
    tried = np.concatenate([np.linspace(0, 3, 50, dtype=np.float32), ODD])
    found = DeviceRanks.of(ranks, DEVICE).supported(torch.from_numpy(tried).to(DEVICE))
    np.testing.assert_allclose(found.cpu(), ranks.supported(tried), rtol=1e-6)
