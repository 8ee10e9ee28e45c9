"""The functions that users name for measures of their own."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from ..ports.errors import Problem
from .settings import Settings

Function = Callable[..., object]

_TAKES = "it has to take labels, predictions and weights (or, by name, sample_weight)"


@dataclass(frozen=True, slots=True)
class OwnMetrics:
    """What was found.

    Attributes:
        functions: By ``module:function``; they take three arrays.
        problems: Why others cannot be used.
    """

    functions: dict[str, Function]
    problems: list[Problem]


def load_own_metrics(settings: Settings) -> OwnMetrics:
    """Import every function that the settings name for a measure.

    Args:
        settings: Checked settings.

    Returns:
        The functions, and all that is wrong with others.
    """
    found: dict[str, Function | str] = {}
    problems = []
    for model, spec in settings.models.items():
        for name, own in spec.own_metrics.items():
            if own.function not in found:
                found[own.function] = _loaded(own.function, settings.base)
            flaw = found[own.function]
            if isinstance(flaw, str):
                where = f"models.{model}.own_metrics.{name}.function"
                problems.append(Problem(where, repr(own.function), flaw))
    functions = {name: function for name, function in found.items() if not isinstance(function, str)}
    return OwnMetrics(functions, problems)


def _loaded(named: str, base: Path) -> Function | str:
    """The function, or why it cannot be used."""
    module_name, _, name = named.partition(":")
    file = base.joinpath(*module_name.split(".")).with_suffix(".py")
    try:
        module = _from_file(file) if file.is_file() else importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # it is the user's code
        return _not_imported(module_name, file, error)
    if not hasattr(module, name):
        return f"{module_name} has no {name}; name a function that it has"
    function = getattr(module, name)
    if not callable(function):
        return f"{name} is {type(function).__name__}, and no function; {_TAKES}"
    return _of_three(function)


def _not_imported(module: str, file: Path, error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]:
        return f"there is no module {module}; write it to {file}, or install it"
    return f"{module} cannot be imported: {type(error).__name__}: {error}"


def _from_file(file: Path) -> ModuleType:
    """Run a file beside the settings as a module that no import finds: other projects have such files."""
    spec = spec_from_file_location(f"own metrics of {file}", file)
    assert spec is not None and spec.loader is not None  # noqa: S101, PT018  (it ends in .py)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _of_three(function: Function) -> Function | str:
    """As one of three arguments; scikit-learn's measures take weights by name."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # written in C: whether it takes weights is seen when it is called
        return function
    by_name = "sample_weight" in signature.parameters
    try:
        signature.bind(None, None, **{"sample_weight": None}) if by_name else signature.bind(None, None, None)
    except TypeError as error:
        return f"{_TAKES}, and this does not: {error}"
    if not by_name:
        return function
    return lambda labels, predictions, weights: function(labels, predictions, sample_weight=weights)
