"""What a partition remembers comes back to the last bit, or is refused with a remedy."""

import json
import zlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eddyline.alert_state import Alert, BookState
from eddyline.errors import SourceError
from eddyline.runtimes.snapshots import HEAD, MOST_BYTES, Remembered, from_pieces, to_pieces
from eddyline.windows import Commit, SiteState

u63 = st.integers(-(2**63), 2**63 - 1)
states = st.builds(
    SiteState, u63, u63, st.none() | u63, st.integers(0, 2**40),
    st.dictionaries(st.none() | u63, st.tuples(st.integers(0, 99), st.integers(0, 2**40)), max_size=3),
    st.integers(0, 99),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**62), st.integers(0, 2**40), st.dictionaries(st.text(max_size=9), states, max_size=4))
def test_positions_and_sites_come_back(position: int, seen: int, sites: dict[str, SiteState]) -> None:
    commit = Commit(position, seen, sites)
    assert from_pieces(to_pieces(commit, "model", seen), "model") == Remembered(commit, seen)


def memory(size: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(size)
    return {
        "keys": rng.integers(0, 2**64, size, np.uint64), "empty": np.empty((0, 4), np.float32),
        "sums": rng.random((size, 3)), "flags": rng.random(size) < 0.5, "odd": np.array([np.nan, -0.0, np.inf]),
        "turned": rng.random((3, size)).T, "every other": rng.random(2 * size)[::2],
    }  # fmt: skip


def test_memories_of_any_size_come_back_bit_for_bit() -> None:
    commit = Commit(5, memories={"a/b": memory(30_000), "": memory(1)})
    pieces = to_pieces(commit, "model")
    assert max(map(len, pieces.values())) <= MOST_BYTES < sum(map(len, pieces.values()))
    back = from_pieces(pieces, "model").commit
    for site, parts in commit.memories.items():
        assert back.memories[site].keys() == parts.keys()
        for name, values in parts.items():
            assert (back.memories[site][name].dtype, back.memories[site][name].shape) == (values.dtype, values.shape)
            assert back.memories[site][name].tobytes() == values.tobytes()


def test_only_what_changed_has_new_pieces() -> None:
    one, two = memory(1_000), memory(1_000)
    two["sums"] = two["sums"] + 1
    before = to_pieces(Commit(1, memories={"same": one, "other": one}), "model")
    after = to_pieces(Commit(2, memories={"same": one, "other": two}), "model")
    assert {name for name in before if before[name] != after[name]} == {HEAD, "memory/other/0"}


def test_memories_of_another_model_stay_behind_and_windows_do_not() -> None:
    state = SiteState(60, 70, None, 3, {60: (1, 2)}, 0)
    pieces = to_pieces(Commit(9, 4, {"hq": state}, {"hq": memory(3)}), "old")
    assert from_pieces(pieces, "new") == Remembered(Commit(9, 4, {"hq": state}), same_model=False)


@pytest.mark.parametrize("fault", ["version", "cut", "missing", "noise"])
def test_what_cannot_be_read_is_refused(fault: str) -> None:
    pieces = to_pieces(Commit(9, memories={"hq": memory(9)}), "model")
    if fault == "version":
        head = json.loads(zlib.decompress(pieces[HEAD]))
        pieces[HEAD] = zlib.compress(json.dumps({**head, "version": 2}).encode())
    elif fault == "cut":
        pieces["memory/hq/0"] = pieces["memory/hq/0"][:-8]
    elif fault == "missing":
        del pieces["memory/hq/0"]
    else:
        pieces[HEAD] = b"noise"
    with pytest.raises(SourceError, match="give another group= to begin anew"):
        from_pieces(pieces, "model")


def test_the_book_of_alerts_comes_back_under_any_model() -> None:
    why = ("flows 9, usual 1",)
    alert = Alert("a1", "hq", "::1", "source", "22/tcp", "burst", why, 1e-9, 5, 7, 9, ("x",), 1, 99, 2, ())
    state = BookState({"a1": alert}, {"a1": {"x"}}, {"::1"}, Counter({("hour", 3): 1}))
    pieces = to_pieces(Commit(9, memories={"hq": memory(3)}, book=state.parts()), "old")
    for model in ("old", "new"):
        assert BookState.of(from_pieces(pieces, model).commit.book) == state
