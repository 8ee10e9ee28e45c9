"""One copy of each module, also in a folder whose name is no identifier.

The root of the repository is the package itself, so a careless tool can load a file twice: as
``autoretrain.ports.data`` and under a name made from its path.
"""

import os
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest

from checkout import copy_tree

COPIES = '''
import importlib, os, pkgutil, sys

def copies(root):
    """Files under root that are loaded as more than one module."""
    names = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and name != "__main__":
            names.setdefault(os.path.realpath(file), set()).add(name)
    return {file: sorted(found) for file, found in names.items() if file.startswith(root) and len(found) > 1}

def load_everything():
    import autoretrain, greenlang.ml.pipelines
    for found in pkgutil.walk_packages(autoretrain.__path__, "autoretrain."):
        if not found.name.endswith(".__main__"):
            importlib.import_module(found.name)

def loaded():
    return {os.path.realpath(m.__file__) for n, m in sys.modules.items() if n.startswith("autoretrain")}

def pytest_sessionfinish(session):
    load_everything()
    root = os.path.realpath(session.config.rootpath)
    print("\\ncollected", session.testscollected, "copies", copies(root))
'''


class Checkout:
    """A copy of the tree, installed as a developer would, with the libraries of this environment."""

    def __init__(self, folder: Path) -> None:
        self.tree = copy_tree(folder / "a-b.c")
        venv.create(folder / "venv", with_pip=False)
        self.python = folder / "venv" / "bin" / "python"
        borrowed = sysconfig.get_path("purelib")
        own = self.run("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
        Path(own, "borrowed.pth").write_text(borrowed + "\n")
        self.probe = folder / "probe"
        self.probe.mkdir()
        (self.probe / "layout_probe.py").write_text(COPIES)
        (self.tree / "tests" / "test_anything.py").write_text(
            "def test_anything():\n    import autoretrain\n"
        )
        # --ignore-installed: the borrowed libraries hold an install of the tree we were copied from.
        self.run(
            *("-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--ignore-installed"),
            *("--no-deps", "--no-build-isolation", "-e", ".", "--config-settings", "editable_mode=strict"),
        )

    def run(self, *arguments: str) -> str:
        """Run this checkout's Python in its folder, which is not put on the path; return what it printed."""
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON"))
        }
        environment |= {"PYTHONPATH": str(getattr(self, "probe", "")), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [str(self.python), "-P", *arguments],
            cwd=self.tree,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("layout"))


def test_an_install_loads_each_file_once_and_from_the_tree(checkout: Checkout) -> None:
    script = (
        "from layout_probe import *; load_everything(); root = os.getcwd();"
        "print(copies(root), {f for f in loaded() if not f.startswith(root + os.sep)})"
    )
    assert checkout.run("-c", script).split("\n")[0] == "{} set()"


@pytest.mark.parametrize("selected", [("--collect-only", "tests"), ("tests/test_anything.py",)])
def test_pytest_loads_each_file_once(checkout: Checkout, selected: tuple[str, ...]) -> None:
    printed = checkout.run("-m", "pytest", "-p", "layout_probe", "-p", "no:cacheprovider", *selected)
    [line] = [line for line in printed.splitlines() if line.startswith("collected ")]
    assert line.endswith(" copies {}")
    assert not line.startswith("collected 0 ")


@pytest.mark.slow
def test_mypy_sees_each_file_once(checkout: Checkout) -> None:
    """mypy refuses a file that it finds under two names; the package's own errors are lint's business."""
    checkout.run(
        "-m", "mypy", "--cache-dir", os.devnull, "--follow-imports=silent", "-m", "autoretrain.ports.ledger"
    )
