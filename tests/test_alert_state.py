"""What a book of alerts hands to the next: everything, through arrays, and nothing that is not its own."""

import json

import numpy as np
import pytest

from eddyline.alert_state import BookState
from eddyline.alerts import AlertBook, AlertSettings
from eddyline.errors import ConfigError
from tests.test_alerts import scored, take

MINUTE = 60_000_000
DAY = 86_400_000_000


def again(book: AlertBook, settings: AlertSettings) -> AlertBook:
    """A book that was written down and read back."""
    return AlertBook(settings, BookState.of(book.state.parts()))


def test_a_story_goes_on_with_its_count_peers_and_update() -> None:
    settings = AlertSettings()
    book = AlertBook(settings)
    first = scored([("a", f"peer{i}", 22) for i in range(40)], [1e-5] * 40)
    more = scored([("a", "peer3", 22), ("a", "new", 22)] * 20, [1e-6] * 40, MINUTE)
    take(book, first)
    other = again(book, settings)
    assert take(book, more) == take(other, more)
    _, (alert,) = take(other, scored([("a", "peer0", 22)] * 40, [1e-6] * 40, 2 * MINUTE))
    assert (alert.count, alert.peer_count, alert.update, alert.p) == (120, 41, 2, 1e-6)


def test_a_budget_that_was_spent_stays_spent() -> None:
    settings = AlertSettings(per_hour=2, per_day=3)
    book = AlertBook(settings)
    for host in "ab":
        take(book, scored([(host, "x", 22)] * 40, [1e-6] * 40))
    other = again(book, settings)
    assert take(other, scored([("c", "x", 22)] * 40, [1e-6] * 40, MINUTE))[1] == []
    assert other.held_back == 1
    hour = 3_600_000_000
    assert len(take(other, scored([("c", "x", 22)] * 40, [1e-6] * 40, hour))[1]) == 1
    assert take(again(other, settings), scored([("d", "x", 22)] * 40, [1e-6] * 40, 2 * hour))[1] == []


def test_old_stories_are_forgotten_in_the_same_order() -> None:
    settings = AlertSettings(per_hour=1, per_day=1)
    book = AlertBook(settings)
    for day in range(7):
        window = scored([(f"host{day}", "x", 22)] * 40, [1e-6] * 40, day * DAY)
        other = again(book, settings)
        assert take(book, window) == take(other, window)
        assert list(other.state.open) == list(book.state.open)
        assert list(other.state.spent.items()) == list(book.state.spent.items())
    assert len(book.state.open) == 5


def test_a_new_book_has_nothing_to_read() -> None:
    assert BookState.of({}) == BookState()
    assert BookState.of(BookState().parts()) == BookState()


@pytest.mark.parametrize("change", [
    {"schema_version": 2}, {"open": [{"id": "x"}]}, {"spent": [["hour"]]}, {"peers": None, "open": None}, {"hosts": 7},
])  # fmt: skip
def test_a_state_of_another_make_stops_at_once(change: dict[str, object]) -> None:
    book = AlertBook(AlertSettings())
    take(book, scored([("a", "b", 22)] * 40, [1e-6] * 40))
    document = json.loads(book.state.parts()["alerts"].tobytes()) | change
    with pytest.raises(ConfigError, match=r"alerts: the state .* cannot be read: .*; start without it"):
        BookState.of({"alerts": np.frombuffer(json.dumps(document).encode(), np.uint8)})
    with pytest.raises(ConfigError, match="cannot be read"):
        BookState.of({"alerts": np.frombuffer(b"\xff{", np.uint8)})
