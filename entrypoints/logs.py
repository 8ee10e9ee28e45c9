"""What the log must not tell, and holding back what a library logs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ..ports.credentials import without_credentials


class CarefulFormatter(logging.Formatter):
    """Takes credentials out of every line, whoever logged it: messages, arguments and tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        return without_credentials(super().format(record))


@contextmanager
def only_errors(logger_name: str) -> Iterator[None]:
    """Let a logger pass nothing below an error, for as long as the context lasts.

    Args:
        logger_name: Name of the logger.
    """
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
