"""Every port in memory: a whole world for dry runs, simulations and the testing kit.

Models are plain functions of a row's features; training "logs" one; predictions and scores are computed for
real, in pure Python. Faults are injected from outside, by wrapping.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from ..ports.compute import RunRequest, RunState, RunStatus
from ..ports.data import Snapshot, SnapshotRequest
from ..ports.drift import ColumnDrift, DriftReport
from ..ports.errors import Overtaken, Permanent, UnknownModel
from ..ports.metrics import MetricQuery, MetricWindow
from ..ports.notifier import Digest, Notice
from ..ports.predictor import Predictions
from ..ports.registry import ModelVersion
from ..ports.telemetry import TickReport
from ..ports.values import Pending, TimeWindow
from .memory_ledger import MemoryLedger, MemoryObservations
from .memory_registry import MemoryRegistry, Model
from .memory_router import MemoryRouter

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Row:
    """One row of data.

    Attributes:
        at: Its time.
        features: Values by name.
        label: The truth; ``None`` when it has not come yet.
    """

    at: datetime
    features: Mapping[str, Any]
    label: Any = None


class MemoryDataSource:
    """Implements DataSource over lists of rows.

    Args:
        rows: Rows by model; may be extended later through ``add``.
    """

    def __init__(self, rows: Mapping[str, Sequence[Row]] | None = None) -> None:
        self._rows = {model: list(some) for model, some in (rows or {}).items()}
        self.taken: dict[str, tuple[Row, ...]] = {}

    def add(self, model: str, rows: Iterable[Row]) -> None:
        """Add rows of a model."""
        self._rows.setdefault(model, []).extend(rows)

    def snapshot(self, request: SnapshotRequest) -> Snapshot:
        """Copy the rows of a window."""
        if request.model not in self._rows:
            raise UnknownModel(f"there are no rows of {request.model}")
        window = request.window
        inside = [row for row in self._rows[request.model] if window.start <= row.at < window.end]
        rows = tuple(sorted((r for r in inside if r.label is not None or not request.labelled), key=_time))
        features = tuple(dict.fromkeys(name for row in rows for name in row.features))
        text = repr([(row.at, sorted(row.features.items()), row.label) for row in rows] + [request.labelled])
        digest = hashlib.sha256(text.encode()).hexdigest() if rows else ""
        self.taken[digest] = rows
        return Snapshot(
            model=request.model,
            window=window,
            uri=f"memory:{digest}" if rows else "",
            rows=len(rows),
            sha256=digest,
            features=features,
            label="label" if request.labelled else None,
            time="at",
            first_at=rows[0].at if rows else None,
            last_at=rows[-1].at if rows else None,
            unlabelled=len(inside) - len(rows) if request.labelled else None,
        )


def _time(row: Row) -> datetime:
    return row.at


class MemoryMetrics:
    """Implements MetricSource with values that are set."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], MetricWindow] = {}

    def set(
        self, model: str, metric: str, value: float | None, rows: int | None = 1000, reason: str = ""
    ) -> None:
        """Let every window of a metric have this value, or none for a reason."""
        query = MetricQuery(model, metric, TimeWindow(_EPOCH, _EPOCH))  # replaced by the real one when read
        finite = value is not None and math.isfinite(value)
        why = "" if finite else reason or ("no samples" if value is None else f"the value is {value}")
        self._values[model, metric] = MetricWindow(
            query, value if finite else None, why, rows or 0, rows, empty=value is None and not reason
        )

    def read(self, queries: Sequence[MetricQuery]) -> Sequence[MetricWindow]:
        """Answer every query."""
        return [self._answer(query) for query in queries]

    def _answer(self, query: MetricQuery) -> MetricWindow:
        known = self._values.get((query.model, query.metric))
        if known is None:
            return MetricWindow(query, None, "no samples", empty=True)
        return replace(known, query=query, last_at=query.window.end if known.value is not None else None)


class MemoryDrift:
    """Implements DriftDetector with PSI values that are set."""

    def __init__(self) -> None:
        self._psi: dict[str, Mapping[str, float | None]] = {}

    def set(self, model: str, psi: Mapping[str, float | None]) -> None:
        """Let the features of a model have drifted so far; ``None`` cannot be computed."""
        self._psi[model] = psi

    def compare(self, reference: Snapshot, current: Snapshot) -> DriftReport | Pending:
        """Compare two snapshots."""
        features = dict.fromkeys((*reference.features, *current.features))
        return DriftReport(tuple(self._column(name, reference, current) for name in features))

    def _column(self, name: str, reference: Snapshot, current: Snapshot) -> ColumnDrift:
        rows = (reference.rows, current.rows)
        if min(rows) == 0:
            return ColumnDrift(name, "categorical", None, None, *rows, "no values on one side")
        psi = self._psi.get(current.model, {}).get(name, 0.0)
        reason = "it cannot be computed" if psi is None else ""
        return ColumnDrift(name, "categorical", psi, None, *rows, reason)


