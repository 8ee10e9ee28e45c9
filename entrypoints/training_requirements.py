"""The packages that a model is made of, at the versions installed here."""

from __future__ import annotations

import contextlib
import io
from importlib import metadata
from typing import Any

# What reads artefact and rows, whatever the model is.
_ALWAYS = frozenset({"cloudpickle", "pandas", "pyarrow"})


def pinned_requirements(model: Any) -> list[str]:
    """List what a model needs to be loaded, as requirements of pip.

    Found by walking the model as its serialisation does: a pipeline around another library's estimator
    names both. Modules that no installed distribution brings (a script, a project folder) are left out.

    Args:
        model: The model.

    Returns:
        Lines ``name==version``, sorted.
    """
    owners = metadata.packages_distributions()
    names = {name for package in _packages(model) | _ALWAYS for name in owners.get(package, ())}
    return sorted(f"{name}=={metadata.version(name)}" for name in names)


def _packages(model: Any) -> set[str]:
    """Name the top-level packages of a model's class, its bases, and every object in it."""
    import cloudpickle

    found = {base.__module__.partition(".")[0] for base in type(model).__mro__}

    class Walk(cloudpickle.Pickler):  # type: ignore[misc]
        def persistent_id(self, value: Any) -> None:
            owner = value if hasattr(value, "__qualname__") else type(value)
            module = getattr(owner, "__module__", None)
            if isinstance(module, str):
                found.add(module.partition(".")[0])

    # What cannot be pickled (a network on a device) is named by what was met until then.
    with contextlib.suppress(Exception):
        Walk(_Nowhere()).dump(model)
    return found


class _Nowhere(io.RawIOBase):
    """A file that keeps nothing."""

    def write(self, data: Any) -> int:
        return len(memoryview(data).cast("B"))
