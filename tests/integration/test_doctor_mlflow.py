"""The doctor before a real MLflow server that asks for a password, and gives each user what it may do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from mlflow_server import ADMIN, MlflowServer, start_mlflow
from project_kit import MODEL, Project

from autoretrain.adapters.mlflow_client import MlflowConnection
from autoretrain.adapters.mlflow_probe import PROBE
from autoretrain.entrypoints.doctor import Finding, examine

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

pytestmark = [pytest.mark.slow, pytest.mark.service, pytest.mark.xdist_group("mlflow-login")]

_PASSWORD = "open-sesame-for-users"
KILNS = [f"kiln-{number}" for number in range(4)]  # registered, and nobody's but the administrator's
NOBODY = "no champion serves"
_ABOUT = ("mlflow", f"models.{MODEL}")


@dataclass
class Guarded:
    """A server with the experiment and the registered model of a project, and who may do what."""

    server: MlflowServer
    artefacts: Path
    patch: pytest.MonkeyPatch

    def login(self, name: str, password: str = _PASSWORD) -> None:
        self.patch.setenv("MLFLOW_TRACKING_USERNAME", name)
        self.patch.setenv("MLFLOW_TRACKING_PASSWORD", password)

    def found(self, folder: Path, more: str = "") -> list[Finding]:
        """What the doctor finds about MLflow; each line begins with its address, which is left out here."""
        Project.create(folder / "project", tracking_uri=self.server.uri, more=more)
        found = [each for each in examine(folder / "project") if each.about in _ABOUT]
        address = f"{self.server.uri}: "
        assert all(each.text.startswith(address) for each in found if each.text != NOBODY)
        return [replace(each, text=each.text.removeprefix(address)) for each in found]

    def runs(self, kind: str) -> list[str]:
        """Names of the experiment's runs, as the administrator sees them."""
        with self._as_admin() as client:
            return [run.info.run_name for run in self._runs(client, kind)]

    def tidy(self) -> None:
        """Delete what another test has left."""
        with self._as_admin() as client:
            for run in self._runs(client, "ACTIVE_ONLY"):
                client.delete_run(run.info.run_id)

    def _runs(self, client: MlflowClient, kind: str) -> list[Run]:
        from mlflow.entities import ViewType

        experiment = client.get_experiment_by_name("autoretrain")
        assert experiment is not None
        return list(client.search_runs([experiment.experiment_id], run_view_type=getattr(ViewType, kind)))

    def stages(self) -> dict[str, str]:
        """Stage of each experiment by its name."""
        from mlflow.entities import ViewType

        with self._as_admin() as client:
            return {
                each.name: each.lifecycle_stage for each in client.search_experiments(view_type=ViewType.ALL)
            }

    def registered(self) -> object:
        """All that is known of the registered model."""
        with self._as_admin() as client:
            return dict(client.get_registered_model(MODEL))

    @contextmanager
    def _as_admin(self) -> Iterator[MlflowClient]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_USERNAME", ADMIN[0])
            patch.setenv("MLFLOW_TRACKING_PASSWORD", ADMIN[1])
            yield MlflowConnection(self.server.uri).client


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MlflowServer, Path]]:
    folder = tmp_path_factory.mktemp("mlflow-login")
    server = start_mlflow(folder, guarded=True)
    try:
        with httpx.Client(base_url=f"{server.uri}/api", auth=ADMIN) as admin:
            made = _asked(admin, "2.0/mlflow/experiments/create", name="autoretrain")
            for model in (MODEL, *KILNS):
                _asked(admin, "2.0/mlflow/registered-models/create", name=model)
            for user, permission in (("reader", ""), ("editor", "EDIT"), ("manager", "MANAGE")):
                _asked(admin, "2.0/mlflow/users/create", username=user, password=_PASSWORD)
                for kind, resource in (("experiment", made["experiment_id"]), ("registered_model", MODEL)):
                    if permission:
                        given = {"resource_type": kind, "resource_id": resource, "permission": permission}
                        _asked(admin, "3.0/mlflow/users/permissions/grant", username=user, **given)
        yield server, folder / "artefacts"
    finally:
        server.stop()


def _asked(admin: httpx.Client, path: str, **body: str) -> dict[str, str]:
    answer = admin.post(path, json=body)
    assert answer.is_success, answer.text
    found: dict[str, str] = answer.json()
    return found


@pytest.fixture
def mlflow(running: tuple[MlflowServer, Path], monkeypatch: pytest.MonkeyPatch) -> Guarded:
    guarded = Guarded(*running, monkeypatch)
    guarded.tidy()
    return guarded


