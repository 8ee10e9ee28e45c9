"""A call that must end in time, whatever the other side does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


class TooLate(Exception):
    """The call had not ended in time. It may still take effect, unseen."""


def within(seconds: float, call: Callable[[], _T]) -> _T:
    """Make a call in a thread of its own, and wait for it so long and no longer.

    The time limits of sockets begin anew with every byte, and looking up a name has none at all.

    Args:
        seconds: How long to wait.
        call: What to do.

    Returns:
        What the call returned.

    Raises:
        TooLate: It took longer. Its thread ends when the call does, and keeps no process alive.
        BaseException: What the call raised.
    """
    answers: list[_T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="within", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        raise TooLate
    return answers[0]
