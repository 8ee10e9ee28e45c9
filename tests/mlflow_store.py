"""MLflow's tables, made once a process and copied: creating them takes seconds, a copy a millisecond."""

import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path

from autoretrain.adapters.mlflow_client import MlflowConnection


@functools.cache
def _tables() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "mlflow.db"
        MlflowConnection(f"sqlite:///{file}").client.search_experiments()
        return file.read_bytes()


def sqlite_store(directory: Path) -> str:
    """Return the address of the MLflow store in a directory, made when it is not there yet."""
    file = directory / "mlflow.db"
    if not file.exists():
        file.write_bytes(_tables())
    return f"sqlite:///{file}"


def log_payload(uri: str, run: Mapping[str, str], payload: bytes, name: str = "model") -> None:
    """Log a file as a model to a run, as a training command does.

    Args:
        uri: Address of MLflow.
        run: What the tracker told the command.
        payload: Content of the file.
        name: Name of the logged model.
    """
    client = MlflowConnection(uri).client
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "model.bin").write_bytes(payload)
        logged = client.create_logged_model(run["MLFLOW_EXPERIMENT_ID"], name, run["MLFLOW_RUN_ID"])
        client.log_model_artifacts(logged.model_id, directory)
        client.finalize_logged_model(logged.model_id, "READY")
