"""Where the settings file is, and its plain values: what a command that only looks needs of it."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from ..ports.errors import ConfigurationError, Problem

FILE_NAME = "autoretrain.toml"
FILE_VARIABLE = "AUTORETRAIN_SETTINGS"
DEFAULT_STATE = ".autoretrain"


def find_settings_file(path: str | Path | None = None) -> Path:
    """The settings file to use: the argument, ``$AUTORETRAIN_SETTINGS``, or the one in this directory.

    Raises:
        ConfigurationError: There is none.
    """
    chosen = Path(path or os.environ.get(FILE_VARIABLE) or FILE_NAME)
    if chosen.is_dir():
        chosen = chosen / FILE_NAME
    if not chosen.is_file():
        fix = "no such file; 'autoretrain init' writes a project with one, or name it with --settings"
        raise ConfigurationError([Problem("settings", str(chosen), fix)])
    return chosen.absolute()


def read_toml(path: Path) -> dict[str, Any]:
    """Read a settings file as plain values.

    Raises:
        ConfigurationError: It cannot be read, or is not TOML; names line and column.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError([Problem(str(path), "", f"cannot be read as TOML: {error}")]) from None
