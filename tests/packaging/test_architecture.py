"""Rules of the house that import contracts cannot say, read from the syntax trees of the product."""

import ast
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from services import ROOT

HEAVY = frozenset(
    {
        "boto3",
        "botocore",
        "cryptography",
        "duckdb",
        "evidently",
        "httpx",
        "kubernetes",
        "matplotlib",
        "mlflow",
        "numpy",
        "pandas",
        "prometheus_client",
        "pyarrow",
        "scipy",
        "slack_sdk",
        "sklearn",
        "structlog",
    }
)
# Reading the time of day, and drawing at random. Measuring a duration (time.monotonic) is neither.
CLOCKS_AND_DICE = frozenset(
    {
        "datetime.now",
        "datetime.today",
        "datetime.utcnow",
        "date.today",
        "time.time",
        "time.time_ns",
        "time.gmtime",
        "time.localtime",
        "os.urandom",
        "uuid.uuid1",
        "uuid.uuid4",
    }
)
LOOKS = frozenset({"gathering.py", "job_looks.py", "trigger_looks.py"})
REACH_OUT = LOOKS | {"acting.py", "controller.py", "delivery.py", "world.py"}
"""The modules of the domain that may call a port: some look, one records, one acts, one sends notices."""
HOLDERS = frozenset({"Ports", "World"})
"""Names of ``world.py`` by which every port can be called."""
DICE_MODULES = frozenset({"random", "secrets"})


def _imports(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, str]]:
    """Every imported (module, name) among the nodes; the name is empty for ``import module``."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((("." * node.level) + (node.module or ""), alias.name) for alias in node.names)


def _run_on_import(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run when a module is imported: not those in functions or under TYPE_CHECKING."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _run_on_import(child)


def heavy_imports(tree: ast.Module) -> set[str]:
    """Heavy libraries that importing the module would load."""
    return {module.split(".")[0] for module, _ in _imports(_run_on_import(tree))} & HEAVY


def clocks_and_dice(tree: ast.Module) -> set[str]:
    """Uses of a clock or of chance: called, passed on or imported by name."""
    found = {module for module, _ in _imports(ast.walk(tree)) if module in DICE_MODULES}
    found |= {f"{module}.{name}" for module, name in _imports(ast.walk(tree))} & CLOCKS_AND_DICE
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            found |= {".".join(ast.unparse(node).split(".")[-2:])} & CLOCKS_AND_DICE
    return found


def _protocols() -> frozenset[str]:
    """Names of the ports: the classes in ports/ that derive from Protocol."""
    classes = (
        node for path in _modules("ports") for node in ast.walk(_tree(path)) if isinstance(node, ast.ClassDef)
    )
    return frozenset(
        node.name for node in classes if any(ast.unparse(base) == "Protocol" for base in node.bases)
    )


def named_ports(tree: ast.Module) -> set[str]:
    """Ports that a module imports, or what holds them all.

    A whole module of ports/ counts, since it hides which names are used.
    """
    found = set()
    for module, name in _imports(ast.walk(tree)):
        parts = module.split(".")
        if parts[-1] == "ports" or ("ports" in parts and (name in PROTOCOLS or not name)):
            found.add(name or module)
        if parts[-1] == "world" and name in HOLDERS:
            found.add(name)
    return found


def beyond_the_standard_library(tree: ast.Module) -> set[str]:
    """Imports that are neither the standard library nor a neighbour in the same folder."""
    return {
        module
        for module, _ in _imports(ast.walk(tree))
        if module.startswith("..")
        or (not module.startswith(".") and module.split(".")[0] not in sys.stdlib_module_names)
    }


def own_name_imports(tree: ast.Module) -> set[str]:
    """Absolute imports of the package by itself; the layers import each other relatively."""
    return {module for module, _ in _imports(ast.walk(tree)) if module.split(".")[0] == "autoretrain"}


def _modules(room: str) -> list[Path]:
    """Modules of a room; templates are programs of the user's, which we only copy."""
    return sorted(path for path in (ROOT / room).rglob("*.py") if "templates" not in path.parts)


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def _each(paths: Iterable[Path]) -> list[object]:
    return [pytest.param(path, id=path.relative_to(ROOT).as_posix()) for path in paths]


