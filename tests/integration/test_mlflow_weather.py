"""A rollback on a real MLflow server that is away for an hour, and whose versions were deleted or damaged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from mlflow_server import start_mlflow
from mlflow_store import log_payload

from autoretrain.adapters.mlflow_client import MlflowConnection
from autoretrain.adapters.registry_mlflow import MlflowRegistry
from autoretrain.adapters.tracker_mlflow import MlflowTracker
from autoretrain.domain.controller import Controller
from autoretrain.domain.requests import ask_rollback
from autoretrain.domain.sealing import load
from autoretrain.entrypoints.testing.registry import training_context
from autoretrain.entrypoints.testing.simulated_world import World

pytestmark = [pytest.mark.service, pytest.mark.slow]

MODEL = "fraud"  # adopts what people let serve


def test_a_rollback_waits_for_its_registry_and_takes_what_can_serve(tmp_path: Path) -> None:
    server = start_mlflow(tmp_path)
    registry = MlflowRegistry(server.uri, cache=tmp_path / "cache")
    client = MlflowConnection(server.uri).client
    world = World()
    controller = Controller(
        replace(world.ports(), registry=registry), world.fleet, "main", monotonic=world.clock
    )

    def told(kind: str) -> list[Mapping[str, Any]]:
        return [load(entry.data) for entry in world.ledger.read(MODEL) if entry.kind == kind]

    def later(**time: float) -> None:
        world.now += timedelta(**time)
        controller.tick(world.now)

    try:
        for number in range(1, 5):
            context = training_context(f"job-{number}", model=MODEL)
            run = MlflowTracker(server.uri).open_run(context)
            log_payload(server.uri, run, f"model {number}".encode())
            version = registry.candidate(MODEL, f"job-{number}")
            assert version is not None
            client.set_registered_model_alias(MODEL, "champion", version.version)
            controller.enrol([MODEL], world.now)
            later(hours=1)
        assert [version["version"]["version"] for version in told("champion.adopted")] == ["1", "2", "3", "4"]
        client.delete_model_version(MODEL, "3")
        for damaged in (tmp_path / "artefacts").rglob("model.bin"):
            if damaged.read_bytes() == b"model 2":
                damaged.write_bytes(b"another")
        server.stop()

        controller.request(MODEL, lambda state: ask_rollback(state, "ann", "worse"), world.now)
        for _ in range(60):
            later(minutes=1)
        (waits,) = told("rollback.stalled")
        assert "MLflow, reading the champion of fraud" in waits["reason"]
        state = controller.state(MODEL)
        assert state.rollback is not None
        assert state.rollback.stalled == waits["reason"]

        server = start_mlflow(tmp_path, urlsplit(server.uri).port)
        later(minutes=1)
        assert [(skipped["version"]["version"]) for skipped in told("rollback.skipped")] == ["3", "2"]
        assert "was altered" in told("rollback.skipped")[1]["reason"]
        (done,) = told("rollback.done")
        assert (done["target"]["version"], done["withdrawn"]) == ("1", "4")
        assert str(client.get_registered_model(MODEL).aliases["champion"]) == "1"

        later(hours=1)
        assert told("champion.conflict") == []
    finally:
        server.stop()
