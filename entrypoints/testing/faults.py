"""What can go wrong at a call of a port, and what is under way between the processes and their world.

``Faults`` stands between one process and its ports: it can let the process die, the other side be away, an
answer be lost, or a call be slow, delivered twice, or take effect only after its caller has given up or died.
``Weather`` is shared by all processes of a world, and holds those late calls until they land.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import fields
from enum import Enum
from typing import Any, TypeVar

from ...domain.world import Ports
from ...ports.errors import AutoRetrainError, Temporary

_T = TypeVar("_T")


class Crash(BaseException):
    """The process dies here. No ``except Exception`` may survive it."""


class Fault(Enum):
    """What can go wrong at a call of a port."""

    CRASH_BEFORE = "the process dies before the call"
    CRASH_AFTER = "the process dies after the call took effect"
    AWAY = "the other side is away"
    ANSWER_LOST = "the call took effect, and its answer is lost"
    REPEATED = "the call is delivered twice"
    SLOW = "the call takes longer than the lease lives"
    LATE = "the caller gives up, and the call takes effect later"
    LATE_CRASH = "the process dies waiting, and the call takes effect later"


_DEADLY = (Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.LATE_CRASH)
_LATE = (Fault.LATE, Fault.LATE_CRASH)

Mishap = Fault | Callable[[], object]
"""A fault, or something that happens elsewhere while the caller is paused just before its call."""


class Weather:
    """What is under way in a world, whoever sent it.

    Args:
        pass_time: Lets a slow call take its time.

    Attributes:
        under_way: Calls that will take effect later, with their names, oldest first.
        landing: Whether a late call takes effect just now.
        landed: How many calls have taken effect late.
        met: How often each fault has happened.
    """

    def __init__(self, pass_time: Callable[[], None]) -> None:
        self.pass_time = pass_time
        self.under_way: list[tuple[str, Callable[[], object]]] = []
        self.landing = False
        self.landed = 0
        self.met: Counter[str] = Counter()

    def land(self, which: int = 0) -> str:
        """Let a late call take effect now. Nobody hears how it went.

        Args:
            which: Which of those under way, counted around: later ones may overtake earlier ones.

        Returns:
            Name of the call; empty when none is under way.
        """
        if not self.under_way:
            return ""
        name, call = self.under_way.pop(which % len(self.under_way))
        self.landing = True
        self.landed += 1
        try:
            call()
        except AutoRetrainError:
            pass  # refused, and nobody is there to be told
        finally:
            self.landing = False
        return name


class Faults:
    """Counts the calls of one process, and breaks those that a plan names.

    Args:
        weather: The world's.

    Attributes:
        weather: The same.
        calls: Calls so far, of all ports together.
        met: Mishaps that have happened so far.
        told: The same in words, oldest first.
        overtaken: Whether another controller has taken the lease while this process was paused.
    """

    def __init__(self, weather: Weather) -> None:
        self.calls = 0
        self.met = 0
        self.told: list[str] = []
        self.overtaken = False
        self.weather = weather
        self._plan: dict[int, Mishap] = {}

    def plan(self, mishaps: Mapping[int, Mishap]) -> None:
        """Replace the plan.

        Args:
            mishaps: What goes wrong, by number of the call, counted from the next one as 0.
        """
        self._plan = {self.calls + offset: mishap for offset, mishap in mishaps.items()}

    def around(self, ports: Ports) -> Ports:
        """The same ports, with this plan in between."""
        return Ports(
            **{part.name: _Between(self, part.name, getattr(ports, part.name)) for part in fields(ports)}
        )

    def through(self, name: str, call: Callable[[], _T]) -> _T:
        """Make one call, or let it go wrong as planned.

        Args:
            name: Port and method.
            call: The call.

        Raises:
            Crash: The plan says that the process dies here.
            Temporary: The plan says that the other side is away, or its answer lost or late.
        """
        mishap = self._plan.pop(self.calls, None)
        self.calls += 1
        if mishap is None:
            return call()
        self._note(name, mishap)
        if not isinstance(mishap, Fault):
            mishap()
            return call()
        if name == "telemetry.report" and mishap not in _DEADLY:  # which must not raise
            return call()
        return self._broken(name, mishap, call)

    def _note(self, name: str, mishap: Mishap) -> None:
        kind, words = ("paused", "it is paused")
        if isinstance(mishap, Fault):
            kind, words = mishap.name.lower(), mishap.value
        self.met += 1
        self.told.append(f"at {name} {words}")
        self.weather.met[kind] += 1

    def _broken(self, name: str, fault: Fault, call: Callable[[], _T]) -> _T:
        if fault is Fault.CRASH_BEFORE:
            raise Crash(name)
        if fault is Fault.AWAY:
            raise Temporary(f"{name} is away")
        if fault in _LATE:
            self.weather.under_way.append((name, call))
            raise Crash(name) if fault is Fault.LATE_CRASH else Temporary(f"{name} did not answer in time")
        if fault is Fault.SLOW:
            self.weather.pass_time()
        if fault is Fault.REPEATED:
            call()
        answer = call()
        if fault is Fault.CRASH_AFTER:
            raise Crash(name)
        if fault is Fault.ANSWER_LOST:
            raise Temporary(f"the answer of {name} was lost")
        return answer


class _Between:
    """Stands in for a port: every call of a method goes through the faults."""

    def __init__(self, faults: Faults, part: str, port: Any) -> None:
        self._faults = faults
        self._part = part
        self._port = port

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._port, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._faults.through(f"{self._part}.{name}", lambda: method(*args, **kwargs))

        return call
