"""The behaviour promised by the port, over every adapter; then what is MLflow's own."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from local_http import local_server
from mlflow_store import log_payload, sqlite_store

from autoretrain.adapters.artefact_digest import artefact_digest
from autoretrain.adapters.memory import MemoryRegistry
from autoretrain.adapters.mlflow_client import MlflowConnection, local_path
from autoretrain.adapters.registry_mlflow import MlflowRegistry
from autoretrain.adapters.tracker_mlflow import MlflowTracker
from autoretrain.entrypoints.testing.registry import ModelRegistryContract, training_context
from autoretrain.ports.errors import Permanent, Temporary
from autoretrain.ports.registry import ModelRegistry, ModelVersion
from autoretrain.ports.tracking import TrainingContext


class TestMlflowRegistry(ModelRegistryContract):
    @pytest.fixture(autouse=True)
    def _store(self, tmp_path: Path) -> None:
        self.uri = sqlite_store(tmp_path)

    def make_registry(self, directory: Path) -> ModelRegistry:
        return MlflowRegistry(self.uri)

    def log_models(
        self, registry: ModelRegistry, context: TrainingContext, payloads: Sequence[bytes]
    ) -> None:
        run = MlflowTracker(self.uri).open_run(context)
        for payload in payloads:
            log_payload(self.uri, run, payload)

    def alter(self, registry: ModelRegistry, version: ModelVersion) -> None:
        (Path(version.uri) / "model.bin").write_bytes(b"altered")

    def test_aliases_are_set_and_stages_are_not(self, registry: ModelRegistry) -> None:
        first = self.champion(registry)
        second = self.candidate(registry, training_context("job-1", champion=first.version), b"second")
        client = MlflowConnection(self.uri).client
        aliases = client.get_registered_model("boiler").aliases
        assert {name: str(label) for name, label in aliases.items()} == {
            "champion": first.version,
            "candidate": second.version,
        }
        stored = client.get_model_version("boiler", second.version)
        assert stored.current_stage == "None"
        assert stored.tags["autoretrain.parent_champion"] == first.version

    def test_many_models_are_read_together(
        self, registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = MlflowConnection(self.uri).client
        first = self.champion(registry)
        names = [f"pump-{n}" for n in range(9)] + ["it's", 'the "big" one', "100 % of it", "Kühler, alt"]
        for name in names:
            client.create_registered_model(name)
        assert set(registry.champions([*names, "boiler", "never"])) == {"boiler"}

        for name in names[::2]:
            client.create_model_version(name, first.uri)
            client.set_registered_model_alias(name, "champion", "1")
        asked = [*names, "boiler", "never", "both ' and \""]
        together = registry.champions(asked)
        assert together == {name: found for name in asked for found in registry.champions([name]).values()}
        assert set(together) == {*names[::2], "boiler"}

        alone: list[str] = []
        version = MlflowRegistry._version

        def noting(self: MlflowRegistry, model: str, label: str) -> Any:
            alone.append(model)
            return version(self, model, label)

        monkeypatch.setattr(MlflowRegistry, "_version", noting)
        assert registry.champions(asked) == together
        assert "boiler" not in alone  # it has its digest, and was described before

    def test_among_many_a_moved_alias_and_a_model_made_anew_are_seen(self, registry: ModelRegistry) -> None:
        client = MlflowConnection(self.uri).client
        others = [f"pump-{n}" for n in range(9)]
        first = self.champion(registry)
        second = self.candidate(registry, training_context("job-1", champion=first.version), b"second")
        for expected in (first, second, first):
            client.set_registered_model_alias("boiler", "champion", expected.version)
            assert registry.champions([*others, "boiler"]) == {"boiler": expected}
        client.delete_registered_model_alias("boiler", "champion")
        assert registry.champions([*others, "boiler"]) == {}
        client.delete_registered_model("boiler")
        client.create_registered_model("boiler")
        client.create_model_version("boiler", second.uri)
        client.set_registered_model_alias("boiler", "champion", "1")
        assert registry.champions([*others, "boiler"])["boiler"].digest == second.digest

    def test_a_restarted_controller_sees_the_same(self, registry: ModelRegistry) -> None:
        first = self.champion(registry)
        again = MlflowRegistry(self.uri)
        assert again.champions(["boiler"]) == {"boiler": first}
        assert again.candidate("boiler", "job-0") == first

    def test_a_version_that_the_command_registered_itself_is_adopted(self, registry: ModelRegistry) -> None:
        self.log_models(registry, training_context("job-1"), [b"one"])
        connection = MlflowConnection(self.uri)
        run = connection.run_of("autoretrain", "job-1")
        assert run is not None
        (logged,) = connection.logged_models(run)
        connection.client.create_registered_model("boiler")
        created = connection.client.create_model_version("boiler", logged.artifact_location, run.info.run_id)
        version = registry.candidate("boiler", "job-1")
        assert version is not None
        assert (version.version, version.job_id) == (str(created.version), "job-1")
        assert len(connection.client.search_model_versions("name = 'boiler'")) == 1

    def test_of_two_concurrent_registrations_the_lowest_counts(self, registry: ModelRegistry) -> None:
        first = self.candidate(registry, training_context("job-1"), b"one")
        client = MlflowConnection(self.uri).client
        stored = client.get_model_version("boiler", first.version)
        client.create_model_version("boiler", str(stored.source), stored.run_id)
        assert registry.candidate("boiler", "job-1") == first

    def test_who_registers_a_second_time_takes_its_own_back(self, registry: ModelRegistry) -> None:
        """As a controller does that was stopped between its look and its write."""
        self.log_models(registry, training_context("job-1"), [b"one"])

        class Late(MlflowRegistry):
            def _register(self, *arguments: Any) -> Any:
                registry.candidate("boiler", "job-1")
                return super()._register(*arguments)

        version = Late(self.uri).candidate("boiler", "job-1")

        assert version == registry.candidate("boiler", "job-1")
        assert len(MlflowConnection(self.uri).client.search_model_versions("name = 'boiler'")) == 1

    def test_a_foreign_champion_has_a_digest_and_no_history(
        self, registry: ModelRegistry, tmp_path: Path
    ) -> None:
        (tmp_path / "foreign").mkdir()
        (tmp_path / "foreign" / "model.bin").write_bytes(b"foreign")
        client = MlflowConnection(self.uri).client
        client.create_registered_model("boiler")
        client.create_model_version("boiler", (tmp_path / "foreign").as_uri())
        client.set_registered_model_alias("boiler", "champion", "1")
        champion = registry.champions(["boiler"])["boiler"]
        assert champion.digest == artefact_digest(tmp_path / "foreign")
        assert (champion.job_id, champion.trained_on, champion.data_sha256) == (None, None, None)

    def test_a_champion_without_artefact(self, registry: ModelRegistry, tmp_path: Path) -> None:
        client = MlflowConnection(self.uri).client
        client.create_registered_model("boiler")
        client.create_model_version("boiler", (tmp_path / "gone").as_uri())
        client.set_registered_model_alias("boiler", "champion", "1")
        with pytest.raises(Permanent, match="missing or empty"):
            registry.champions(["boiler"])

    @pytest.mark.parametrize(
        ("plant", "reason"),
        [
            (lambda folder: (folder / "more").symlink_to("/etc/passwd"), "symbolic link, more"),
            (lambda folder: os.mkfifo(folder / "pipe"), "neither a file nor a directory"),
            (lambda folder: os.truncate(folder / "model.bin", 2 << 20), "is larger than 1 MiB"),
        ],
        ids=["link", "pipe", "oversize"],
    )
    def test_a_candidate_whose_artefact_is_more_than_files(
        self, tmp_path: Path, plant: Callable[[Path], object], reason: str
    ) -> None:
        registry = MlflowRegistry(self.uri, most_bytes=1 << 20)
        self.log_models(registry, training_context("job-1"), [b"one"])
        connection = MlflowConnection(self.uri)
        run = connection.run_of("autoretrain", "job-1")
        assert run is not None
        (logged,) = connection.logged_models(run)
        folder = local_path(logged.artifact_location)
        assert folder is not None
        plant(folder)
        with pytest.raises(Permanent, match=reason):
            registry.candidate("boiler", "job-1")

    def test_an_address_that_leads_out_of_where_it_seems_to_be(
        self, registry: ModelRegistry, tmp_path: Path
    ) -> None:
        (tmp_path / "foreign").mkdir()
        (tmp_path / "foreign" / "model.bin").write_bytes(b"foreign")
        client = MlflowConnection(self.uri).client
        client.create_registered_model("boiler")
        client.create_model_version("boiler", f"file://{tmp_path}/artefacts/../foreign")
        client.set_registered_model_alias("boiler", "champion", "1")
        with pytest.raises(Permanent, match=r"\.\."):
            registry.champions(["boiler"])

    def test_an_altered_artefact_is_not_fetched(self, registry: ModelRegistry) -> None:
        assert isinstance(registry, MlflowRegistry)
        version = self.champion(registry)
        assert registry.fetch(version) == Path(version.uri)
        self.alter(registry, version)
        with pytest.raises(Permanent, match="altered"):
            registry.fetch(version)


class TestMemoryRegistry(ModelRegistryContract):
    def make_registry(self, directory: Path) -> ModelRegistry:
        return MemoryRegistry()

    def log_models(
        self, registry: ModelRegistry, context: TrainingContext, payloads: Sequence[bytes]
    ) -> None:
        assert isinstance(registry, MemoryRegistry)
        registry.open_run(context)
        for payload in payloads:
            registry.log(context.job_id, lambda row: 0, hashlib.sha256(payload).hexdigest())

    def alter(self, registry: ModelRegistry, version: ModelVersion) -> None:
        assert isinstance(registry, MemoryRegistry)
        registry.tamper(version, "altered")


def test_an_unreachable_server_is_temporary() -> None:
    # Port 9 (discard) is closed here: the connection is refused at once.
    with pytest.raises(Temporary, match="reading the champion of boiler"):
        MlflowRegistry("http://user:secret@127.0.0.1:9").champions(["boiler"])


def test_a_message_holds_no_credentials() -> None:
    with pytest.raises(Temporary) as caught:
        MlflowRegistry("http://user:secret@127.0.0.1:9").champions(["boiler"])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "body", ["", "{}", "200 OK", '{"registered_model": {"name": "pump"}}', "[]", "<html>"]
)
def test_a_server_that_says_nothing_does_not_say_that_nobody_serves(body: str) -> None:
    """MLflow's client reads an empty answer as a model without aliases."""
    with local_server() as server:
        server.reply(200, body)
        registry = MlflowRegistry(server.url)
        for ask in (
            lambda: registry.champions(["boiler"]),
            lambda: registry.champions([f"boiler-{n}" for n in range(20)]),
            lambda: registry.candidate("boiler", "job-1"),
            lambda: registry.set_champion(ModelVersion("boiler", "1", "d" * 64, ""), None),
        ):
            with pytest.raises(Temporary):
                ask()
        assert not [request for request in server.requests if request.path.endswith("/alias")]


def test_a_locked_database_is_temporary(tmp_path: Path) -> None:
    uri = sqlite_store(tmp_path)
    holder = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(Temporary, match="locked"):
            MlflowRegistry(uri).champions(["boiler"])
    finally:
        holder.close()


def test_a_file_that_is_no_database_is_permanent(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"not a database" * 100)
    with pytest.raises(Permanent, match="cannot be opened"):
        MlflowRegistry(f"sqlite:///{tmp_path}/mlflow.db").champions(["boiler"])
