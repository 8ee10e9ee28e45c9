"""Threads that put the controller's questions side by side, a few for each part of the world."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from ..domain.asking import Question

_KEPT_SECONDS = 600.0
"""How long an answer that nobody came back for is kept."""


class SideBySide:
    """Implements ``Crew``: whoever answers slowly delays itself alone.

    The threads are daemons: what still waits for an answer when the process ends is left behind, as a crash
    would leave it.

    Args:
        patience_seconds: How long ``put`` waits for the answers it asked for.
        threads: Questions put at the same time to one part of the world.
        monotonic: Stopwatch in seconds.
    """

    def __init__(
        self,
        patience_seconds: float,
        threads: int = 8,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._patience_seconds = patience_seconds
        self._threads = threads
        self._monotonic = monotonic
        self._asked: dict[Hashable, _Task] = {}
        self._parts: dict[str, _Part] = {}

    def put(self, questions: Sequence[Question]) -> Mapping[Hashable, Any]:
        """Put questions side by side; see ``Crew.put``. Called by one thread at a time."""
        self._forget()
        for question in questions:
            new = tuple(key for key in question.keys if key not in self._asked)
            if new:
                self._start(question, new)
        deadline = self._monotonic() + self._patience_seconds
        answers: dict[Hashable, Any] = {}
        for key in (key for question in questions for key in question.keys):
            task = self._asked.get(key)
            if task is not None and task.done.wait(max(deadline - self._monotonic(), 0.0)):
                del self._asked[key]
                answers[key] = task.answer(key)
        return answers

    def _start(self, question: Question, keys: tuple[Hashable, ...]) -> None:
        task = _Task(question, keys, self._monotonic)
        self._asked.update(dict.fromkeys(keys, task))
        if question.part not in self._parts:
            self._parts[question.part] = _Part(question.part, self._threads)
        self._parts[question.part].add(task)

    def _forget(self) -> None:
        """Drop answers that nobody wants any more, since their model has moved on."""
        before = self._monotonic() - _KEPT_SECONDS
        old = [key for key, task in self._asked.items() if task.done.is_set() and task.ended < before]
        for key in old:
            del self._asked[key]


class _Task:
    """A question on its way."""

    def __init__(
        self, question: Question, keys: tuple[Hashable, ...], monotonic: Callable[[], float]
    ) -> None:
        self._question = question
        self._keys = keys
        self._monotonic = monotonic
        self._answers: Mapping[Hashable, Any] = {}
        self._error: BaseException | None = None
        self.done = threading.Event()
        self.ended = 0.0

    def run(self) -> None:
        try:
            self._answers = self._question.ask(self._keys)
        except BaseException as error:  # handed to whoever asked
            self._error = error
        self.ended = self._monotonic()
        self.done.set()

    def answer(self, key: Hashable) -> Any:
        if self._error is not None:
            raise self._error
        return self._answers[key]


class _Part:
    """The threads of one part of the world; started when there is something to do, up to a number."""

    def __init__(self, name: str, threads: int) -> None:
        self._name = name
        self._most = threads
        self._started = 0
        self._tasks: queue.SimpleQueue[_Task] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)

    def add(self, task: _Task) -> None:
        self._tasks.put(task)
        if not self._idle.acquire(blocking=False) and self._started < self._most:
            self._started += 1
            name = f"ask-{self._name}-{self._started}"
            threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        while True:
            self._tasks.get().run()
            self._idle.release()
