"""Addresses as numbers and hops, by hand."""

from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eddyline.detectors.gae.node_features import address_features, propagate

EYE = torch.eye(4, dtype=torch.float64)


def direction(*octets: float) -> list[float]:
    length = sum(octet**2 for octet in octets) ** 0.5 or 1
    return [octet / length for octet in octets]


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("10.0.0.2", (10, 0, 0, 2)),
        ("255.255.255.255", (255, 255, 255, 255)),
        ("10.0.7", (10, 0, 7, 0)),
        ("10.0.0.2.7", (10, 0, 0, 2)),
        ("999.1.1.1", (999, 1, 1, 1)),
        ("010.0.0.002", (10, 0, 0, 2)),
        ("host-a", (0, 0, 0, 0)),
        ("10.x.3.4", (10, 0, 3, 4)),
        ("10..3. 4", (10, 0, 3, 0)),
        ("-1.2", (0, 2, 0, 0)),
        ("fe80::1", (0, 0, 0, 0)),
        ("0.0.0.0", (0, 0, 0, 0)),  # noqa: S104
        ("", (0, 0, 0, 0)),
    ],
)
def test_published_reading_of_an_address(text: str, octets: tuple[float, ...]) -> None:
    found = address_features(pa.array(["1.2.3.4", text]), EYE)
    np.testing.assert_allclose(found.numpy(), [direction(1, 2, 3, 4), direction(*octets)])


def test_a_projection_comes_before_the_length_is_taken_off() -> None:
    projection = torch.tensor([[1.0, 0, 0], [0, 2, 0], [0, 0, 3], [0, 0, 0]])
    found = address_features(pa.array(["1.2.3.4", "0.0.0.9"]), projection)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), [direction(1, 4, 9), (0, 0, 0)], rtol=1e-6)
    assert address_features(pa.array(["1.2.3.4"]), None).shape == (1, 4)
    assert address_features(pa.array([], pa.utf8()), projection).shape == (0, 3)


def test_the_address_reading_keeps_ipv4_and_tells_everything_else_apart() -> None:
    odd = ["10.0.0.2", "::", "fe80::1", "fe80::2", "fe80:0:0:1::1", "aa:bb:cc:dd:ee:ff", "AS1", "AS2", "", "999.1.1.1"]
    found = address_features(pa.array(odd), EYE, encoding="address")
    np.testing.assert_allclose(found[0].numpy(), direction(10, 0, 0, 2))
    assert len({tuple(row) for row in found.tolist()}) == len(odd)
    assert found.min() >= 0


def test_the_address_reading_gives_one_prefix_the_same_numbers_and_every_process_the_same() -> None:
    ratio = address_features(pa.array(["2001:db8::1", "2001:db8::2"]), EYE, encoding="address")
    shared = ratio[:, :3] / ratio[:, :1]  # three of four 32-bit groups agree
    np.testing.assert_allclose(shared[0], shared[1])
    assert ratio[0, 3] != ratio[1, 3]
    groups = [blake2b(bytes.fromhex(group), digest_size=6).hexdigest() for group in ("20010db8", "0" * 8, "00000001")]
    first, zeros, last = (int(group, 16) for group in groups)
    np.testing.assert_allclose(ratio[0].numpy(), direction(first, zeros, zeros, last), rtol=1e-12)


def test_hops_by_hand() -> None:
    # 0 -> 1 three times, 0 -> 2 once, 1 -> 2: P = [[0, 3/4, 1/4], [0, 0, 1], 0].
    e0 = torch.tensor([[1.0, 0], [0, 1], [0.6, 0.8]], dtype=torch.float64)
    edge_index = torch.tensor([[0, 0, 0, 0, 1], [1, 1, 1, 2, 2]])
    near = np.array([0.25 * 0.6, 0.75 + 0.25 * 0.8])  # u1 of host 0
    # u2 of host 0 is 3/4 (u1 - e1) of host 1, and host 1 reaches the unit row of host 2: a step along that row.
    expected = np.array([1.0, 0.0]) + near / np.hypot(*near) / 2 + np.array([0.6, 0.8]) / 3
    found = propagate(e0, edge_index, 3)
    np.testing.assert_allclose(found[0].numpy(), expected)
    np.testing.assert_allclose(found[1].numpy(), np.array([0, 1]) + np.array([0.6, 0.8]) / 2)
    np.testing.assert_allclose(found[2].numpy(), [0.6, 0.8])


def test_pairs_with_their_flows_give_what_the_flows_give() -> None:
    e0 = torch.rand(5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    flows = torch.tensor([[0, 0, 0, 3, 3, 4, 2], [1, 1, 2, 3, 0, 1, 4]])
    pairs, counts = torch.unique(flows, dim=1, return_counts=True)
    torch.testing.assert_close(propagate(e0, pairs, 5, counts), propagate(e0, flows, 5))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=30))
def test_hops_equal_powers_of_the_matrix_less_what_nearer_hops_explain(flows: list[tuple[int, int]]) -> None:
    e0 = torch.nn.functional.normalize(
        torch.rand(8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    )
    dense = np.zeros((8, 8))
    np.add.at(dense, tuple(np.array(flows).T), 1)
    average = dense / np.maximum(dense.sum(1, keepdims=True), 1)
    hops = [e0.numpy()]
    for distance in range(1, 4):
        hop = np.linalg.matrix_power(average, distance) @ e0.numpy()
        for nearer in range(1, distance):
            hop = hop - np.linalg.matrix_power(average, distance - nearer) @ hops[nearer]
        length = np.linalg.norm(hop, axis=1, keepdims=True)
        hops.append(np.divide(hop, length, out=np.zeros_like(hop), where=length > 1e-9) / (distance + 1))
    found = propagate(e0, torch.tensor(flows).T, 8)
    np.testing.assert_allclose(found.numpy(), sum(hops), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_hop_that_cancels_out_adds_nothing(dtype: torch.dtype) -> None:
    # Host 0 sends 2 of 3 flows to 1, which sends to 2 and no further; host 3 only sends to 0: u2(0) = 2/3 * 1/2 is
    # exactly the length of its hop, 1/3, so the third hop of host 3 is nothing. Rounding noise would have length 1/4.
    edge_index = torch.tensor([[0, 0, 0, 1, 3], [1, 1, 4, 2, 0]])
    unit = torch.nn.functional.normalize
    for seed in range(50):
        e0 = unit(torch.rand(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))
        second = unit(2 / 3 * e0[1] + 1 / 3 * e0[4] - unit(2 / 3 * e0[1] + 1 / 3 * e0[4], dim=0) / 2, dim=0)
        expected = e0[3] + e0[0] / 2 + second / 3
        torch.testing.assert_close(propagate(e0.to(dtype), edge_index, 5)[3].double(), expected, rtol=0, atol=2e-6)
