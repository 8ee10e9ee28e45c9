"""What the global options say, and the way from there to the library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..pipeline import AutoRetrainPipeline
    from ..reading import Installation
    from ..settings_sections import LoggingSettings
    from ..structured_logs import LogFormat


@dataclass
class Invocation:
    """One call of the program.

    Attributes:
        settings: Settings file as given; ``None`` looks for it.
        actor: Who asks; ``None`` takes the user's name.
        verbose: How often ``-v`` was given.
        log_format: Format of the log as given; ``None`` takes the settings'.
    """

    settings: str | None = None
    actor: str | None = None
    verbose: int = 0
    log_format: LogFormat | None = None

    def pipeline(
        self, kind: str = "library", *, patient: bool = True, quiet: bool = True, **ports: Any
    ) -> AutoRetrainPipeline:
        """The library, over the checked settings; from here on there is a log.

        Args:
            kind: What this process is, for its leases.
            patient: Whether calls wait for slow parts of the world.
            quiet: Whether the log says warnings only, unless ``-v`` was given.
            **ports: Replacements by port name.

        Raises:
            ConfigurationError: Settings that cannot be used.
        """
        from ..pipeline import AutoRetrainPipeline
        from ..settings import load_settings

        settings = load_settings(self.settings)
        self.log(settings.logging, quiet=quiet)
        return AutoRetrainPipeline(settings=settings, actor=self.actor, kind=kind, patient=patient, **ports)

    def installation(self) -> Installation:
        """The light reading path, for commands that only look.

        Raises:
            ConfigurationError: There are no settings that could be read.
        """
        from ..reading import Installation

        return Installation(self.settings)

    def log(self, settings: LoggingSettings | None = None, *, quiet: bool = True) -> None:
        """Send the log to standard error.

        Args:
            settings: Format, and level where it is not quiet; ``None`` takes the defaults.
            quiet: Only warnings of ours, unless ``-v`` was given; others' libraries are held to warnings
                below ``-vv``.
        """
        import logging

        from ..settings import secret_variables
        from ..settings_sections import LoggingSettings
        from ..structured_logs import configure, secrets_of

        settings = settings or LoggingSettings()
        said = logging.WARNING if quiet else logging.getLevelNamesMapping()[settings.level.upper()]
        configure(
            self.log_format or settings.format,
            ours=min(said, [logging.ERROR, logging.INFO, logging.DEBUG][min(self.verbose, 2)]),
            others=logging.INFO if self.verbose > 1 else logging.WARNING,
            secrets=secrets_of(secret_variables()),
        )
        self._says_json = (self.log_format or settings.format) == "json"

    def say(self, text: str) -> None:
        """Tell on standard error what a long-running process does: a line of its log where that is JSON."""
        if self._says_json:
            import logging

            logging.getLogger("autoretrain.run").info(text)
        else:
            click.echo(text, err=True)

    _says_json = False


pass_invocation = click.make_pass_decorator(Invocation)
"""Hands a command its ``Invocation`` as the first argument."""
