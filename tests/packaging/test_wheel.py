"""What the wheel holds: the package, the seed's import path, and nothing else."""

import tomllib
from pathlib import Path

import pytest

from checkout import copy_tree, wheel_members
from services import ROOT

ROOMS = ("ports", "domain", "adapters", "entrypoints")


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Names of the files in a wheel that is built from a copy of the tree."""
    return wheel_members(copy_tree(tmp_path_factory.mktemp("wheel") / "tree"))


def test_only_the_package_and_the_seed_path_are_packed(members: list[str]) -> None:
    strangers = [
        name
        for name in members
        if not name.startswith(("autoretrain/", "greenlang/ml/pipelines/")) and ".dist-info/" not in name
    ]
    assert strangers == []
    second_level = {name.split("/")[1] for name in members if name.startswith("autoretrain/")}
    assert second_level == {"__init__.py", "py.typed", *ROOMS}


def test_greenlang_stays_a_namespace_package(members: list[str]) -> None:
    inside = {name for name in members if name.startswith("greenlang/")}
    assert inside == {f"greenlang/ml/pipelines/{name}" for name in ("__init__.py", "py.typed")}


def _source_name(packed: str) -> str:
    return packed.removeprefix("autoretrain/").replace("greenlang/ml/pipelines/", "entrypoints/greenlang/")


def test_every_file_of_the_rooms_is_packed(members: list[str]) -> None:
    on_disk = {
        path.relative_to(ROOT).as_posix()
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    packed = {_source_name(name) for name in members if ".dist-info/" not in name}
    assert packed == on_disk | {"__init__.py", "py.typed"}


def test_licence_is_packed(members: list[str]) -> None:
    assert [name for name in members if name.endswith("licenses/LICENSE")]


def test_every_folder_with_modules_is_a_listed_package() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    modules = (path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.py"))
    folders = {path.parent for path in modules if "templates" not in path.parts}
    names = {
        ".".join(("autoretrain", *folder.parts))
        for folder in folders
        if folder != Path("entrypoints/greenlang")
    }
    assert names | {"autoretrain", "greenlang.ml.pipelines"} == listed
