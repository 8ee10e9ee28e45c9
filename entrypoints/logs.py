"""Holding back what a library logs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


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
