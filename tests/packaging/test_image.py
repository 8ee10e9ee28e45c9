"""``deploy/Containerfile`` without an engine: what it is built from, what it says of itself, and its SBOM."""

import fnmatch
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path

import pytest
import yaml

from checkout import copy_tree, wheel_members
from services import ROOT

FILE = (ROOT / "deploy" / "Containerfile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def context(tree: Path) -> Path:
    """Take away what ``.dockerignore`` keeps out of a build."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = [line[1:] for line in lines if line.startswith("!")]
    for path in sorted(tree.rglob("*"), reverse=True):
        name = path.relative_to(tree).as_posix()
        if path.is_file() and not any(
            fnmatch.fnmatch(name, each) or name.startswith(f"{each}/") for each in let_in
        ):
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    return tree


def test_what_the_build_gets_makes_the_same_wheel_as_the_tree(tmp_path: Path) -> None:
    whole = copy_tree(tmp_path / "whole")
    small = context(Path(shutil.copytree(whole, tmp_path / "small")))
    assert not (small / "tests").exists()
    for named in ("constraints.txt", "deploy/make_sbom"):
        assert named in FILE
        assert (small / named).is_file()
    assert wheel_members(small) == wheel_members(whole)


def test_it_says_what_it_is_as_the_manifests_know_it() -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', FILE))
    assert labels["version"] == PROJECT["version"]
    assert labels["licenses"] == PROJECT["license"]
    manifests = ROOT / "deploy" / "kubernetes"
    deployment = next(yaml.safe_load_all((manifests / "controller.yaml").read_text(encoding="utf-8")))
    pod = deployment["spec"]["template"]["spec"]
    tag = f"autoretrain:{PROJECT['version']}"
    assert pod["containers"][0]["image"] == tag
    settings = tomllib.loads((manifests / "autoretrain.toml").read_text(encoding="utf-8"))
    assert settings["kubernetes"]["image"] == tag
    user = pod["securityContext"]["runAsUser"]
    assert f"\nUSER {user}:{user}\n" in FILE
    assert {settings["kubernetes"][kind]["user"] for kind in ("training", "prediction")} == {user}


def test_image_and_sbom_hold_the_same_extra() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.findall(r"\.whl\)\[([\w,]+)\]", FILE) == re.findall(
        r"'\.\[([\w,]+)\]'$", makefile.split("\nsbom:")[1], re.M
    )
    assert "cluster" in PROJECT["optional-dependencies"]


def of_the_sbom(test: Callable[..., None]) -> Callable[..., None]:
    """Validating takes seconds; one process makes it."""
    marked: Callable[..., None] = pytest.mark.slow(pytest.mark.xdist_group("sbom")(test))
    return marked


@pytest.fixture(scope="module")
def sbom(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The SBOM of the environment of the tests, which holds more than the image does."""
    return make_sbom(tmp_path_factory.mktemp("sbom"))


def make_sbom(folder: Path) -> str:
    program = Path(sys.executable).with_name("cyclonedx-py")
    file = folder / "sbom.cdx.json"
    command: list[str | Path] = [ROOT / "deploy" / "make_sbom", program]
    command += [sys.prefix, file, "--no-validate"]  # it takes long
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return file.read_text(encoding="utf-8")


def known(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@of_the_sbom
def test_the_sbom_is_valid(sbom: str) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(sbom) is None


@of_the_sbom
def test_the_sbom_names_every_distribution_with_its_version(sbom: str) -> None:
    told = json.loads(sbom)
    components = [*told["components"], told["metadata"]["component"]]
    here = {
        (known(one.name), one.version)
        for one in distributions(path=[str(Path(pytest.__file__).parent.parent)])
    }
    assert {(known(one["name"]), one["version"]) for one in components} == here


@of_the_sbom
def test_the_sbom_tells_nothing_of_the_machine(sbom: str) -> None:
    assert str(ROOT) not in sbom
    assert sys.prefix not in sbom
    assert "file:" not in sbom
    assert not re.search(r"https?://[^/\"]*(pypi|pythonhosted|registry|index)[^\"]*/simple", sbom)
    assert not {"timestamp", "serialNumber"} & {*json.loads(sbom), *json.loads(sbom)["metadata"]}


@of_the_sbom
def test_the_sbom_is_the_same_each_time(sbom: str, tmp_path: Path) -> None:
    assert make_sbom(tmp_path) == sbom
