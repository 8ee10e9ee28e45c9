"""Copies of the working tree, for tests of how it installs and packs."""

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

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


def wheel_members(tree: Path) -> list[str]:
    """Build the wheel of a copy, and return the names of the files in it."""
    out = tree / "out"
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(tree)]
    built = subprocess.run(build, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    [wheel] = out.glob("*.whl")
    return sorted(ZipFile(wheel).namelist())
