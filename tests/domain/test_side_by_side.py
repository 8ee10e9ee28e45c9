"""Slow parts of the world: they delay themselves, and nobody else."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from autoretrain.domain.asking import Question
from autoretrain.domain.controller import Controller
from autoretrain.domain.requests import ask_start
from autoretrain.entrypoints.side_by_side import SideBySide
from autoretrain.entrypoints.testing.invariants import check_world
from autoretrain.entrypoints.testing.simulated_world import Training, World, histories_of
from autoretrain.ports.metrics import MetricQuery, MetricWindow
from autoretrain.ports.registry import ModelVersion
from autoretrain.ports.telemetry import TickReport

_PATIENCE = 0.2  # seconds: long enough for whatever answers at once, on a busy machine as well


class Gate:
    """Something slow: whoever enters waits until it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.entered = threading.Semaphore(0)
        self.visits = 0

    def enter(self) -> None:
        self.visits += 1
        self.entered.release()
        assert self.opened.wait(30), "nobody opened the gate"


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


def question(part: str, key: str, answer: Callable[[], Any] = lambda: None) -> Question:
    return Question(part, (key,), lambda keys: dict.fromkeys(keys, answer()))


class TestSideBySide:
    def test_all_answers_come_back(self) -> None:
        crew = SideBySide(10.0)
        several = Question("metrics", ("a", "b"), lambda keys: {key: f"{key}!" for key in keys})
        assert crew.put([several, question("drift", "c", lambda: 3)]) == {"a": "a!", "b": "b!", "c": 3}

    def test_a_slow_part_does_not_hold_up_another(self, gate: Gate) -> None:
        crew = SideBySide(_PATIENCE)
        assert crew.put([question("slow", "a", gate.enter), question("quick", "b")]) == {"b": None}

    def test_a_late_answer_is_given_to_the_next_who_asks_and_asked_for_once(self, gate: Gate) -> None:
        crew = SideBySide(_PATIENCE)

        def answer() -> int:
            gate.enter()
            return 7

        slow = question("slow", "a", answer)
        assert crew.put([slow]) == {}
        assert crew.put([slow]) == {}
        gate.opened.set()
        assert SideBySide.put(_waiting(crew), [slow]) == {"a": 7}
        assert gate.visits == 1

    def test_what_a_slow_call_does_not_cover_is_asked_by_another(self, gate: Gate) -> None:
        crew = SideBySide(_PATIENCE)

        def ask(keys: tuple[Any, ...]) -> Mapping[Any, Any]:
            if "a" in keys:
                gate.enter()
            return dict.fromkeys(keys, len(keys))

        assert crew.put([Question("metrics", ("a",), ask)]) == {}
        assert crew.put([Question("metrics", ("a", "b", "c"), ask)]) == {"b": 2, "c": 2}

    def test_a_part_gets_a_few_threads_and_the_rest_waits_its_turn(self, gate: Gate) -> None:
        crew = SideBySide(_PATIENCE, threads=2)
        slow = [question("slow", f"k{n}", gate.enter) for n in range(5)]
        assert crew.put(slow) == {}
        assert gate.visits == 2
        gate.opened.set()
        assert len(_waiting(crew).put(slow)) == 5

    def test_threads_are_used_again(self) -> None:
        crew = SideBySide(10.0)
        before = threading.active_count()
        for n in range(50):
            assert crew.put([question("quick", f"k{n}")]) == {f"k{n}": None}
        assert threading.active_count() <= before + 8

    def test_an_error_is_raised_where_it_was_asked_and_forgotten(self) -> None:
        crew = SideBySide(10.0)

        def fail() -> None:
            raise KeyError("defect")

        with pytest.raises(KeyError):
            crew.put([question("part", "a", fail)])
        assert crew.put([question("part", "a", lambda: 1)]) == {"a": 1}

    def test_answers_that_nobody_wants_are_dropped(self) -> None:
        now = [0.0]
        crew = SideBySide(0.0, monotonic=lambda: now[0])
        done = threading.Event()
        crew.put([question("part", "a", done.set)])
        assert done.wait(10)
        now[0] = 3600.0
        _waiting(crew).put([question("part", "b", lambda: 2)])
        assert _waiting(crew).put([question("part", "a", lambda: "anew")]) == {"a": "anew"}


def _waiting(crew: SideBySide) -> SideBySide:
    """The same crew with all the patience that a test needs."""
    crew._patience_seconds = 20.0
    return crew


class Slow:
    """A port of which calls about one model take as long as the gate is shut."""

    def __init__(self, port: Any, gate: Gate, model: str) -> None:
        self._port, self._gate, self._model = port, gate, model

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._port, name)

        def slow(*args: Any, **kwargs: Any) -> Any:
            if self._model in str(args):
                self._gate.enter()
            return call(*args, **kwargs)

        return slow


