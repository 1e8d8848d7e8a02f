"""The steps of the stages, one after the other and overlapping; their messages keep the rules of Morpheus' C++."""

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pytest

from eddyline.alerts import AlertSettings
from eddyline.contracts import Model
from eddyline.errors import ConfigError, SinkError, SourceError
from eddyline.flows import REJECTED_SCHEMA, FlowBatch
from eddyline.runtimes.morpheus.carried import KEY, Carried, Closed, Knock, Mark, put, take
from eddyline.runtimes.morpheus.steps import Combining, Detecting, Graphing, Windowing, Writing
from eddyline.runtimes.morpheus.stream import Feed, FlushSettings, Stream
from eddyline.windows import Commit, WindowSettings
from tests.runtimes import test_resume
from tests.runtimes.morpheus.letters import CppLetter, as_json
from tests.runtimes.test_embedded import SETTINGS, ListSink, ListSource, minutes, model, rows, start


def alive() -> bool:
    return True


def stream_of(source: ListSource, flush: int = 1, resume: Commit | None = None) -> Stream:
    return Feed("list:", FlushSettings(flush, None), 2).add(source, resume)


def first_half(stream: Stream, known: Model, knock: bool = True) -> Iterator[Carried]:
    """What leaves the inference stage."""
    cutting, graphing, detecting = Windowing(stream_settings(known)), Graphing("cpu"), Detecting(known)

    def on(found: Iterator[Carried]) -> Iterator[Carried]:
        for cut in found:
            for graph in graphing(over(cut), alive):
                yield from map(over, detecting(over(graph), alive))

    stream.start()
    while knock and not (stream.ended and stream.feed.knocks.empty()):
        with suppress(queue.Empty):
            yield from on(cutting(over(Knock(stream.feed.knocks.get(timeout=0.05))), alive))
    yield from on(cutting.finish(stream.feed))


def second_half(carried: Iterator[Carried], sinks: Sequence[ListSink]) -> list[Carried]:
    combining, writing = Combining(AlertSettings()), Writing(sinks)
    told = [out for each in carried for found in combining(each, alive) for out in writing(over(found), alive)]
    writing.finish()
    return told


def stream_settings(known: Model) -> WindowSettings:
    return test_resume.SETTINGS if known is test_resume.model() else SETTINGS


def over(carried: Carried) -> Carried:
    return take(put(CppLetter(), carried))


def run(source: ListSource, *sinks: ListSink, resume: Commit | None = None, knock: bool = True) -> Stream:
    stream = stream_of(source, resume=resume)
    try:
        second_half(first_half(stream, model(), knock), sinks)
    finally:
        stream.feed.give_up()
    return stream


def test_the_steps_write_what_the_embedded_runtime_writes_and_commit_the_same_memory() -> None:
    ours, theirs = ListSource(minutes(6)), ListSource(minutes(6))
    sink, expected = ListSink(), ListSink()
    counts = run(ours, sink).feed.counts
    start(theirs, expected).run()
    assert [scored.table() for scored in sink.written] == [scored.table() for scored in expected.written]
    assert (counts.flows, counts.scored, counts.windows) == (18, 18, 6)
    last, wanted = ours.commits[-1], theirs.commits[-1]
    assert (last.position, last.seen, last.sites) == (wanted.position, wanted.seen, wanted.sites)
    assert last.memories["a"].keys() == wanted.memories["a"].keys()
    for name, part in last.memories["a"].items():
        np.testing.assert_array_equal(part, wanted.memories["a"][name])


def test_stages_that_overlap_give_the_scores_of_one_thread() -> None:
    known, between = test_resume.model(), queue.Queue[Carried | None](3)
    ours, theirs = ListSource(test_resume.stream()), ListSource(test_resume.stream())
    sink, expected = ListSink(), ListSink()
    stream = stream_of(ours, flush=10**9)

    def ahead() -> None:
        for carried in first_half(stream, known):
            between.put(carried)
        between.put(None)

    thread = threading.Thread(target=ahead)
    thread.start()
    second_half(iter(between.get, None), [sink])
    thread.join()
    test_resume.run(theirs, expected, 10**9)
    assert [scored.p.tobytes() for scored in sink.written] == [scored.p.tobytes() for scored in expected.written]
    assert [scored.alert_id for scored in sink.written] == [scored.alert_id for scored in expected.written]
    assert sum((scored.p < 1e-3).sum() for scored in sink.written) > 0
    assert ours.commits[-1].book.keys() == theirs.commits[-1].book.keys()


