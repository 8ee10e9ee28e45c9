"""The examination of an installation: every part it needs, asked for real, with what to do where it fails."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from ..domain.idle import windows_of
from ..domain.spec import TrainingSpec
from ..ports.data import SnapshotRequest
from ..ports.errors import AutoRetrainError, ConfigurationError
from ..ports.metrics import MetricQuery
from ..ports.values import TimeWindow
from .pipeline import AutoRetrainPipeline
from .settings import Settings, load_settings

_LEAST_FREE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        about: The part that was looked at.
        status: ``problem`` keeps something from working, ``warning`` may.
        text: What was found.
        fix: What to do; empty when nothing is to be done.
    """

    about: str
    status: Literal["ok", "warning", "problem"]
    text: str
    fix: str = ""


Check = Callable[[AutoRetrainPipeline], Iterator[Finding]]


def examine(settings: str | Path | None = None) -> list[Finding]:
    """Look at everything; one part that fails does not keep the others from being looked at.

    Args:
        settings: The settings file; ``None`` looks for it.

    Returns:
        At least one finding a part, in the order in which they depend on one another. Where the settings
        cannot be used, or a library is missing, what depends on it is not looked at.
    """
    try:
        checked = load_settings(settings)
        findings = [_ok("settings", f"{len(checked.models)} models"), *_state_directory(checked), *_extras(checked)]
        if any(finding.status == "problem" for finding in findings):
            return findings
        pipeline = AutoRetrainPipeline(settings=checked)
    except ConfigurationError as error:
        return [Finding(problem.where, "problem", problem.value, problem.fix) for problem in error.problems]
    for about, check in _CHECKS.items():
        findings += _run(about, check, pipeline)
    return findings


def _run(about: str, check: Check, pipeline: AutoRetrainPipeline) -> Iterator[Finding]:
    try:
        yield from check(pipeline)
    except AutoRetrainError as error:
        yield Finding(about, "problem", str(error))


def _ok(about: str, text: str) -> Finding:
    return Finding(about, "ok", text)


def _state_directory(settings: Settings) -> Iterator[Finding]:
    directory = settings.state_dir
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=directory):
            free = shutil.disk_usage(directory).free
    except OSError as error:
        text = f"{directory} cannot be written to: {error.strerror}"
        yield Finding("state", "problem", text, "change its permissions, or set 'state' to another directory")
        return
    text = f"{directory} is writable, {free / (1 << 30):.1f} GiB are free"
    status: Literal["ok", "warning"] = "ok" if free >= _LEAST_FREE_BYTES else "warning"
    yield Finding("state", status, text, "" if status == "ok" else "make room: snapshots and artefacts go there")


def _extras(settings: Settings) -> Iterator[Finding]:
    """Libraries that these settings need, beyond the core."""
    asks_drift = any(
        leaf.name == "drift" for spec in settings.models.values() for leaf in _rule_leaves(spec)
    )
    needed = [("mlflow", "mlflow"), ("sklearn", "scoring"), ("pyarrow", "scoring")]
    needed += [("evidently", "drift")] if asks_drift else []
    needed += [("slack_sdk", "slack")] if settings.adapters.notifier == "slack" else []
    missing = [(library, extra) for library, extra in needed if find_spec(library) is None]
    for library, extra in missing:
        fix = f"pip install 'autoretrain[{extra}]'"
        yield Finding("libraries", "problem", f"{library} is not installed", fix)
    if not missing:
        yield _ok("libraries", f"{', '.join(library for library, _ in needed)} are installed")


def _rule_leaves(spec):
    return spec.combined_rule().leaves()