class Loop:
    """A controller whose crew does not wait for ever, over a fleet of two."""

    def __init__(self, gate: Gate, **slow: str) -> None:
        self.world = World()
        ports = self.world.ports()
        made = {part: Slow(getattr(ports, part), gate, model) for part, model in slow.items()}
        self.ports = replace(ports, **made)
        self.crew = SideBySide(_PATIENCE)
        self.controller = Controller(
            self.ports, self.world.fleet, "one", monotonic=self.world.clock, crew=self.crew
        )
        for model in self.world.fleet:
            self.world.serve(model, 0.64)
            self.world.metrics.set(model, "accuracy", 0.8)
            self.world.drift.set(model, {"x": 0.0})
            self.world.training[model] = Training(boundary=0.5)
        self.controller.enrol(self.world.fleet, self.world.now)

    def turn(self, seconds: float = 2) -> TickReport:
        report = self.controller.tick(self.world.now)
        self.world.now += timedelta(seconds=seconds)
        return report

    def serving(self, model: str) -> str:
        return self.world.registry.aliases[model]

    def check(self) -> None:
        check_world(histories_of(self.world.ports(), self.world.fleet), self.world.record, self.world.ledger)


def turns_until(loop: Loop, done: Callable[[], bool], most: int = 60) -> None:
    for _ in range(most):
        if done():
            return
        loop.turn()
    raise AssertionError("it did not come to its end")


@pytest.mark.parametrize("part", ["compute", "tracker", "predictor", "data"])
def test_one_slow_model_delays_no_other(gate: Gate, part: str) -> None:
    loop = Loop(gate, **{part: "churn"})
    turns_until(loop, lambda: loop.serving("fraud") == "2")
    assert loop.serving("churn") == "1"
    assert gate.visits >= 1
    gate.opened.set()
    _waiting(loop.crew)
    turns_until(loop, lambda: loop.serving("churn") == "2")
    starts = loop.world.compute.started
    assert set(starts.values()) == {1}


def test_an_act_that_takes_its_time_is_done_once_and_its_outcome_read(gate: Gate) -> None:
    loop = Loop(gate)
    registry = loop.ports.registry

    class SlowMove:
        def __getattr__(self, name: str) -> Any:
            return getattr(registry, name)

        def set_champion(self, version: ModelVersion, expected: str | None) -> None:
            if version.model == "churn":
                gate.enter()
            registry.set_champion(version, expected)

    ports = replace(loop.ports, registry=SlowMove())
    loop.controller = Controller(ports, loop.world.fleet, "one", monotonic=loop.world.clock, crew=loop.crew)
    turns_until(loop, lambda: loop.serving("fraud") == "2")
    for _ in range(3):
        loop.turn()
    assert gate.visits == 1
    assert loop.controller.state("churn").open_job is not None
    gate.opened.set()
    _waiting(loop.crew)
    turns_until(loop, lambda: loop.controller.state("churn").open_job is None)
    assert loop.serving("churn") == "2"


class _SlowServer:
    """A metrics server that answers nothing until its gate opens."""

    def __init__(self, metrics: Any, gate: Gate) -> None:
        self._metrics, self._gate = metrics, gate

    def read(self, queries: Sequence[MetricQuery]) -> Sequence[MetricWindow]:
        self._gate.enter()
        answers: Sequence[MetricWindow] = self._metrics.read(queries)
        return answers


def test_a_slow_metrics_server_delays_those_who_ask_it(gate: Gate) -> None:
    loop = Loop(gate)
    rules = {"churn": "performance", "fraud": "schedule"}
    fleet = {name: loop.world.fleet[name].model_copy(update={"rule": rule}) for name, rule in rules.items()}
    ports = replace(loop.ports, metrics=_SlowServer(loop.ports.metrics, gate))
    loop.controller = Controller(ports, fleet, "two", monotonic=loop.world.clock, crew=loop.crew)
    loop.world.now += timedelta(days=7)  # a Sunday has passed
    loop.world.add_rows("fraud")
    turns_until(loop, lambda: loop.serving("fraud") == "2")
    assert loop.controller.state("churn").jobs == {}
    gate.opened.set()
    _waiting(loop.crew)
    turns_until(loop, lambda: bool(loop.controller.state("churn").jobs))
    assert gate.visits >= 1


def test_a_late_answer_is_not_used_for_another_state(gate: Gate) -> None:
    """Who served before our own promotion is no news after it."""
    loop = Loop(gate, registry="churn")
    loop.turn()
    seq = loop.controller.state("churn").head.seq
    loop.controller.request("churn", lambda state: ask_start(state, "ann", {}, "now"), loop.world.now)
    gate.opened.set()
    _waiting(loop.crew)
    loop.turn()
    assert loop.controller.state("churn").head.seq > seq
