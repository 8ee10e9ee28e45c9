"""Notices as lines of the standard log."""

from __future__ import annotations

import logging

from ..ports.notifier import Notice

_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.CRITICAL}


class LogNotifier:
    """Writes one line a notice; what it says can be found again by the notice's id.

    Args:
        logger_name: Name of the logger; handlers and level are the application's.
    """

    def __init__(self, logger_name: str = "autoretrain.notices") -> None:
        self._logger = logging.getLogger(logger_name)

    def send(self, notice: Notice) -> None:
        """Write the notice; a repeated notice is written again, with the same id."""
        facts = ", ".join(f"{name}={value}" for name, value in notice.facts.items())
        parts = (notice.title, notice.body, facts)
        text = " | ".join(" ".join(part.split()) for part in parts if part.strip())
        ids = {"model": notice.model, "notice": notice.id}
        if "job" in notice.facts:
            ids["job"] = notice.facts["job"]
        self._logger.log(
            _LEVELS[notice.severity], "[%s] %s %s: %s", notice.id, notice.model, notice.event, text, extra=ids
        )
