"""Splits as files that nginx includes: written, checked by nginx, and reloaded."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ..ports.credentials import without_credentials
from ..ports.errors import Permanent, SplitMoved, Temporary
from ..ports.traffic import Split
from .nginx_split import NginxPlaces, read, rendered, unused
from .split_file import one_at_a_time, read_text, replace_text


class NginxRouter:
    """Implements TrafficRouter: ``folder/<variable>.conf`` a model, included by nginx's ``http`` block.

    A file that nginx refuses is taken back before anything is reloaded. What it was before is kept beside it
    until nginx has been told to reload, so that a crash in between loses nothing: the call made again
    completes it.

    Args:
        folder: Where the files are; made when it is not there.
        places: Where requests go, by model.
        check: Command that ends with success when nginx would take its configuration. ``nginx -T`` prints it,
            too, and then it is checked that the split is in it and used.
        reload: Command that makes nginx read its configuration again.
        timeout: Seconds that either may take.
    """

    def __init__(
        self,
        folder: str | Path,
        places: Mapping[str, NginxPlaces],
        *,
        check: Sequence[str] = ("nginx", "-T"),
        reload: Sequence[str] = ("nginx", "-s", "reload"),
        timeout: float = 30.0,
    ) -> None:
        self._folder = Path(folder)
        self._places = dict(places)
        self._check = tuple(check)
        self._reload = tuple(reload)
        self._timeout = timeout

    def path(self, model: str) -> Path:
        """The file of a model.

        Raises:
            Permanent: It is not set up.
        """
        return self._folder / f"{self._of(model).variable}.conf"

    def in_force(self, model: str) -> Split | None:
        """Read the split of a model; there is none before its first file."""
        path = self.path(model)
        text = read_text(path)
        if text is None:
            return None
        try:
            split = read(self._of(model), text)
        except (ValueError, Permanent) as error:
            raise SplitMoved(model, "a split", f"{path} as somebody left it: {error}") from None
        if split is not None and split.model != model:
            raise SplitMoved(model, "a split", f"that of {split.model}, in {path}")
        return split

    def apply(self, split: Split, expected: Split | None) -> None:
        """Put a split in force, if the expected one still is."""
        text = rendered(self._of(split.model), split)
        with one_at_a_time(self._folder):
            found = self.in_force(split.model)
            if found not in (split, expected):
                raise SplitMoved(split.model, expected, found)
            self._put(split.model, text, split)

    def clear(self, model: str, expected: Split) -> None:
        """Send all requests of a model to the champion, if the expected split still is in force."""
        with one_at_a_time(self._folder):
            found = self.in_force(model)
            if found not in (None, expected):
                raise SplitMoved(model, expected, found)
            self._put(model, rendered(self._of(model), None), None)

    def reset(self, model: str) -> None:
        """Send all requests of a model to the champion, whatever is in force."""
        with one_at_a_time(self._folder):
            self._put(model, rendered(self._of(model), None), None)

    def examine(self, model: str) -> None:
        """Ask nginx whether it would take its configuration, and whether it uses the file of a model.

        Raises:
            Temporary: The command took too long.
            Permanent: It would not, or does not.
        """
        text = read_text(self.path(model))
        if text is None:
            raise Permanent(
                f"{self.path(model)} is not there yet: autoretrain traffic reset {model!r} makes it"
            )
        if (fault := self._fault(model, text, self.in_force(model))) is not None:
            raise Permanent(fault)

    def _of(self, model: str) -> NginxPlaces:
        if model not in self._places:
            raise Permanent(f"traffic.models.{model}: say where nginx sends the requests of this model")
        return self._places[model]

    def _put(self, model: str, text: str, split: Split | None) -> None:
        """Write a file, have it checked and read; whatever is refused leaves the file as it was."""
        path = self.path(model)
        kept = path.with_name(f"{path.name}.before")
        if (before := read_text(kept)) is None:  # else a crash came in between, and this one was in force
            before = read_text(path)
            replace_text(kept, before or "")
        try:
            replace_text(path, text)
            if (fault := self._fault(model, text, split)) is not None:
                replace_text(path, before or None)
                raise self._blamed(fault)
            self._run(self._reload)
        except BaseException:
            replace_text(path, before or None)
            replace_text(kept, None)
            raise
        replace_text(kept, None)

    def _blamed(self, fault: str) -> Temporary | Permanent:
        """What a fault means: one that stays without our change is somebody else's, who may mend it."""
        try:
            self._run(self._check)
        except Temporary as still:
            return Temporary(f"without our change, too: {still}")
        return Permanent(fault)

    def _fault(self, model: str, text: str, split: Split | None) -> str | None:
        """Say why nginx would not do what the file of a model asks; ``None`` when it would."""
        try:
            dump = self._run(self._check)
        except _Refused as refused:
            return str(refused)
        if not re.search(r"^# configuration file ", dump, re.MULTILINE):
            return None  # a check that does not print the configuration cannot tell more
        if text not in dump:
            return f"nginx does not read {self.path(model)}: include it in its http block"
        return unused(self._of(model), split, dump.replace(text, ""))

    def _run(self, command: Sequence[str]) -> str:
        """Run a command to its end; what it printed."""
        name = " ".join(command)
        try:
            with subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            ) as process:
                try:
                    printed, said = process.communicate(timeout=self._timeout)
                except BaseException:
                    _end(process)
                    raise
        except subprocess.TimeoutExpired:
            raise Temporary(f"{name} took longer than {self._timeout:g} s, and was ended") from None
        except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
            raise Permanent(f"{name} cannot be run: {error.strerror}") from None
        except OSError as error:
            raise Temporary(f"{name} cannot be run: {error.strerror}") from None
        if process.returncode:
            raise _Refused(f"{name} says no: {_told(said.decode(errors='replace'))}")
        return printed.decode(errors="replace")


class _Refused(Temporary):
    """A command ended with a status other than 0."""


def _told(said: str) -> str:
    """The line of nginx's that says what is wrong."""
    lines = said.strip().splitlines() or ["it said nothing"]
    wrong = [line for line in lines if "[emerg]" in line or "[error]" in line]
    return without_credentials((wrong or lines[-1:])[0])[:300]


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
