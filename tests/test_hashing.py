"""Keys and grouping by hash, against plain Python."""

import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eddyline.hashing import group, joined, mix, text_keys

WIDE = 2**64


def plain_mix(key: int) -> int:
    """Appleby's 64-bit finaliser in whole numbers."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        key ^= key >> 33
        key = key * factor % WIDE
    return key ^ key >> 33


def plain_key(text: str) -> int:
    """FNV-1a (RFC 9923) of the UTF-8 bytes, then spread."""
    key = 0xCBF29CE484222325
    for letter in text.encode():
        key = (key ^ letter) * 0x100000001B3 % WIDE
    return plain_mix(key)


def plain_group(keys: list[int]) -> tuple[list[int], list[int]]:
    number: dict[int, int] = {}
    of = [number.setdefault(key, len(number)) for key in keys]
    return of, [keys.index(key) for key in number]


def as_keys(*keys: int) -> np.ndarray:
    return np.array(keys, np.uint64)


@given(st.lists(st.one_of(st.integers(0, WIDE - 1), st.integers(0, 5), st.integers(0, 5).map(lambda k: k << 60))))
@settings(max_examples=100, deadline=None)
def test_groups_are_numbered_by_first_appearance(keys: list[int]) -> None:
    of, first = group(as_keys(*keys))
    assert (of.tolist(), first.tolist()) == plain_group(keys)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 700, 5_000, 10**9]))
@settings(max_examples=20, deadline=None)
def test_many_keys_outgrow_the_first_slots_and_still_group_like_numpy(seed: int, distinct: int) -> None:
    keys = np.random.default_rng(seed).integers(0, distinct, 20_000).astype(np.uint64)
    of, first = group(keys)
    values, opens, inverse = np.unique(keys, return_index=True, return_inverse=True)
    np.testing.assert_array_equal(first, np.sort(opens))
    np.testing.assert_array_equal(keys[first][of], keys)
    np.testing.assert_array_equal(of, np.argsort(np.argsort(opens))[inverse])
    assert len(first) == len(values)


def test_keys_chosen_to_meet_in_one_slot_cost_no_more_than_others() -> None:
    def unmixed(key: int) -> int:
        key ^= key >> 33
        for factor in (0xC4CEB9FE1A85EC53, 0xFF51AFD7ED558CCD):
            key = key * pow(factor, -1, WIDE) % WIDE
            key ^= key >> 33
        return key

    keys = as_keys(*(unmixed(number << 32) for number in range(60_000)))
    assert plain_mix(int(keys[7])) == 7 << 32
    group(keys[:2])  # compiled before the clock runs
    began = time.process_time()
    of, first = group(keys)
    assert time.process_time() - began < 0.2  # seconds where all of them meet
    assert of.tolist() == first.tolist() == list(range(60_000))


def test_mixing_is_one_to_one_and_the_published_function() -> None:
    keys = [0, 1, 2, WIDE - 1, 0xDEADBEEF]
    assert [int(mix(np.uint64(key))) for key in keys] == [plain_mix(key) for key in keys]
    many = {int(mix(np.uint64(key))) for key in range(10_000)}
    assert len(many) == 10_000


def test_the_key_of_a_pair_knows_its_direction() -> None:
    numbers = [int(mix(np.uint64(key))) for key in range(60)]
    keys = {(a, b): int(joined(np.uint64(a), np.uint64(b))) for a in numbers for b in numbers}
    assert len(set(keys.values())) == 3_600


@given(st.lists(st.text(max_size=20), max_size=12))
@settings(max_examples=60, deadline=None)
def test_a_text_has_the_same_key_whatever_it_comes_with(texts: list[str]) -> None:
    want = [plain_key(text) for text in texts]
    whole = pa.array(["before", *texts], pa.utf8())
    assert text_keys(pa.array(texts, pa.utf8())).tolist() == want
    assert text_keys(whole[1:]).tolist() == want
    assert text_keys(whole.cast(pa.large_utf8())[1:]).tolist() == want
    assert [int(text_keys(pa.array([text], pa.utf8()))[0]) for text in texts] == want


@pytest.mark.parametrize(
    ("text", "fnv"), [("", 0xCBF29CE484222325), ("a", 0xAF63DC4C8601EC8C), ("foobar", 0x85944171F73967E8)]
)
def test_text_keys_start_from_the_published_hash(text: str, fnv: int) -> None:
    assert int(text_keys(pa.array([text], pa.utf8()))[0]) == plain_mix(fnv)


def test_sixty_thousand_addresses_have_sixty_thousand_keys() -> None:
    texts = [f"10.{i % 7}.{i // 256}.{i % 256}" for i in range(60_000)]
    assert len(set(text_keys(pa.array(texts)).tolist())) == len(set(texts))
