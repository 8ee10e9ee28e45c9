"""The public names: importable, lazy, and the same objects under both paths."""

import subprocess
import sys
from importlib import import_module

import pytest

import autoretrain
import greenlang.ml.pipelines as seed_path


@pytest.mark.parametrize("name", autoretrain.__all__)
def test_name_is_importable_and_the_same_under_both_paths(name: str) -> None:
    assert getattr(autoretrain, name) is getattr(seed_path, name)


def test_both_paths_export_the_same_names() -> None:
    assert seed_path.__all__ == autoretrain.__all__


def test_the_first_spelling_of_the_job_stays() -> None:
    assert autoretrain.RetariningJob is autoretrain.RetrainingJob


@pytest.mark.parametrize("module", ["autoretrain", "greenlang.ml.pipelines"])
def test_an_unknown_name_is_an_attribute_error(module: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'Pipelin'"):
        import_module(module).Pipelin  # noqa: B018


def test_importing_the_package_loads_none_of_its_modules() -> None:
    script = (
        "import sys, greenlang.ml.pipelines; print([m for m in sys.modules if m.startswith('autoretrain.')])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() == "[]"
