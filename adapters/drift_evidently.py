"""Drift by Evidently, computed as a run beside the controller."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ..ports.compute import Compute, RunRequest, RunState, RunStatus
from ..ports.data import Snapshot
from ..ports.drift import ColumnDrift, DriftReport
from ..ports.errors import MissingExtra, Permanent, Temporary
from ..ports.values import Pending

_ATTEMPTS = 3
_PROGRAM = Path(__file__).with_name("drift_process.py")


class EvidentlyDrift:
    """Compares snapshots with Evidently's ``ValueDrift``: PSI for every column, KS for numeric ones.

    Each pair of snapshots is compared once, in a process of its own that reads one column at a time and
    all rows of it. Report and page stay in a folder named after both digests.

    Numbers are numeric; texts and booleans are categorical; a column's type is taken from the file. NaN and
    infinities count as missing. A column of different kinds on the two sides, without a value on one side,
    or with more than 1,000 categories has no measures but a reason. Constant columns are compared like
    others: equal constants have a PSI of 0.

    Args:
        compute: Where the comparison runs; it must see ``directory`` and the snapshots under the same paths.
        directory: Where reports are kept. Grows by up to 5 MB a report with a page.
        python: Interpreter (3.11 or later) with Evidently, pandas below 3 and pyarrow.
        deadline_seconds: A comparison that takes longer has failed.
        html: Whether to keep Evidently's page.
    """

    def __init__(
        self,
        compute: Compute,
        directory: Path,
        *,
        python: str = sys.executable,
        deadline_seconds: float = 900,
        html: bool = True,
    ) -> None:
        self._compute = compute
        self._directory = directory.absolute()
        self._python = python
        self._deadline = deadline_seconds
        self._html = html

    def compare(self, reference: Snapshot, current: Snapshot) -> DriftReport | Pending:
        """Return the report, starting its run when there is none; see ``DriftDetector.compare``.

        Raises:
            Temporary: The run cannot be started or observed, or the disk is full.
            Permanent: The run failed (with the last line it printed), or was lost three times.
            MissingExtra: Evidently is not installed.
        """
        features = tuple(dict.fromkeys((*reference.features, *current.features)))
        key = _key(reference, current, features)
        report = self._report(key)
        if report is not None:
            return report
        for attempt in range(1, _ATTEMPTS + 1):
            run = f"drift-{key}-{attempt}"
            status = self._compute.observe(run)
            if status.state is RunState.ABSENT:
                self._start(run, key, _request(reference, current, features, self._html))
            if not status.state.ended:
                return Pending("the drift report is being computed")
            if status.state is RunState.FAILED:
                raise Permanent(f"the drift report failed: {self._failure(run, status)}")
            # The run may have ended since the first look; one that ended without a report has lost it.
            report = self._report(key)
            if report is not None:
                return report
        reason = status.reason or "it left no report"
        raise Permanent(f"the run of the drift report was lost {_ATTEMPTS} times: {reason}")

    def _start(self, run: str, key: str, request: Mapping[str, Any]) -> None:
        if self._python == sys.executable and find_spec("evidently") is None:
            raise MissingExtra("evidently", "drift")
        folder = self._directory / key
        try:
            folder.mkdir(parents=True, exist_ok=True)
            part = folder / f"request.json.{os.getpid()}-{threading.get_ident()}.part"
            part.write_text(json.dumps(request), encoding="utf-8")
            os.replace(part, folder / "request.json")
        except OSError as error:
            raise Temporary(f"the drift request cannot be written: {error.strerror}") from None
        command = (self._python, "-P", str(_PROGRAM), str(folder))
        # Evidently needs nothing of the controller's environment, least of all its secrets.
        self._compute.submit(
            RunRequest(
                key=run,
                command=command,
                environment={"DO_NOT_TRACK": "1"},
                deadline_seconds=self._deadline,
                inherit_environment=False,
            )
        )

    def _failure(self, run: str, status: RunStatus) -> str:
        printed = self._compute.log_tail(run, 50).strip()
        last = printed.splitlines()[-1].strip() if printed else ""
        return ": ".join(part for part in (status.reason, last) if part) or "it gave no reason"

    def _report(self, key: str) -> DriftReport | None:
        path = self._directory / key / "report.json"
        try:
            written = json.loads(path.read_text(encoding="utf-8"))
            columns = tuple(ColumnDrift(**column) for column in written["columns"])
            page = str(path.with_name(written["page"])) if written["page"] else None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Temporary(f"the drift report cannot be read: {error.strerror}") from None
        except (ValueError, LookupError, TypeError):
            raise Permanent(f"the drift report {path} is damaged: remove its folder") from None
        return DriftReport(columns, page)


def _key(reference: Snapshot, current: Snapshot, features: tuple[str, ...]) -> str:
    """Identity of a comparison, as a name for its folder and its runs."""
    asked = json.dumps([2, reference.sha256, current.sha256, features])
    return hashlib.sha256(asked.encode()).hexdigest()[:32]


def _request(reference: Snapshot, current: Snapshot, features: tuple[str, ...], html: bool) -> dict[str, Any]:
    sides = {"reference": reference, "current": current}
    rows = {name: {"path": _path(side.uri), "sha256": side.sha256} for name, side in sides.items()}
    return {"v": 1, **rows, "features": features, "html": html}


def _path(uri: str) -> str:
    parts = urlsplit(uri)
    return unquote(parts.path) if parts.scheme == "file" else uri
