"""What this machine brings along: a directory that can be written to, and libraries."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Literal

from ..settings import Settings
from ..targets import all_kinds
from .finding import Finding, ok

_LEAST_FREE_BYTES = 1 << 30


def state_directory(settings: Settings) -> Iterator[Finding]:
    """Whether the state directory can be written to, and has room."""
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
    yield Finding(
        "state", status, text, "" if status == "ok" else "make room: snapshots and artefacts go there"
    )


def libraries(settings: Settings) -> Iterator[Finding]:
    """Libraries that these settings need, beyond the core."""
    rules = [spec.combined_rule() for spec in settings.models.values()]
    asks_drift = any(leaf.name == "drift" for rule in rules for leaf in rule.leaves())
    needed = [("mlflow", "mlflow"), ("sklearn", "scoring"), ("pyarrow", "scoring")]
    needed += [("evidently", "drift")] if asks_drift else []
    needed += [("cryptography", "anchor")] if settings.audit.keeper != "none" else []
    needed += [("pyarrow", "storage")] if settings.storage.url else []
    needed += [("boto3", "cloudwatch")] if settings.adapters.metrics == "cloudwatch" else []
    kinds = set(all_kinds(settings).values())
    needed += [("slack_sdk", "slack")] if "slack" in kinds else []
    needed += [("apprise", "apprise")] if "apprise" in kinds else []
    needed += [("psycopg", "postgres")] if settings.ledger.store == "postgres" else []
    in_cluster = settings.adapters.compute == "kubernetes" or settings.traffic.router == "gateway"
    needed += [("kubernetes", "kubernetes")] if in_cluster else []
    needed = list(dict(needed).items())  # one library may serve several
    missing = [(library, extra) for library, extra in needed if find_spec(library) is None]
    for library, extra in missing:
        fix = f"pip install 'autoretrain[{extra}]'"
        yield Finding("libraries", "problem", f"{library} is not installed", fix)
    if not missing:
        yield ok("libraries", f"{', '.join(library for library, _ in needed)} are installed")