def test_who_manages_may_all_and_leaves_nothing_to_be_seen(mlflow: Guarded, tmp_path: Path) -> None:
    mlflow.login("manager")
    before, before_it = mlflow.registered(), 0
    for name in ("first", "second"):
        answers, may, champion = mlflow.found(tmp_path / name)
        assert answers.text.startswith("MLflow 3.")
        assert answers.text.endswith(" answers, 0 of 1 models have a champion")
        assert (may.status, may.text) == (
            "ok",
            "experiment autoretrain: may write runs, write and read artefacts, delete runs, "
            "change 1 of 1 registered models",
        )
        assert champion.text == NOBODY
        left = mlflow.runs("DELETED_ONLY")
        assert set(left) == {PROBE}
        assert name == "first" or len(left) == before_it
        before_it = len(left)
    assert mlflow.runs("ACTIVE_ONLY") == []
    assert mlflow.registered() == before
    assert not [file for file in mlflow.artefacts.rglob("*") if file.is_file()]


def test_who_only_reads_is_told_what_to_ask_for(mlflow: Guarded, tmp_path: Path) -> None:
    mlflow.login("reader")
    answers, runs, model, _ = mlflow.found(tmp_path)
    assert answers.status == "ok"
    assert (runs.status, runs.text) == (
        "problem",
        "MLflow, writing a run to experiment autoretrain: the server does not permit it (403 to runs/create)",
    )
    assert runs.fix == "give the user EDIT on the experiment, or MANAGE, which deletes as well"
    assert (model.about, model.status) == (f"models.{MODEL}", "problem")
    assert "changing a registered model: the server does not permit it" in model.text
    assert model.fix == "give the user EDIT on the registered model"


def test_many_models_of_one_trouble_are_one_line(mlflow: Guarded, tmp_path: Path) -> None:
    mlflow.login("manager")
    project = Project.create(tmp_path, tracking_uri=mlflow.server.uri)
    file = project.directory / "autoretrain.toml"
    text = file.read_text()
    section = text[text.index("[models.boiler]") :]
    file.write_text(
        "\n".join([text, *[section.replace("models.boiler", f"models.{name}") for name in KILNS]])
    )
    found = [each for each in examine(tmp_path) if each.about == "mlflow"]
    assert [each.status for each in found] == ["ok", "problem", "ok"]
    assert found[1].text == (
        f"{mlflow.server.uri}: kiln-0, kiln-1, kiln-2 and 1 more: MLflow, changing a registered model: "
        "the server does not permit it (403 to registered-models/delete-tag)"
    )
    assert found[2].text.endswith("change 1 of 5 registered models")


def test_who_may_not_delete_leaves_one_run_and_is_warned(mlflow: Guarded, tmp_path: Path) -> None:
    mlflow.login("editor")
    for name in ("first", "second"):
        _, stays, may, _ = mlflow.found(tmp_path / name)
        assert (stays.status, stays.text) == (
            "warning",
            "the run autoretrain-probe stays: MLflow, deleting a run of experiment "
            "autoretrain: the server does not permit it (403 to runs/delete)",
        )
        assert "MANAGE on the experiment" in stays.fix
        assert may.text.removeprefix("experiment autoretrain: may ") == (
            "write runs, write and read artefacts, change 1 of 1 registered models"
        )
    assert mlflow.runs("ACTIVE_ONLY") == [PROBE]


def test_an_experiment_that_is_not_there_is_not_made(mlflow: Guarded, tmp_path: Path) -> None:
    mlflow.login("reader")
    for name in ("first", "second"):
        _, *others = mlflow.found(tmp_path / name, more='mlflow.experiment = "boilers"\n')
        assert (others[-2].status, others[-2].text) == (
            "ok",
            "experiment boilers is not there yet, the first job makes it; in autoretrain-probe: "
            "may write runs, write and read artefacts, delete runs",
        )
    assert mlflow.stages() == {"Default": "active", "autoretrain": "active", PROBE: "deleted"}


@pytest.mark.parametrize("login", [("manager", "wrong-sesame"), ("nobody", _PASSWORD)])
def test_a_wrong_login_is_told_with_its_variables(
    mlflow: Guarded, tmp_path: Path, login: tuple[str, str]
) -> None:
    mlflow.login(*login)
    (refused,) = mlflow.found(tmp_path)
    assert refused.status == "problem"
    assert (
        "the server refuses user, password or token: check MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN (401 to "
    ) in refused.text
    assert "sesame" not in str(refused)


def test_artefacts_that_the_server_cannot_keep(mlflow: Guarded, tmp_path: Path) -> None:
    mlflow.login("manager")
    mlflow.artefacts.mkdir(exist_ok=True)
    aside = mlflow.artefacts.rename(mlflow.artefacts.with_name("aside"))
    mlflow.artefacts.write_text("no directory")
    try:
        _, artefacts, may, _ = mlflow.found(tmp_path)
    finally:
        mlflow.artefacts.unlink()
        aside.rename(mlflow.artefacts)
    assert artefacts.status == "problem"
    assert artefacts.text == f"MLflow, writing and reading an artefact: {mlflow.server.uri} answers 500"
    assert "--artifacts-destination" in artefacts.fix
    assert may.text == "experiment autoretrain: may write runs, delete runs, change 1 of 1 registered models"