PROTOCOLS = _protocols()
DOMAIN = _modules("domain")
PRODUCT = [path for room in ("ports", "domain", "adapters", "entrypoints") for path in _modules(room)]


@pytest.mark.parametrize("path", _each(path for path in DOMAIN if path.name not in REACH_OUT))
def test_only_those_that_reach_out_name_a_port(path: Path) -> None:
    assert named_ports(_tree(path)) == set()


@pytest.mark.parametrize("path", _each(_modules("ports")))
def test_ports_import_nothing_but_the_standard_library(path: Path) -> None:
    assert beyond_the_standard_library(_tree(path)) == set()


@pytest.mark.parametrize("path", _each(path for path in PRODUCT if "greenlang" not in path.parts))
def test_the_product_imports_itself_relatively(path: Path) -> None:
    assert own_name_imports(_tree(path)) == set()


@pytest.mark.parametrize("path", _each(DOMAIN))
def test_the_domain_reads_no_clock_and_draws_nothing(path: Path) -> None:
    assert clocks_and_dice(_tree(path)) == set()


@pytest.mark.parametrize("path", _each(path for path in PRODUCT if "testing" not in path.parts))
def test_nothing_heavy_is_imported_before_it_is_used(path: Path) -> None:
    assert heavy_imports(_tree(path)) == set()


@pytest.mark.parametrize(
    ("rule", "source", "found"),
    [
        (heavy_imports, "import numpy as np", {"numpy"}),
        (
            heavy_imports,
            "try:\n    from mlflow.tracking import X\nexcept ImportError:\n    X = None",
            {"mlflow"},
        ),
        (heavy_imports, "class A:\n    import pandas", {"pandas"}),
        (heavy_imports, "def f():\n    import numpy", set()),
        (heavy_imports, "class A:\n    def f(self):\n        import numpy", set()),
        (heavy_imports, "if TYPE_CHECKING:\n    import numpy", set()),
        (clocks_and_dice, "at = datetime.now(UTC)", {"datetime.now"}),
        (clocks_and_dice, "import datetime as dt\nclock = dt.datetime.now", {"datetime.now"}),
        (clocks_and_dice, "from time import time", {"time.time"}),
        (clocks_and_dice, "from uuid import uuid4", {"uuid.uuid4"}),
        (clocks_and_dice, "import random", {"random"}),
        (clocks_and_dice, "started = time.monotonic()", set()),
        (named_ports, "from ..ports.ledger import Append, Ledger", {"Ledger"}),
        (named_ports, "from ..ports import ledger\nx: ledger.Ledger", {"ledger"}),
        (named_ports, "import autoretrain.ports.ledger", {"autoretrain.ports.ledger"}),
        (named_ports, "from .triggers import Observations", set()),
        (named_ports, "from .world import Ports", {"Ports"}),
        (named_ports, "from .world import Tally", set()),
        (beyond_the_standard_library, "import numpy.linalg", {"numpy.linalg"}),
        (beyond_the_standard_library, "from ..domain import jobs", {"..domain"}),
        (beyond_the_standard_library, "from typing import Any\nfrom .values import Json", set()),
        (own_name_imports, "from autoretrain.ports.data import Snapshot", {"autoretrain.ports.data"}),
        (own_name_imports, "from ..ports.data import Snapshot", set()),
        (named_ports, "from ..ports.ledger import Append", set()),
    ],
)
def test_the_rules_find_what_they_are_for(
    rule: Callable[[ast.Module], set[str]], source: str, found: set[str]
) -> None:
    assert rule(ast.parse(source)) == found
