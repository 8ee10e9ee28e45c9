"""The command line: the group, its lazily loaded commands, and what an error looks like.

Exit codes: 0 the question was answered, or the thing done; 1 it could not be done now, and trying again may
help; 2 somebody has to change something first; 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

import click

from ... import __version__
from ...ports.credentials import without_credentials
from ...ports.errors import AutoRetrainError, Temporary
from .context import Invocation, pass_invocation

if TYPE_CHECKING:
    from ..structured_logs import LogFormat

TRY_AGAIN, CHANGE_SOMETHING, INTERRUPTED = 1, 2, 130

_HOMES = {
    "init": "projects",
    "demo": "projects",
    "doctor": "doctor",
    "check": "check",
    "backtest": "backtest",
    "start": "jobs",
    "wait": "jobs",
    "run": "run",
    "jobs": "look",
    "show": "look",
    "approve": "jobs",
    "reject": "jobs",
    "cancel": "jobs",
    "rollback": "champions",
    "override": "champions",
    "traffic": "traffic",
    "notices": "notices",
    "audit": "audit",
    "db": "db",
}
"""Module of each command, in the order in which a user meets them."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for; none imports anything heavy then."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, in the order of their use."""
        return list(_HOMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; ``None`` for an unknown name."""
        if cmd_name not in _HOMES:
            return None
        module = import_module(f".{_HOMES[cmd_name]}", __package__)
        command: click.Command = getattr(module, cmd_name)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--settings",
    metavar="FILE",
    help="Settings file, or a directory that holds autoretrain.toml.  [default: $AUTORETRAIN_SETTINGS, then "
    "this directory]",
)
@click.option("--actor", metavar="NAME", help="Who asks, for the record.  [default: your user name]")
@click.option("-v", "--verbose", count=True, help="Say more; -vv shows tracebacks, too.")
@click.option(
    "--log-format",
    type=click.Choice(["console", "json"]),
    help="How the log is written, on standard error.  [default: the settings' logging.format]",
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@pass_invocation
def cli(
    invocation: Invocation,
    settings: str | None,
    actor: str | None,
    verbose: int,
    log_format: LogFormat | None,
) -> None:
    """Watch models in production, retrain them, judge the candidates, promote them or say why not."""
    invocation.settings, invocation.actor, invocation.verbose = settings, actor, verbose
    invocation.log_format = log_format


def run(arguments: Sequence[str]) -> int:
    """Run one command.

    Args:
        arguments: The command line, without the program's name.

    Returns:
        The exit code; everything that went wrong has been said on standard error.

    Raises:
        SystemExit: Whoever read standard output has gone; click ends quietly then, with 1.
    """
    invocation = Invocation()
    try:
        code = cli.main(list(arguments), prog_name="autoretrain", standalone_mode=False, obj=invocation)
    except click.ClickException as error:
        error.show()
        return CHANGE_SOMETHING
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except Exception as error:
        return _report(error, with_traceback=invocation.verbose > 1)
    return code if isinstance(code, int) else 0


def _report(error: Exception, with_traceback: bool) -> int:
    """Say what went wrong, a line a problem, and which exit code that is."""
    if with_traceback:
        import traceback

        click.echo(without_credentials("".join(traceback.format_exception(error))), err=True, nl=False)
    if isinstance(error, AutoRetrainError):
        for line in str(error).splitlines():
            click.echo(f"autoretrain: {line}", err=True)
        return TRY_AGAIN if isinstance(error, Temporary) else CHANGE_SOMETHING
    hint = "" if with_traceback else "; -vv shows where"
    text = without_credentials(f"unexpected {type(error).__name__}: {error}")
    click.echo(f"autoretrain: {text}{hint}", err=True)
    return TRY_AGAIN


def main() -> None:
    """Entry point of the program ``autoretrain``."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
