"""What tests need from the machine: real servers, and the real data beside the repository.

Imported by its bare name (``from services import require``); see "Tests" in CONTRIBUTING.md.
"""

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
REQUIRED = "AUTORETRAIN_REQUIRE_SERVICES"


def require(program: str, hint: str) -> str:
    """Return the path of a program, or skip the test when it is not installed.

    Args:
        program: Name on the PATH (``prometheus``).
        hint: How to install it (``apt-get install prometheus``).

    Returns:
        The path of the program. A test without it is skipped, or failed when
        ``AUTORETRAIN_REQUIRE_SERVICES=1``.
    """
    path = shutil.which(program)
    if path is not None:
        return path
    message = f"{program} is not installed: {hint}"
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{message} ({REQUIRED}=1)", pytrace=False)
    pytest.skip(message)


def require_data(name: str = "gas_turbine") -> Path:
    """Return the folder of a real data set, or skip the test where it is absent; it never fails for that.

    Args:
        name: Folder in ``../shared/data``, beside the repository.
    """
    folder = ROOT.parent / "shared" / "data" / name
    if not folder.is_dir():
        pytest.skip(f"no real data: {Path('..', 'shared', 'data', name)} is not beside the repository")
    return folder
