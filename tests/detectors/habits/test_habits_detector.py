"""The sum of capped surprises, on a small office that lives for an hour."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
import torch

from eddyline.calibration import Ranks
from eddyline.config import TrainSettings
from eddyline.detectors.habits.detector import HabitsDetector
from eddyline.detectors.habits.explain import explanation
from eddyline.detectors.habits.recipe import fit
from eddyline.detectors.habits.terms import TERMS, surprises
from eddyline.errors import ArtifactError
from eddyline.explanations import Explanation
from eddyline.graphs import FlowGraph, build_graph, columns_of
from eddyline.habits import WARM, Habits
from tests.habits import Flow, grouped, live, window

MINUTES = 60


def minute(seed: int) -> list[Flow]:
    """Eight clients talk to a web server and a resolver, every now and then to somebody outside."""
    rng, flows = np.random.default_rng(seed), []
    for client in range(8):
        name = f"client{client}"
        for _ in range(int(rng.integers(1, 4))):
            sizes = {"sent": int(rng.lognormal(7, 0.6)), "back": int(rng.lognormal(9, 0.8))}
            flows.append(Flow(name, "web", 443, **sizes, duration_us=int(rng.lognormal(13, 1))))
        flows.append(Flow(name, "resolver", 53, 70, 150, 1, proto=17, packets=1, duration_us=20_000))
        if rng.random() < 0.1:
            flows.append(Flow(name, f"outside{rng.integers(10_000)}", 443, int(rng.lognormal(7, 1))))
    return flows


@cache
def office() -> tuple[HabitsDetector, tuple[FlowGraph, ...], dict[str, np.ndarray]]:
    """The detector, the windows it was fitted on, and the memory after them."""
    habits, graphs = Habits.empty(), []
    for number in range(MINUTES):
        graph, habits = live(habits, window(minute(number), number + 1))
        graphs.append(graph)
    fresh = tuple(graphs[20:])
    return HabitsDetector.fit(fresh), fresh, habits.parts()


def next_minute(attack: Sequence[Flow] = (), seed: int = 999) -> FlowGraph:
    """A benign window and an attack after it."""
    graph, _ = live(Habits.of(office()[2]), window([*minute(seed), *attack], MINUTES + 2))
    return graph


def scores(graph: FlowGraph) -> np.ndarray:
    with torch.inference_mode():
        return office()[0].score(graph).numpy()


HUGE = Flow("client3", "web", 443, sent=5 * 10**9, back=40_000, packets=4_000_000, duration_us=50_000_000)
FLOOD = [Flow("client3", "web", 443, 60, packets=1).silent] * 500
SCAN = [Flow("client3", f"client{n % 8}", 1_000 + n, 44, packets=1).silent for n in range(200) if n % 8 != 3]
LOGIN = Flow("client1", "client6", 22, 3_000, 4_000)


@pytest.mark.parametrize(
    ("attack", "name"),
    [([HUGE], "transfer"), (FLOOD, "flood"), (SCAN, "scan")],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_an_attack_scores_above_every_benign_flow(attack: list[Flow], name: str) -> None:
    """Also the huge transfer on a pair that meets every minute, which a model of who talks to whom calls usual."""
    detector, fresh, _ = office()
    strangest = max(float(detector.score(graph).max()) for graph in fresh)
    found = scores(next_minute(attack))
    assert found[-len(attack) :].min() > max(strangest, found[: -len(attack)].max()), name


def test_a_login_where_nobody_logs_in_scores_above_all_usual_flows() -> None:
    found = scores(next_minute([LOGIN]))
    assert found[-1] > found[:-1].max()


def test_no_term_claims_more_than_its_model_nor_than_benign_flows_support() -> None:
    detector, _, _ = office()
    graph = next_minute([HUGE, *FLOOD, *SCAN])
    said, parts = surprises(graph.conversations(), columns_of(graph)), detector.capped(graph)
    for term, ranks in enumerate(detector.ranks):
        np.testing.assert_allclose(parts[:, term], ranks.supported(said[:, term]), rtol=1e-6)
        assert (parts[:, term] <= said[:, term]).all()
        assert parts[:, term].max() <= np.log(ranks.n + 1) + 1e-5
    assert (said[:, 4] > parts[:, 4]).any()  # the model alone would have claimed more
    np.testing.assert_allclose(scores(graph), parts.sum(1), rtol=1e-6)


def test_a_term_that_was_as_strange_on_every_benign_flow_adds_nothing() -> None:
    graph = next_minute([HUGE])
    said = surprises(graph.conversations(), columns_of(graph))
    same = [Ranks.of(np.full(1_000, said[:, term].max(), np.float32)) for term in range(len(TERMS))]
    assert (HabitsDetector(same).capped(graph) == 0).all()


def test_ranks_are_of_the_benign_flows_as_they_were_new() -> None:
    detector, fresh, _ = office()
    said = np.concatenate([surprises(graph.conversations(), columns_of(graph)) for graph in fresh])
    assert [ranks.n for ranks in detector.ranks] == [len(said)] * len(TERMS)
    for term, ranks in enumerate(detector.ranks):
        middle = np.sort(said[:, term])[len(said) // 2]
        np.testing.assert_allclose(ranks.share(middle[None]), (1 + (said[:, term] >= middle).sum()) / (len(said) + 1))


Row: TypeAlias = tuple[str, str, float, float, str, str]  # feature, unit, observed, usual, kind, end


def rows_of(found: Explanation) -> list[Row]:
    columns = (found.feature, found.unit, found.observed, found.expected, found.kind, found.about)
    return list(zip(*columns, strict=True))


def why(attack: Sequence[Flow]) -> list[Row]:
    """The reasons of the last flow, strongest first."""
    detector, graph = office()[0], next_minute(attack)
    row = len(graph) - 1
    found = detector.explain(graph, torch.tensor([row]))
    assert set(found.edge) == {row}
    assert list(found.contribution) == sorted(found.contribution, reverse=True)
    assert 0.9 * scores(graph)[row] <= sum(found.contribution) <= 1.00001 * scores(graph)[row]
    return rows_of(found)


def test_a_huge_transfer_is_explained_by_its_size() -> None:
    carried, own = why([HUGE])[:2]
    assert carried[0] in ("bytes the source sends", "bytes the destination gets")
    assert (carried[1], carried[4]) == ("B", "size")
    np.testing.assert_allclose(carried[2], 5e9, rtol=0.01)
    assert 1_000 < carried[3] < 100_000
    assert (own[0], own[4]) == ("packets sent", "size")
    np.testing.assert_allclose(own[2:4], [4_000_000, 10], rtol=1e-3)  # everybody else sends ten


def test_a_flood_is_explained_by_how_many_flows_and_that_nobody_answers() -> None:
    burst, *rest = why(FLOOD)
    assert burst[0] in ("flows of the source", "flows to the destination", "flows between the two hosts")
    assert burst[2] >= 500
    assert burst[3] < 20
    assert burst[4] == "burst"
    silence = next(row for row in rest if row[0].startswith("no answer, where"))
    assert np.isnan(silence[2:4]).all()


def test_a_scan_is_explained_by_its_source() -> None:
    burst = why(SCAN)[0]
    assert burst[5] == "source"
    assert burst[2] >= len(SCAN)
    assert burst[3] < 10


def test_a_login_where_nobody_logs_in_is_explained_by_what_is_new() -> None:
    said = {row[0]: row[4] for row in why([LOGIN])}
    assert said.get("port new for the source") == "service"


COUNTED = (
    ("sent_usual", 0, "flows of the source", "burst", 3),
    ("sent_usual", 1, "hosts the source contacts", "probing", 2),
    ("sent_usual", 2, "ports the source tries", "probing", 2),
    ("sent_usual", 3, "unanswered flows of the source", "probing", 1),
    ("sent_usual", 4, "bytes the source sends", "size", 700),
    ("sent_usual", 5, "new hosts the source contacts", "probing", 2),
    ("sent_usual", 6, "hosts the source contacts on this port", "probing", 2),
    ("received_usual", 0, "flows to the destination", "burst", 2),
    ("received_usual", 1, "hosts that contact the destination", "burst", 1),
    ("received_usual", 2, "ports tried at the destination", "probing", 2),
    ("received_usual", 3, "unanswered flows to the destination", "probing", 1),
    ("received_usual", 5, "new hosts that contact the destination", "burst", 1),
    ("received_usual", 6, "hosts that contact the destination on this port", "burst", 1),
    ("pair_usual", 0, "flows between the two hosts", "burst", 2),
    ("pair_usual", 1, "ports tried between the two hosts", "probing", 2),
)


@pytest.mark.parametrize(("side", "column", "name", "kind", "observed"), COUNTED, ids=[row[2] for row in COUNTED])
def test_the_count_that_surprised_is_named_with_what_is_usual(
    side: str, column: int, name: str, kind: str, observed: int
) -> None:
    """a sends 100 B to b:443, 200 B to b:80, unanswered, and 400 B to c:443; every count is as usual but one."""
    flows = (Flow("a", "b", 443, 100), Flow("a", "b", 80, 200).silent, Flow("a", "c", 443, 400))
    found = grouped(*flows)
    columns = Habits.empty().read(found, 1)
    usual = {
        end: np.stack([getattr(columns, counts), np.full_like(getattr(columns, counts), 0.3)], -1)
        for end, counts in (("sent_usual", "sent"), ("received_usual", "received"), ("pair_usual", "of_pair"))
    }
    usual[side][0 if side != "received_usual" else 1, column, 0] = np.log1p(observed / 4)
    parts = np.array([[0, 3.0, 0, 0, 0] if "bytes" in name else [3.0, 0, 0, 0, 0]])
    row = rows_of(explanation(found, replace(columns, **usual), np.array([0]), parts))[0]
    end = {"sent_usual": "source", "received_usual": "destination", "pair_usual": ""}[side]
    assert (row[0], row[1], row[4], row[5]) == (name, "B" if "bytes" in name else "", kind, end)
    np.testing.assert_allclose(row[2:4], [observed, observed / 4])


OWN_SIZES = (
    ("bytes sent", "B", 3_000), ("bytes received", "B", 8_000), ("packets sent", "", 30), ("packets received", "", 20),
    ("duration", "us", 1_500_000), ("bytes per packet sent", "B", 100), ("bytes per packet received", "B", 400),
)  # fmt: skip


@pytest.mark.parametrize("column", range(7), ids=[row[0] for row in OWN_SIZES])
def test_the_size_that_surprised_is_named_in_its_own_unit(column: int) -> None:
    found = grouped(Flow("a", "b", 443, 3_000, 8_000, 20, packets=30, duration_us=1_500_000))
    columns = Habits.empty().read(found, 1)
    mean = found.sizes.astype(float)
    mean[0, column] = np.log1p(np.expm1(mean[0, column]) / 10)
    columns = replace(columns, size_mean=mean, size_sd=np.ones((1, 7)))
    row = rows_of(explanation(found, columns, np.array([0]), np.array([[0, 0, 0, 0, 3.0]])))[0]
    name, unit, observed = OWN_SIZES[column]
    assert (row[0], row[1], row[4], row[5]) == (name, unit, "size", "")
    np.testing.assert_allclose(row[2:4], [observed, observed / 10], rtol=1e-4)


@pytest.mark.parametrize(
    ("said", "feature", "kind"),
    [
        ({"meets": [1e-3]}, "first meeting of the two hosts", "pair"),
        ({"meets": [1e-3], "known": [1]}, "the two hosts rarely meet", "pair"),
        ({"host_known": [[0, 0], [0, 999]]}, "service new at the destination", "service"),
        ({"host_known": [[0, 0], [0, 999]], "service_known": [1]}, "service rare at the destination", "service"),
        ({"tries": [1e-3]}, "port new for the source", "service"),
        ({"tries": [1e-3], "port_known": [1]}, "port rare for the source", "service"),
        ({"silence": [0.02]}, "no answer, where 98% of such flows are answered", "probing"),
    ],
)
def test_what_is_new_is_said_in_words(said: dict[str, list], feature: str, kind: str) -> None:
    found = grouped(Flow("a", "b"))
    usual = {"meets": [0.999], "tries": [0.999], "known": [0], "service_known": [0], "port_known": [0]}
    told = {name: np.array(value, float) for name, value in (usual | said).items()}
    columns = replace(Habits.empty().read(found, 1), **told)
    parts = np.array([[0, 0, 0, 3.0, 0] if "silence" in said else [0, 0, 3.0, 0, 0]])
    row = rows_of(explanation(found, columns, np.array([0]), parts))[0]
    assert (row[0], row[4]) == (feature, kind)
    assert np.isnan(row[2:4]).all()


def test_hosts_that_met_every_minute_are_not_said_to_meet_rarely() -> None:
    for attack in ([HUGE], FLOOD):
        assert "the two hosts rarely meet" not in [row[0] for row in why(attack)]


def test_several_flows_are_explained_each_by_its_row() -> None:
    detector, graph = office()[0], next_minute([HUGE, LOGIN])
    rows = [len(graph) - 1, 0, len(graph) - 2]
    found = detector.explain(graph, torch.tensor(rows))
    assert [*dict.fromkeys(found.edge)] == rows
    alone = [one for row in rows for one in rows_of(detector.explain(graph, torch.tensor([row])))]
    assert repr(rows_of(found)) == repr(alone)


def test_it_survives_the_disk_bit_for_bit_and_a_broken_file_is_named(tmp_path: Path) -> None:
    detector, graph = office()[0], next_minute([HUGE, *SCAN])
    detector.save(tmp_path)
    assert [file.suffix for file in tmp_path.iterdir()] == [".safetensors"]
    np.testing.assert_array_equal(HabitsDetector.load(tmp_path, "cpu").score(graph).numpy(), scores(graph))
    with pytest.raises(ArtifactError, match=r"terms\.safetensors"):
        HabitsDetector.load(tmp_path / "absent", "cpu")
    (tmp_path / "terms.safetensors").write_bytes(b"no such thing")
    with pytest.raises(ArtifactError, match=r"terms\.safetensors"):
        HabitsDetector.load(tmp_path, "cpu")


def test_an_empty_window_has_no_scores_and_one_without_a_memory_is_refused() -> None:
    detector = office()[0]
    assert detector.score(build_graph(window([]))).shape == (0,)
    with pytest.raises(ValueError, match="no habit columns"):
        detector.score(build_graph(window([HUGE])))


def test_the_recipe_leaves_out_what_a_young_memory_judged(tmp_path: Path) -> None:
    fresh, said = office()[1], []
    found, kept, metrics = fit(
        fresh[:30], fresh[30:], TrainSettings(source="x.csv", model=tmp_path), tmp_path, lambda *what: said.append(what)
    )  # fmt: skip
    skipped = round(WARM * len(fresh))
    assert [id(graph) for graph in kept] == [id(graph) for graph in fresh[skipped:]]
    assert found.ranks[0].n == sum(map(len, fresh[skipped:]))
    assert metrics == {"windows": len(fresh) - skipped}
    assert len(said) == 1


def test_on_another_network_every_cap_is_fitted_anew() -> None:
    detector, fresh, _ = office()
    other = detector.refitted(fresh[:10])
    for cap, again, old in zip(other.ranks, HabitsDetector.fit(fresh[:10]).ranks, detector.ranks, strict=True):
        np.testing.assert_array_equal(cap.values, again.values)
        assert cap.n == sum(map(len, fresh[:10])) < old.n
