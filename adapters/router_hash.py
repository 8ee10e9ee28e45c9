"""Splits in files, one a model, for serving programs that embed ``RequestRouter``."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from ..ports.errors import SplitMoved
from ..ports.traffic import Split
from .split_file import one_at_a_time, read_text, replace_text
from .split_text import split_of, text_of


class HashRouter:
    """Implements TrafficRouter: ``folder/<model>.json`` holds the split; no file is no split.

    A change counts from the next request on, on every machine that sees the folder.

    Args:
        folder: Where the files are; made when it is not there.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def path(self, model: str) -> Path:
        """The file of a model, for its ``RequestRouter``."""
        name = quote(model, safe="").replace(".", "%2E")  # so that ".." leads nowhere
        return self._folder / f"{name}.json"

    def in_force(self, model: str) -> Split | None:
        """Read the split of a model."""
        path = self.path(model)
        text = read_text(path)
        if text is None:
            return None
        try:
            split = split_of(text)
        except ValueError as error:
            raise SplitMoved(model, "a split", f"{path} as somebody left it: {error}") from None
        if split.model != model:
            raise SplitMoved(model, "a split", f"that of {split.model}, in {path}")
        return split

    def apply(self, split: Split, expected: Split | None) -> None:
        """Put a split in force, if the expected one still is."""
        with one_at_a_time(self._folder):
            found = self.in_force(split.model)
            if found not in (split, expected):
                raise SplitMoved(split.model, expected, found)
            replace_text(self.path(split.model), f"{text_of(split)}\n")

    def clear(self, model: str, expected: Split) -> None:
        """Send all requests of a model to the champion, if the expected split still is in force."""
        with one_at_a_time(self._folder):
            found = self.in_force(model)
            if found not in (None, expected):
                raise SplitMoved(model, expected, found)
            replace_text(self.path(model), None)

    def examine(self, model: str) -> None:
        """See whether the file of a model can be read, and files be written beside it.

        Raises:
            SplitMoved: What is in it is no split of ours.
            Temporary: They cannot be written now.
            Permanent: They may not be written.
        """
        self.in_force(model)
        with one_at_a_time(self._folder):
            pass

    def reset(self, model: str) -> None:
        """Send all requests of a model to the champion, whatever is in force."""
        with one_at_a_time(self._folder):
            replace_text(self.path(model), None)
