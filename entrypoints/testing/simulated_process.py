"""A process of a simulated world: the real controller behind ports that can break."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...domain.controller import Controller
from ...domain.world import Ports
from ...ports.errors import LeaseLost, Temporary
from .faults import Crash, Faults, Mishap
from .simulated_world import LEASE_SECONDS, World, watched


class Process:
    """A controller that can be killed and started again.

    Args:
        world: The world it lives in.
        ports: The world's ports, unbroken.
        name: What its holder's name begins with; every start has a name of its own.
    """

    def __init__(self, world: World, ports: Ports, name: str) -> None:
        self.faults = Faults(world.weather)
        self.starts = 0
        self._world = world
        self._name = name
        self._ports = watched(ports, world.record, self.faults)
        self.controller = self._started()

    def _started(self) -> Controller:
        self.starts += 1
        return Controller(
            self._ports,
            self._world.fleet,
            f"{self._name}-{self.starts}",
            monotonic=self._world.clock,
            lease_seconds=LEASE_SECONDS,
        )

    def restart(self) -> None:
        """Forget everything, as a new process does."""
        self.controller = self._started()

    def run(self, act: Callable[[Controller], object], mishaps: Mapping[int, Mishap] | None = None) -> bool:
        """Let the controller do something, and start it again when it dies of it.

        Args:
            act: What to do.
            mishaps: What goes wrong in it, by number of the call, counted from 0; ``None`` leaves the plan of
                ``faults`` as it is.

        Returns:
            Whether it was done without dying, and without losing lease or ledger on the way.
        """
        self.faults.overtaken = False
        if mishaps is not None:
            self.faults.plan(mishaps)
        try:
            act(self.controller)
        except Crash:
            self.restart()
            return False
        except (Temporary, LeaseLost):
            return False
        finally:
            if mishaps is not None:
                self.faults.plan({})
        return True

    def tick(self, mishaps: Mapping[int, Mishap] | None = None) -> bool:
        """Let it make one turn now."""
        return self.run(lambda controller: controller.tick(self._world.now), mishaps)
