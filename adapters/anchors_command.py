"""Anchors handed to a command of the user's: ``git commit``, ``aws s3 cp``, a timestamp service."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from ..ports.credentials import without_credentials
from ..ports.errors import Permanent, Temporary
from .anchors_file import FileAnchors


class CommandAnchors:
    """Implements ``AnchorKeeper``: one run of the command an anchor, with its line on standard input.

    Every anchor is written to a journal first, and every one that was not confirmed yet is handed over, in
    order, before a new one; so that what the command has seen has no gap, whatever failed in between. An
    anchor may be handed over twice, after a crash.

    Args:
        command: Program and arguments, without a shell. ``AUTORETRAIN_ANCHOR`` in its environment is the
            anchor's number. Exit status 0 confirms it.
        journal: File of the copies; beside it stands the digest of the last one that was confirmed.
        directory: Working directory; ``None`` leaves it.
        timeout: Seconds that one run may take.
        withheld: Environment variables that the command does not get.
    """

    def __init__(
        self,
        command: Sequence[str],
        journal: str | Path,
        *,
        directory: str | Path | None = None,
        timeout: float = 60.0,
        withheld: Iterable[str] = (),
    ) -> None:
        self._command = tuple(command)
        self._journal = FileAnchors(journal)
        self._confirmed = Path(f"{Path(journal).absolute()}.confirmed")
        self._directory = directory
        self._timeout = timeout
        self._withheld = frozenset(withheld)

    def keep(self, number: int, text: str) -> None:
        """Hand over every anchor that waits, this one last; see ``AnchorKeeper.keep``."""
        self._journal.keep(number, text)
        for line in self.waiting():
            self._hand_over(line)
            self._confirm(line)

    def latest(self) -> str | None:
        """The copy of the latest anchor, confirmed or not."""
        return self._journal.latest()

    def kept(self) -> Iterable[str]:
        """The copies of all anchors, confirmed or not."""
        return self._journal.kept()

    def waiting(self) -> list[str]:
        """Anchors that the command has not taken yet, oldest first.

        All of them, where the one that was confirmed last is not in the journal: it is another journal.
        """
        try:
            confirmed = self._confirmed.read_text().strip()
        except FileNotFoundError:
            confirmed = ""
        except OSError as error:
            raise Temporary(f"{self._confirmed} cannot be read: {error.strerror}") from None
        lines: list[str] = []
        for line in self.kept():
            lines = [] if _digest(line) == confirmed else [*lines, line]
        return lines

    def _confirm(self, line: str) -> None:
        new = Path(f"{self._confirmed}.new")
        try:
            new.write_text(f"{_digest(line)}\n")
            os.replace(new, self._confirmed)
        except OSError as error:
            raise Temporary(f"{self._confirmed} cannot be written to: {error.strerror}") from None

    def _hand_over(self, line: str) -> None:
        name = self._command[0]
        environment = {key: value for key, value in os.environ.items() if key not in self._withheld}
        environment["AUTORETRAIN_ANCHOR"] = str(json.loads(line)["number"])
        try:
            status, said = self._run(line, environment)
        except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
            raise Permanent(f"{name} cannot be run: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            raise Temporary(f"{name} took longer than {self._timeout:g} s, and was ended") from None
        except OSError as error:
            raise Temporary(f"{name} cannot be run: {error.strerror}") from None
        if status:
            last = said.strip().splitlines()[-1:] or ["it said nothing"]
            raise Temporary(f"{name} ended with status {status}: {without_credentials(last[0])[:300]}")

    def _run(self, line: str, environment: dict[str, str]) -> tuple[int, str]:
        """Run the command to its end, in a session of its own, so that all of it can be ended."""
        with subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=self._directory,
            env=environment,
            start_new_session=True,
        ) as process:
            try:
                _, said = process.communicate(f"{line}\n".encode(), self._timeout)
            except BaseException:
                _end(process)
                raise
        return process.returncode, said.decode(errors="replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _digest(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()