def test_after_a_failing_sink_the_rest_comes_again_and_nothing_is_missing() -> None:
    batches, whole, crashed, resumed = minutes(6), ListSink(), ListSink(fail_at_write=3), ListSink()
    start(ListSource(batches), whole).run()
    source = ListSource(batches)
    with pytest.raises(SinkError, match="window 3 is not in the output"):
        run(source, crashed)
    commit = source.commits[-1]
    assert 0 < (commit.position or 0) <= 3
    after = ListSource([batch for batch in batches if batch.position > commit.position])
    run(after, resumed, resume=commit)
    written = {scored.window.start_us: scored.p.tobytes() for scored in [*crashed.written, *resumed.written]}
    assert written == {scored.window.start_us: scored.p.tobytes() for scored in whole.written}


def test_knocks_that_are_dropped_lose_no_batch() -> None:
    source, sink = ListSource(minutes(4)), ListSink()
    run(source, sink, knock=False)
    assert rows(sink) == list(range(12))
    assert source.commits[-1].position == 4


def test_open_windows_stay_open_where_a_later_run_reads_on() -> None:
    class Unfinished(ListSource):
        unfinished = True

    source, sink = Unfinished(minutes(4)), ListSink()
    run(source, sink)
    assert rows(sink) == list(range(9))
    assert source.commits[-1].position == 3


def test_what_reading_raised_is_kept_and_the_end_is_not_committed() -> None:
    source, sink = ListSource(minutes(4), error=SourceError("list: the cable is out")), ListSink()
    stream = run(source, sink)
    assert [str(error) for error in stream.feed.errors] == ["list: the cable is out"]
    assert max(commit.position or 0 for commit in source.commits) <= 3


def test_bad_records_are_counted_and_reach_the_sinks() -> None:
    bad = pa.table({"reason": ["torn"], "origin": ["x"], "source_row": [1], "raw": [b"a"]}, REJECTED_SCHEMA)
    sink = ListSink()
    stream = run(ListSource([FlowBatch(minutes(1)[0].table, 1, bad)]), sink)
    assert dict(stream.feed.counts.rejected) == {"torn": 1}
    assert sink.rejected[0].equals(bad)


def test_a_window_tells_other_stages_its_site_time_and_size_in_plain_values() -> None:
    stream = stream_of(ListSource(minutes(2)))
    closed = Windowing(SETTINGS).finish(stream.feed)
    stream.start()
    first = next(each for each in closed if isinstance(each, Closed))
    letter = put(CppLetter(), first)
    said = {name: value for name, value in letter.get_metadata().items() if name != KEY}
    assert said == {"site": "a", "flows": 3, "window_start_us": 0}
    assert letter.get_metadata(KEY) is first
    stream.feed.give_up()


def test_a_message_of_somebody_else_stops_the_run_with_words() -> None:
    letter = CppLetter()
    letter.set_metadata("graph", [1, 2])
    with pytest.raises(ConfigError, match="without `eddyline` in its metadata"):
        take(letter)


def test_the_rules_of_the_cpp_message_are_imposed() -> None:
    letter, opaque = CppLetter(), Mark(stream_of(ListSource([])), 0, 0, None, None)
    letter.set_metadata("list", kept := [1, (2, opaque)])
    kept.append(3)
    assert letter.get_metadata("list") == [1, [2, opaque]]
    assert letter.get_metadata("list")[1][1] is opaque
    letter.set_metadata("empty", [])
    assert letter.get_metadata("empty", "default") == "default"
    with pytest.raises(OverflowError):
        as_json(2**63)
