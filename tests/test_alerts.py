"""Alerts: what is one story, what it costs, and what it says."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from eddyline.alerts import Alert, AlertBook, AlertSettings
from eddyline.combine import ScoredFlows
from eddyline.explanations import Explanation, quantity
from eddyline.windows import Window
from tests.test_graphs import window

HOUR = 3_600_000_000


def scored(flows: list[tuple[str, str, int]], p: list[float], start_us: int | None = 0, **columns: list) -> ScoredFlows:
    """Flows as (src, dst, dst_port), all TCP."""
    made = window(
        *[(s, d, 100) for s, d, _ in flows], dst_port=[port for *_, port in flows], src_port=[40_000] * len(flows),
        proto=[6] * len(flows), **columns,
    )  # fmt: skip
    placed = Window("default", start_us, None if start_us is None else start_us + 60_000_000, 0, False, made.flows)
    return ScoredFlows(placed, {}, {}, np.array(p), "model")


def because(reason: str = "bytes", about: str = "") -> object:
    def explain(rows: np.ndarray) -> Explanation:
        n = len(rows)
        return Explanation(
            rows.tolist(), [reason] * n, ["B"] * n, [4.2e6] * n, [3e3] * n, [0.5] * n, [reason] * n, [about] * n
        )

    return explain


def take(book: AlertBook, what: ScoredFlows, reason: str = "bytes") -> tuple[list[str | None], list[Alert]]:
    out, alerts = book.take(what, because(reason))
    return (out.alert_id.to_pylist() if out.alert_id else [None] * len(out)), alerts


def test_flows_of_one_host_on_one_service_are_one_story() -> None:
    flows = [("a", "b", 22), ("x", "y", 80), ("a", "c", 22), ("a", "b", 22)]
    ids, (alert,) = take(AlertBook(AlertSettings()), scored(flows, [1e-5, 0.5, 1e-6, 1e-5]))
    assert ids == [alert.id, None, alert.id, alert.id]
    assert (alert.host, alert.role, alert.service, alert.count, alert.peer_count) == ("a", "source", "22/tcp", 3, 2)
    assert alert.p == 1e-6
    assert alert.total_bytes == 300
    assert alert.reasons == ("bytes 4.2 MB, usual 3.0 kB",)


def test_many_sources_on_one_target_are_a_story_about_the_target() -> None:
    flows = [(f"bot{i}", "victim", 80) for i in range(5)]
    ids, (alert,) = take(AlertBook(AlertSettings()), scored(flows, [1e-5] * 5))
    assert (alert.host, alert.role, alert.peer_count) == ("victim", "destination", 5)
    assert ids == [alert.id] * 5


def test_a_host_that_tries_many_services_is_one_story() -> None:
    flows = [("a", "b", port) for port in range(20, 30)]
    _, (alert,) = take(AlertBook(AlertSettings(services=4)), scored(flows, [1e-5] * 10))
    assert (alert.host, alert.service, alert.count) == ("a", "many", 10)


def test_what_is_strange_about_a_destination_is_a_story_about_the_destination() -> None:
    flows = [("a", "victim", 22), ("b", "victim", 22), ("b", "victim", 23), ("c", "other", 24)]
    book = AlertBook(AlertSettings())
    out, alerts = book.take(scored(flows, [1e-5] * 4), because("unanswered", "destination"))
    told = {(a.host, a.role, a.service, a.count) for a in alerts}
    assert told == {("victim", "destination", "22/tcp", 3), ("other", "destination", "24/tcp", 1)}
    many = [(f"h{i}", "victim", 100 + i // 2) for i in range(12)]
    _, (alert,) = AlertBook(AlertSettings(services=4)).take(
        scored(many, [1e-5] * 12), because("unanswered", "destination")
    )
    assert (alert.host, alert.service, alert.count) == ("victim", "many", 12)
    assert out.alert_id.null_count == 0


def test_a_reply_seen_alone_belongs_to_the_service_that_speaks_first() -> None:
    what = scored([("server", "client", 50_000)], [1e-5])
    table = what.window.flows.set_column(5, what.window.flows.schema.field("src_port"), pa.array([443], pa.uint16()))
    _, (alert,) = take(AlertBook(AlertSettings()), replace(what, window=replace(what.window, flows=table)))
    assert alert.service == "443/tcp"


def test_a_story_is_updated_in_place_and_keeps_its_id() -> None:
    book = AlertBook(AlertSettings())
    _, (first,) = take(book, scored([("a", "b", 22)], [1e-5]))
    _, (second,) = take(book, scored([("a", "c", 22)], [1e-7], start_us=60_000_000))
    assert (first.id, first.update) == (second.id, 0)
    assert (second.update, second.count, second.peers, second.peer_count, second.p) == (1, 2, ("b", "c"), 2, 1e-7)


def test_the_id_is_the_same_after_a_restart() -> None:
    what = scored([("a", "b", 22)], [1e-5])
    assert take(AlertBook(AlertSettings()), what)[0] == take(AlertBook(AlertSettings()), what)[0]


def test_another_reason_another_service_or_another_day_is_another_story() -> None:
    book = AlertBook(AlertSettings())
    ids = {
        take(book, scored([("a", "b", 22)], [1e-5]), "bytes")[0][0],
        take(book, scored([("a", "b", 22)], [1e-5]), "duration")[0][0],
        take(book, scored([("a", "b", 23)], [1e-5]), "bytes")[0][0],
        take(book, scored([("a", "b", 22)], [1e-5], start_us=24 * HOUR), "bytes")[0][0],
    }
    assert len(ids) == 4
    assert None not in ids


def test_the_strangest_stories_win_when_the_hour_allows_only_two() -> None:
    book = AlertBook(AlertSettings(per_hour=2, per_day=3))
    flows = [("a", "x", 1), ("b", "x", 2), ("c", "y", 3)]
    ids, alerts = take(book, scored(flows, [3e-5, 1e-6, 1e-5]))
    assert [alert.host for alert in alerts] == ["b", "c"]
    assert ids[0] is None
    assert book.held_back == 1
    assert [a.host for a in take(book, scored([("d", "x", 1)], [1e-9], start_us=HOUR))[1]] == ["d"]
    assert take(book, scored([("e", "x", 1)], [1e-9], start_us=2 * HOUR))[1] == []  # the day is spent
    assert [a.host for a in take(book, scored([("e", "x", 1)], [1e-9], start_us=24 * HOUR))[1]] == ["e"]


def test_updates_of_a_story_cost_nothing() -> None:
    book = AlertBook(AlertSettings(per_hour=1, per_day=1))
    take(book, scored([("a", "b", 22)], [1e-5]))
    for minute in range(1, 4):
        assert len(take(book, scored([("a", "b", 22)], [1e-5], start_us=minute * 60_000_000))[1]) == 1


def test_nothing_strange_is_no_alert_and_no_explanation_is_asked() -> None:
    def never(rows: np.ndarray) -> Explanation:
        raise AssertionError("asked to explain")

    out, alerts = AlertBook(AlertSettings()).take(scored([("a", "b", 22)], [0.5]), never)
    assert alerts == []
    assert out.alert_id is None


def test_flows_without_time_or_ports_still_make_a_story() -> None:
    what = scored([("a", "b", 1)], [1e-5], start_us=None)
    bare = replace(what, window=replace(window(("a", "b", 5)), start_us=None, end_us=None))
    _, (alert,) = take(AlertBook(AlertSettings()), bare)
    assert (alert.service, alert.first_seen_us) == ("any", None)


def test_memory_is_flat_over_many_days() -> None:
    book = AlertBook(AlertSettings(per_hour=5, per_day=5))
    for day in range(200):
        take(book, scored([(f"h{day}-{i}", "x", i) for i in range(5)], [1e-5] * 5, start_us=day * 24 * HOUR))
    assert len(book._open) <= 25
    assert len(book._spent) <= 200


def test_truth_is_reported_and_never_decides() -> None:
    flows = [("a", "b", 22), ("c", "d", 22)]
    with_labels = scored(flows, [1e-5, 1e-5], attack=["ssh", None])
    without = scored(flows, [1e-5, 1e-5])
    assert take(AlertBook(AlertSettings()), with_labels)[0] == take(AlertBook(AlertSettings()), without)[0]
    assert [a.truth for a in take(AlertBook(AlertSettings()), with_labels)[1]] == [("ssh",), ()]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (999, "B", "999 B"),
        (1500, "B", "1.5 kB"),
        (4.2e9, "B", "4.2 GB"),
        (2.5e6, "us", "2.5 s"),
        (1500, "us", "1.5 ms"),
        (12, "packets", "12 packets"),
        (7, "", "7"),
    ],
)
def test_quantities_are_written_for_people(value: float, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


def test_without_times_the_day_s_budget_is_for_all_flows_and_that_of_an_hour_says_nothing() -> None:
    book = AlertBook(AlertSettings(per_hour=2, per_day=5))
    told = [take(book, scored([(f"h{n}", "x", 22)], [1e-5], None))[1] for n in range(8)]
    assert [len(alerts) for alerts in told] == [1] * 5 + [0] * 3


def test_a_lone_flow_must_be_stranger_than_one_of_many() -> None:
    book = AlertBook(AlertSettings(p=1e-3, lone=30))
    assert take(book, scored([("a", "b", 22)], [4e-5]))[1] == []
    assert len(take(book, scored([("a", "b", 22)], [3e-5]))[1]) == 1
    assert take(book, scored([("c", "b", 23)] * 3, [1.1e-4, 1e-3, 1e-3]))[1] == []  # three flows: a tenth of the limit
    assert len(take(book, scored([("c", "b", 23)] * 3, [9e-5, 1e-3, 1e-3]))[1]) == 1
    assert len(take(book, scored([("d", "b", 24)] * 40, [1e-3] * 40))[1]) == 1
    assert book.held_back == 0  # what is no story was not held back either
