"""Training commands as the controller starts them: a script, its environment, and rows of a small plant."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from autoretrain.ports.data import Snapshot
from autoretrain.ports.tracking import TrainingContext
from autoretrain.ports.values import TimeWindow

TRAINS = """
from sklearn.tree import DecisionTreeClassifier
from autoretrain import training_job

with training_job() as job:
    X, y = job.load()
    job.log_metrics({"rows": len(X)})
    job.log_model(DecisionTreeClassifier(max_depth=job.config["depth"], random_state=0).fit(X, y))
"""


def plant(directory: Path) -> Snapshot:
    """Write 200 labelled rows of two features, the label following from their sum."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    start = datetime(2026, 3, 1, tzinfo=UTC)
    times = [start + timedelta(hours=hour) for hour in range(200)]
    load = [float((hour * 37) % 100) for hour in range(200)]
    valve = [float((hour * 53) % 100) for hour in range(200)]
    hot = [int(one + other > 100) for one, other in zip(load, valve, strict=True)]
    path = directory / "rows.parquet"
    parquet.write_table(pa.table({"time": times, "load": load, "valve": valve, "hot": hot}), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    window = TimeWindow(start, start + timedelta(days=10))
    ends = (times[0], times[-1])
    return Snapshot("boiler", window, str(path), 200, digest, ("load", "valve"), "hot", "time", *ends)


def context_of(snapshot: Snapshot, job_id: str = "job-1", attempt: int = 1) -> TrainingContext:
    """Return what the tracker is told about a training on these rows."""
    return TrainingContext(snapshot.model, job_id, attempt, {"depth": 3}, snapshot, None)


def variables_of(context: TrainingContext, run: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a training command."""
    return {
        "AUTORETRAIN_MODEL_NAME": context.model,
        "AUTORETRAIN_JOB_ID": context.job_id,
        "AUTORETRAIN_ATTEMPT": str(context.attempt),
        "AUTORETRAIN_TRAINING_CONFIG": json.dumps(context.parameters),
        "AUTORETRAIN_DATA": context.data.uri,
        "AUTORETRAIN_DATA_SHA256": context.data.sha256,
        "AUTORETRAIN_LABEL": str(context.data.label),
        "AUTORETRAIN_TIME": context.data.time,
        "AUTORETRAIN_FEATURES": json.dumps(context.data.features),
        **run,
    }


def train(
    script: str, context: TrainingContext, run: Mapping[str, str], directory: Path
) -> subprocess.CompletedProcess[str]:
    """Run a training script to its end, in a directory of its own."""
    file = directory / "train.py"
    file.write_text(script)
    return subprocess.run(
        [sys.executable, str(file)],
        env={**os.environ, **variables_of(context, run)},
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
