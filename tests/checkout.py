"""Copies of the working tree, for tests of how it installs and packs."""

import shutil
import subprocess
from pathlib import Path

from services import ROOT


def copy_tree(folder: Path) -> Path:
    """Copy what git knows or would add (uncommitted work too) into a new folder, and return it."""
    listed = subprocess.run(
        # safe.directory: CI may run as another user than the one who cloned.
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        source, target = ROOT / name, folder / name
        if source.is_file():  # not one that is deleted but still in the index
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return folder
