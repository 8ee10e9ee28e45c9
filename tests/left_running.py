"""What was left running by a project."""

import time
from collections.abc import Iterator
from pathlib import Path

import psutil


def processes_in(home: Path, seconds: float = 5.0) -> list[str]:
    """Processes that were started with something of a directory on their command line.

    Args:
        home: The directory.
        seconds: So long may they take to end.
    """
    deadline = time.monotonic() + seconds
    while (found := list(_named(str(home)))) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def _named(text: str) -> Iterator[str]:
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if text in command:
            yield command[:200]
