"""The seed's snippets, taken from the docs, run verbatim in the project that ``init`` writes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from autoretrain.entrypoints.pipeline import AutoRetrainPipeline
from autoretrain.entrypoints.project import MODEL, create
from autoretrain.ports.errors import ConfigurationError

from services import ROOT

pytestmark = pytest.mark.xdist_group("usage")  # one project, made once


def snippets() -> list[str]:
    page = (ROOT / "docs" / "usage.md").read_text(encoding="utf-8")
    inside = page.split("<!-- snippets: begin -->")[1].split("<!-- snippets: end -->")[0]
    return re.findall(r"```python\n(.*?)```", inside, flags=re.DOTALL)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("usage") / "project"
    create(directory)
    return directory


def test_every_snippet_runs_as_it_stands(project: Path) -> None:
    program = "\n".join(snippets())
    assert program.count("pipeline.") >= 6
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=project, capture_output=True, text=True, timeout=240, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "Valid: True" in ran.stdout
    assert "Model promoted to production" in ran.stdout
    assert re.search(r"Improvement: \+\d+\.\d\d%", ran.stdout)

    pipeline = AutoRetrainPipeline(settings=project)
    (job,) = pipeline.list_recent_jobs(MODEL)
    assert job.deployed
    assert job.parameters["epochs"] == 50
    assert pipeline.verify_audit() == []


def test_a_second_init_changes_nothing(project: Path) -> None:
    before = (project / "autoretrain.toml").read_bytes()
    with pytest.raises(ConfigurationError, match="there is a project here already"):
        create(project)
    assert (project / "autoretrain.toml").read_bytes() == before
