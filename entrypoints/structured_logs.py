"""The log of a process of ours: one line an event, as text for people or as JSON for programs.

Everything goes through the standard library's ``logging``, ours and the libraries', and then through the same
processors of structlog: ids of model, job and run, time in UTC, level, logger, and no secrets.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from ..domain.log_context import bound
from ..ports.credentials import without_credentials

if TYPE_CHECKING:
    from structlog.typing import Processor

LogFormat = Literal["console", "json"]

IDS = ("model", "job", "run", "notice", "seq")
"""What a line may be about; the other extras of a record are left out, since nobody knows what is in them."""

_OTHERS_SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "PGPASSWORD")
_LEAST_SECRET = 6
"""Characters; hiding a shorter one would hide half of what is said."""

_MLFLOW_TALKS = ("MLFLOW_CONFIGURE_LOGGING", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR")
_SET_UP_BY_MLFLOW = ("mlflow", "sqlalchemy.engine", "alembic", "huey")

set_by_us: list[str] = []
"""Variables of the environment that are ours alone: a training of the user's must not inherit them."""

_Event = MutableMapping[str, Any]


class IdsFilter(logging.Filter):
    """Gives every record the ids that are bound where it is made, unless it has its own.

    For a handler of your own, too: ``handler.addFilter(IdsFilter())``, and ``%(model)s`` in its format.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the ids; lets every record pass."""
        for name, value in bound().items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


class _StandardError(logging.StreamHandler[Any]):
    """Writes to what is standard error at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def configure(log_format: LogFormat, *, ours: int, others: int, secrets: Iterable[str] = ()) -> None:
    """Send the log of this process to standard error. May be called again, to change it.

    Args:
        log_format: ``console`` for people (in colours on a terminal), ``json`` for programs.
        ours: Least level of our own lines.
        others: Least level of the libraries' lines.
        secrets: Values that no line may hold.
    """
    import structlog

    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(allow=IDS),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        Concealer(secrets),
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer(log_format)],
    )
    handler = _StandardError()
    handler.addFilter(IdsFilter())
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for earlier in [each for each in root.handlers if isinstance(each, _StandardError)]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(others)
    _take_over()
    logging.getLogger("autoretrain").setLevel(ours)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    if log_format == "json":  # a warning of Python's own would be a line that is no JSON
        logging.captureWarnings(True)


def _take_over() -> None:
    """Lead the loggers of MLflow our way, too; it gives them a handler of its own when it is imported.

    Its progress bars are no lines at all, and go to standard error as well.
    """
    for variable in _MLFLOW_TALKS:
        if variable not in os.environ:
            os.environ[variable] = "false"
            set_by_us.append(variable)
    for name in _SET_UP_BY_MLFLOW if "mlflow" in sys.modules else ():
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)


def _renderer(log_format: LogFormat) -> Processor:
    import structlog

    if log_format == "json":
        return structlog.processors.JSONRenderer(ensure_ascii=False)
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )


class Concealer:
    """A processor of structlog that takes secrets out of a line, wherever they came from.

    Args:
        secrets: Values that no line may hold; of an address, its path alone is hidden as well.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        found = {part for secret in secrets for part in (secret, _path(secret)) if len(part) >= _LEAST_SECRET}
        longest_first = sorted(found, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, longest_first))) if found else None

    def __call__(self, logger: Any, method: str, event: _Event) -> _Event:
        """Hide secrets in every text of the line."""
        for name, value in event.items():
            if isinstance(value, str):
                event[name] = self.conceal(value)
        return event

    def conceal(self, text: str) -> str:
        """Hide secrets, and the credentials of any address, in a text."""
        text = without_credentials(text)
        return self._secrets.sub("***", text) if self._secrets else text


def _path(secret: str) -> str:
    try:
        return urlsplit(secret).path if "://" in secret else ""
    except ValueError:
        return ""


def secrets_of(names: Iterable[str], environment: Callable[[str], str | None] = os.environ.get) -> list[str]:
    """Values of the environment that no line may hold.

    Args:
        names: Variables that hold a secret of ours; those of the tools we use are added.
        environment: Gives the value of a variable.
    """
    return [value for name in (*names, *_OTHERS_SECRETS) if (value := environment(name))]
