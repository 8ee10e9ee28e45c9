"""What each model needs: labelled rows, a place to run, a program that trains it, and a sandbox."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from ...adapters.compute_kubernetes import KubernetesCompute
from ...adapters.sandbox import REMEDY, find_sandbox
from ...domain.fold import RECENT_JOBS, fold
from ...domain.idle import windows_of
from ...domain.power import champion_score, unreachable_gate
from ...domain.spec import TrainingSpec
from ...ports.data import SnapshotRequest
from ...ports.errors import Permanent
from ...ports.values import TimeWindow
from ..pipeline import AutoRetrainPipeline
from .finding import Finding, ok, run


def data(pipeline: AutoRetrainPipeline) -> Iterator[Finding]:
    """Whether each model has labelled rows for a job."""
    for model in pipeline.settings.models:
        yield from run(f"models.{model}.data", lambda p, model=model: _rows(p, model), pipeline)  # type: ignore[misc]


def _rows(pipeline: AutoRetrainPipeline, model: str) -> Iterator[Finding]:
    """Take the labelled rows that a job opened now would use."""
    about, spec = f"models.{model}.data", pipeline.settings.models[model]
    training, holdout = windows_of(spec, None, datetime.now(UTC))
    window = TimeWindow(training.start, holdout.end)
    rows = pipeline.ports.data.snapshot(SnapshotRequest(model, window))
    if rows.last_at is None:
        text = f"no labelled row since {window.start:%Y-%m-%d}"
        yield Finding(about, "warning", text, "check data.path, the time column and its zone, and the label")
    elif rows.last_at < holdout.start:
        text = f"the newest labelled row is of {rows.last_at:%Y-%m-%d %H:%M} UTC, before the holdout begins"
        yield Finding(about, "warning", text, "bring newer rows, or lengthen holdout_days")
    else:
        text = f"{rows.rows} labelled rows, the newest of {rows.last_at:%Y-%m-%d %H:%M} UTC"
        yield ok(about, f"{text}, label {rows.label}, {len(rows.features)} features")


def gate(pipeline: AutoRetrainPipeline) -> Iterator[Finding]:
    """Whether a candidate can pass each model's gate, as far as the champion's score is known."""
    for model, spec in pipeline.settings.models.items():
        about = f"models.{model}.promotion"
        state = fold(model, pipeline.ports.ledger.read(model), keep_jobs=RECENT_JOBS)
        score, why = champion_score(spec, state), unreachable_gate(spec, state)
        if why:
            text, _, fix = why.partition(": ")
            yield Finding(
                about, "problem", f"min_improvement = {spec.promotion.min_improvement:g}: {text}", fix
            )
        elif score is None:
            yield ok(about, f"the champion's {spec.comparison} is not known yet")
        else:
            yield ok(about, f"can be passed from {spec.comparison} {score:.4f}")


def compute(pipeline: AutoRetrainPipeline) -> Iterator[Finding]:
    """Whether runs can be started where they are to run."""
    compute = pipeline.ports.compute
    if isinstance(compute, KubernetesCompute):
        missing = compute.not_permitted()
        for words in missing:
            yield Finding("kubernetes", "problem", f"may not {words}", "add it to the role of its account")
        if not missing:
            names = ", ".join(pipeline.settings.kubernetes.namespaces())
            yield ok("kubernetes", f"answers, and permits all that is needed in {names}")


def training(pipeline: AutoRetrainPipeline) -> Iterator[Finding]:
    """Whether each training command can be started here."""
    if pipeline.settings.adapters.compute != "subprocess":
        yield ok("training", "in pods: what their image holds is not looked at from here")
        return
    for model, spec in pipeline.settings.models.items():
        yield _program(f"models.{model}.training", pipeline.settings.base, spec.training)


def _program(about: str, base: Path, training: TrainingSpec) -> Finding:
    directory = base / (training.directory or "")
    if not directory.is_dir():
        return Finding(about, "problem", f"there is no directory {directory}", "correct training.directory")
    name = training.command[0]
    # A bare "python" is the interpreter that runs us, not the first one on the path.
    found = (
        sys.executable if name == "python" else shutil.which(str(directory / name) if "/" in name else name)
    )
    if found is None:
        fix = "correct training.command: program and arguments, without a shell"
        return Finding(about, "problem", f"the program {name} is not found", fix)
    scripts = [word for word in training.command[1:2] if word.endswith(".py")]
    if training.directory and any(not (directory / script).is_file() for script in scripts):
        fix = "correct training.command or training.directory"
        return Finding(about, "problem", f"there is no {scripts[0]} in {directory}", fix)
    return ok(about, f"runs {found}")


def sandbox(pipeline: AutoRetrainPipeline) -> Iterator[Finding]:
    """Say what runs of a model's own code are kept from here."""
    if pipeline.settings.adapters.compute != "subprocess":
        yield ok("predictions", "in pods: a NetworkPolicy has to keep them from everything")
        return
    about, wanted = "predictions", pipeline.settings.predictions
    for path in wanted.readable:
        if not (pipeline.settings.base / path).exists():
            yield Finding(about, "problem", f"there is no {path}", "correct predictions.readable")
    try:
        found = find_sandbox(wanted.sandbox)
    except Permanent as refused:
        yield Finding(about, "problem", str(refused), 'or set predictions.sandbox = "auto"')
        return
    text = f"runs of models: {found.words}"
    if found.open:
        fix = 'set predictions.sandbox = "auto"' if wanted.sandbox == "none" else REMEDY
        yield Finding(about, "warning", text, fix)
    else:
        yield ok(about, text)