class MemoryCompute:
    """Implements Compute: runs "execute" when they are observed.

    Args:
        script: What becomes of a run: called at every look at it until it has ended. The default lets every
            run succeed at once.
    """

    def __init__(self, script: Callable[[RunRequest], RunStatus] | None = None) -> None:
        self._script = script or (lambda run: RunStatus(RunState.SUCCEEDED, exit_code=0, seconds=0.0))
        self._runs: dict[str, tuple[RunRequest, RunStatus]] = {}
        self.started: Counter[str] = Counter()

    def submit(self, run: RunRequest) -> None:
        """Start a run, once."""
        if run.key in self._runs:
            if self._runs[run.key][0] != run:
                raise Permanent(f"run {run.key} is known with another request")
            return
        self._runs[run.key] = (run, RunStatus(RunState.PENDING))
        self.started[run.key] += 1

    def observe(self, key: str) -> RunStatus:
        """Say where a run stands."""
        if key not in self._runs:
            return RunStatus(RunState.ABSENT)
        run, status = self._runs[key]
        if not status.state.ended:
            status = self._script(run)
            self._runs[key] = (run, status)
        return status

    def cancel(self, key: str) -> None:
        """End a run."""
        if key in self._runs and not self._runs[key][1].state.ended:
            self._runs[key] = (self._runs[key][0], RunStatus(RunState.FAILED, "cancelled"))

    def log_tail(self, key: str, lines: int = 50) -> str:
        """Runs in memory print nothing."""
        return ""


class MemoryPredictor:
    """Implements Predictor over the models of a MemoryRegistry and the rows of a MemoryDataSource."""

    def __init__(self, registry: MemoryRegistry, data: MemoryDataSource) -> None:
        self._registry = registry
        self._data = data
        self.made: dict[str, tuple[Any, ...]] = {}

    def predict(self, version: ModelVersion, snapshot: Snapshot) -> Predictions | Pending:
        """Return the predictions of a version."""
        model = self._registry.models.get((version.model, version.version))
        if model is None:
            raise Permanent(f"{version.model} has no version {version.version}")
        self._registry.check_artefact(version)
        rows = self._data.taken[snapshot.sha256]
        try:
            values = tuple(model(row.features) for row in rows)
        except Exception as error:
            raise Permanent(f"version {version.version} fails on the rows: {error}") from error
        if any(isinstance(value, float) and not math.isfinite(value) for value in values):
            raise Permanent(f"version {version.version} returned predictions that are not finite")
        digest = hashlib.sha256(f"{version.digest}{snapshot.sha256}{values!r}".encode()).hexdigest()
        self.made[digest] = values
        return Predictions(f"memory:{digest}", digest, len(values))


class MemoryNotifier:
    """Implements Notifier and DigestNotifier.

    Attributes:
        sent: What has arrived, one by one or in a digest, in order.
        digests: The digests among it.
    """

    def __init__(self) -> None:
        self.sent: list[Notice] = []
        self.digests: list[Digest] = []

    def send(self, notice: Notice) -> None:
        """Keep one notice."""
        self.sent.append(notice)

    def send_digest(self, digest: Digest) -> None:
        """Keep the notices of a digest."""
        self.digests.append(digest)
        self.sent.extend(notice for line in digest.lines for notice in line.notices)


class MemoryAnchors:
    """Implements AnchorKeeper: keeps lines as long as it lives."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def keep(self, number: int, text: str) -> None:
        """Keep one anchor."""
        if self._lines and (number, text) == (len(self._lines), self._lines[-1]):
            return
        if number != len(self._lines) + 1:
            raise Overtaken(f"the last anchor is {len(self._lines)}; {number} does not follow it")
        self._lines.append(text)

    def latest(self) -> str | None:
        """The last line."""
        return self._lines[-1] if self._lines else None

    def kept(self) -> tuple[str, ...]:
        """All lines."""
        return tuple(self._lines)


class MemoryTelemetry:
    """Implements Telemetry: keeps the reports of the last ticks."""

    def __init__(self, keep: int = 1000) -> None:
        self._keep = keep
        self.reports: list[TickReport] = []

    def report(self, tick: TickReport) -> None:
        """Keep a report."""
        self.reports = [*self.reports[-self._keep + 1 :], tick]


__all__ = [
    "MemoryAnchors",
    "MemoryCompute",
    "MemoryDataSource",
    "MemoryDrift",
    "MemoryLedger",
    "MemoryMetrics",
    "MemoryNotifier",
    "MemoryObservations",
    "MemoryPredictor",
    "MemoryRegistry",
    "MemoryRouter",
    "MemoryTelemetry",
    "Model",
    "Row",
]
