"""A memory between two threads: when it may be read, and what a reader does whom nobody waits for."""

import threading

import numpy as np

from eddyline.drift import Drift
from eddyline.graphs import build_graph
from eddyline.runtimes.morpheus.memories import SharedMemory
from eddyline.scoring import Memory, detect, judge
from tests.detectors.test_conformance import some_window
from tests.runtimes.test_embedded import model


def judged_after(shared: SharedMemory, seed: int) -> None:
    window, known = some_window(seed=seed), model()
    memory = shared.read(lambda: True)
    assert memory is not None
    detected = detect(window, build_graph(window), memory, known)
    shared.handed_on(detected.now)
    _, drift, lesson = judge(detected, shared.drift, known)
    assert lesson is not None
    shared.learn(drift, lesson)


def test_one_window_may_be_on_its_way_but_not_two() -> None:
    shared = SharedMemory(Memory.empty())
    shared.handed_on(1)
    assert shared.read(lambda: True) is not None
    shared.handed_on(2)
    assert shared.read(lambda: False) is None


def test_whoever_waits_for_a_lesson_goes_on_when_it_comes() -> None:
    shared, seen = SharedMemory(Memory.empty()), []
    for number in (1, 2):
        shared.read(lambda: True)
        shared.handed_on(number)
    reader = threading.Thread(target=lambda: seen.append(shared.read(lambda: True)))
    reader.start()
    assert not seen
    shared.learn(Drift.empty(1.0), {})
    reader.join(5)
    assert len(seen) == 1


def test_what_is_settled_is_the_memory_after_every_window() -> None:
    shared, alone, known = SharedMemory(Memory.empty()), Memory.empty(), model()
    for seed in range(3):
        judged_after(shared, seed)
        window = some_window(seed=seed)
        detected = detect(window, build_graph(window), alone, known)
        _, drift, lesson = judge(detected, alone.drift, known)
        assert lesson is not None
        alone = Memory(alone.habits.passed(detected.now).taught_by(lesson), drift)
    parts, wanted = shared.settled(lambda: True), alone.parts()
    assert parts is not None
    assert parts.keys() == wanted.keys()
    for name, part in parts.items():
        np.testing.assert_array_equal(part, wanted[name])
