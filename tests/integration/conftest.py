"""Real servers for the tests in this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mlflow_server import MlflowServer, start_mlflow


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """Give the tests of a module one server."""
    server = start_mlflow(tmp_path_factory.mktemp("mlflow"))
    yield server
    server.stop()
