"""What the global options say, and the way from there to the library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..pipeline import AutoRetrainPipeline
    from ..reading import Installation

_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


@dataclass
class Invocation:
    """One call of the program.

    Attributes:
        settings: Settings file as given; ``None`` looks for it.
        actor: Who asks; ``None`` takes the user's name.
        verbose: How often ``-v`` was given.
    """

    settings: str | None = None
    actor: str | None = None
    verbose: int = 0

    def pipeline(self, kind: str = "library", patient: bool = True, **ports: Any) -> AutoRetrainPipeline:
        """The library, over the checked settings.

        Args:
            kind: What this process is, for its leases.
            patient: Whether calls wait for slow parts of the world.
            **ports: Replacements by port name.

        Raises:
            ConfigurationError: Settings that cannot be used.
        """
        from ..pipeline import AutoRetrainPipeline

        self.log()
        return AutoRetrainPipeline(
            settings=self.settings, actor=self.actor, kind=kind, patient=patient, **ports
        )

    def installation(self) -> Installation:
        """The light reading path, for commands that only look.

        Raises:
            ConfigurationError: There are no settings that could be read.
        """
        from ..reading import Installation

        return Installation(self.settings)

    def log(self, quiet: bool = True) -> None:
        """Send the log to standard error.

        Args:
            quiet: Only warnings of ours, unless ``-v`` was given; others' libraries are held to warnings
                below ``-vv``.
        """
        import logging

        from ..logs import CarefulFormatter

        levels = [logging.WARNING if quiet else logging.INFO, logging.INFO, logging.DEBUG]
        handler = logging.StreamHandler()
        handler.setFormatter(CarefulFormatter(_FORMAT))
        logging.basicConfig(handlers=[handler], level=logging.INFO if self.verbose > 1 else logging.WARNING)
        logging.getLogger("autoretrain").setLevel(levels[min(self.verbose, 2)])


pass_invocation = click.make_pass_decorator(Invocation)
"""Hands a command its ``Invocation`` as the first argument."""
