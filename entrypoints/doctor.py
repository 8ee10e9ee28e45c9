"""The examination of an installation: every part it needs, asked for real, with what to do where it fails."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from ..adapters.anchors_command import CommandAnchors
from ..adapters.compute_kubernetes import KubernetesCompute
from ..adapters.object_store import PROBE
from ..adapters.sandbox import REMEDY, find_sandbox
from ..domain.anchors import Anchor
from ..domain.idle import windows_of
from ..domain.spec import TrainingSpec
from ..ports.anchors import AnchorKeeper
from ..ports.data import SnapshotRequest
from ..ports.errors import AutoRetrainError, ConfigurationError, Permanent, Refused, Temporary
from ..ports.metrics import MetricQuery
from ..ports.notifier import DEFAULT_TARGET, Notifier
from ..ports.outbox import Backlog, Outgoing
from ..ports.values import TimeWindow
from .anchor_keys import read_signer
from .anchoring import latest_anchor
from .audit import chains_alone
from .audit import examine as examine_audit
from .container import build_object_store
from .pipeline import AutoRetrainPipeline
from .service import exclusive
from .settings import Settings, load_settings
from .targets import all_kinds

_LEAST_FREE_BYTES = 1 << 30
_FAR_AHEAD = datetime(9999, 12, 31, tzinfo=UTC)
_MANY = 1000
_STORE_FIX = "see docs/object_storage.md: what the bucket has to allow"
_TAMPERED = "restore the ledger from a backup, and find out who changed it"


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
        findings = [
            _ok("settings", f"{len(checked.models)} models"),
            *_state_directory(checked),
            *_extras(checked),
        ]
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
    yield Finding(
        "state", status, text, "" if status == "ok" else "make room: snapshots and artefacts go there"
    )


def _extras(settings: Settings) -> Iterator[Finding]:
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
    needed += [("kubernetes", "kubernetes")] if settings.adapters.compute == "kubernetes" else []
    needed = list(dict(needed).items())  # one library may serve several
    missing = [(library, extra) for library, extra in needed if find_spec(library) is None]
    for library, extra in missing:
        fix = f"pip install 'autoretrain[{extra}]'"
        yield Finding("libraries", "problem", f"{library} is not installed", fix)
    if not missing:
        yield _ok("libraries", f"{', '.join(library for library, _ in needed)} are installed")


def _ledger(pipeline: AutoRetrainPipeline) -> Iterator[Finding]:
    models = pipeline.ports.ledger.models()
    faults = examine_audit(pipeline.ports.ledger, chains_alone()).faults
    for fault in faults:
        yield Finding("ledger", "problem", str(fault), _TAMPERED)
    if not faults:
        place = getattr(pipeline.ports.ledger, "place", "of your own")
        yield _ok("ledger", f"{place}: {len(models)} streams, all whole")
    for weakness in getattr(pipeline.ports.ledger, "weaknesses", list)():
        yield Finding("ledger", "warning", weakness, "change the settings of the server, or name another one")


def _storage(pipeline: AutoRetrainPipeline) -> Iterator[Finding]:
    """Write, read, list and delete a small object, each by the permission that it takes."""
    store = build_object_store(pipeline.settings)
    if store is None:
        yield _ok("storage", "snapshots and predictions stay on this machine; storage.url is for others")
        return
    faults = {permission: fault for permission, fault in store.examine() if fault is not None}
    undeleted = faults.pop("s3:DeleteObject", None)
    for text, fault in {str(fault): fault for fault in faults.values()}.items():
        away = isinstance(fault, Temporary)
        yield Finding("storage", "problem", text, "" if away else _STORE_FIX)
    if undeleted is not None and not faults:
        text = f"{store.url}/{PROBE} stays: nothing may be deleted there"
        yield Finding(
            "storage", "warning", text, "nothing needs it; s3:DeleteObject would let it be tidied up"
        )
    elif not faults:
        yield _ok("storage", f"{store.url}: can be written, read and listed")


def _anchors(pipeline: AutoRetrainPipeline) -> Iterator[Finding]:
    """Whether anchors are made and kept, and what they show beyond the chains."""
    keeper = pipeline.anchor_keeper
    if keeper is None:
        yield _ok("anchors", "none are made; with audit.keeper, a ledger that was cut or rewritten is found")
        return
    read_signer(pipeline.settings)
    latest = latest_anchor(keeper)
    if latest is None:
        yield Finding("anchors", "warning", "none is kept yet", "make the first: autoretrain audit anchor")
        return
    findings = [*_late(pipeline, keeper, latest), *_shown_by_anchors(pipeline)]
    yield from findings or [_ok("anchors", f"the latest is {latest.label}, and the ledger is as it knows it")]


def _late(pipeline: AutoRetrainPipeline, keeper: AnchorKeeper, latest: Anchor) -> Iterator[Finding]:
    audit = pipeline.settings.audit
    waiting = len(keeper.waiting()) if isinstance(keeper, CommandAnchors) else 0
    if waiting:
        text = f"{waiting} of them not taken by {audit.command[0]} yet"
        yield Finding("anchors", "warning", text, "hand them over now: autoretrain audit anchor")
    if datetime.now(UTC) - datetime.fromisoformat(latest.at) > 2 * timedelta(hours=audit.every_hours):
        text = f"the latest is {latest.label}, and one is due every {audit.every_hours:g} h"
        yield Finding("anchors", "warning", text, "let autoretrain run; its log and /healthz say what fails")


def _shown_by_anchors(pipeline: AutoRetrainPipeline) -> Iterator[Finding]:
    for fault in pipeline.verify_audit():
        if fault.anchor is not None or not fault.model:
            yield Finding("anchors", "problem", str(fault), _TAMPERED)


def _notices(pipeline: AutoRetrainPipeline) -> Iterator[Finding]:
    outbox = pipeline.ports.outbox
    how = ", ".join(dict.fromkeys(all_kinds(pipeline.settings).values()))
    backlog = outbox.counts()
    if not backlog.waiting and not backlog.dead:
        yield _ok("notices", f"sent by {how}, none waits and none was given up")
    if dead := outbox.dead_letters():
        oldest, last = f"{dead[0].notice.at:%Y-%m-%d %H:%M} UTC", dead[-1]
        text = (
            f"{len(dead)} given up, the oldest of {oldest}, the last one ({last.notice.title}): {last.error}"
        )
        fix = (
            "check who is told and its secret in the environment, then autoretrain notices test and "
            "autoretrain notices resend --all"
        )
        yield Finding("notices", "warning", text, fix)
    if backlog.waiting:
        yield _waiting_notices(backlog, outbox.due(_FAR_AHEAD, limit=_MANY))


def _told(pipeline: AutoRetrainPipeline) -> Iterator[Finding]:
    """Everybody who is told, as far as can be seen without telling them anything."""
    kinds = all_kinds(pipeline.settings)
    for name, notifier in {DEFAULT_TARGET: pipeline.ports.notifier, **pipeline.targets}.items():
        about = f"notifier.{name}"
        yield from _run(about, lambda _, name=name, each=notifier: _one_told(name, kinds, each), pipeline)  # type: ignore[misc]


def _one_told(name: str, kinds: Mapping[str, str], notifier: Notifier) -> Iterator[Finding]:
    check: Callable[[], str] | None = getattr(notifier, "check", None)
    about = f"notifier.{name}"
    service = getattr(notifier, "service", "")
    kind = f"{kinds.get(name, 'of your own')}{f', {service}' if service else ''}"
    if check is None:
        tried = "" if kind == "log" else f"; try it: autoretrain notices test {name}"
        yield _ok(about, f"{kind}{tried}")
        return
    try:
        yield _ok(about, f"{kind}, {check()}")
    except Temporary as away:
        fix = f"nothing is lost while it is away; try it: autoretrain notices test {name}"
        yield Finding(about, "warning", f"{kind}: {away}", fix)


def _waiting_notices(backlog: Backlog, waiting: Sequence[Outgoing]) -> Finding:
    """What waits is no news, unless sending it has failed."""
    since = f"{backlog.oldest_waiting:%Y-%m-%d %H:%M} UTC" if backlog.oldest_waiting else "now"
    text = f"{backlog.waiting} waiting, the oldest since {since}"
    errors = [outgoing.error for outgoing in waiting if outgoing.error]
    if not errors:
        return _ok("notices", text)
    fix = "they are tried again by themselves, and lose nothing; see: autoretrain notices"
    return Finding("notices", "warning", f"{text}: {errors[0]}", fix)


def _registry(pipeline: AutoRetrainPipeline) -> Iterator[Finding]:
    models = sorted(pipeline.settings.models)
    champions = pipeline.ports.registry.champions(models)
    yield _ok("mlflow", f"answers, {len(champions)} of {len(models)} models have a champion")
    for model in models:
        if model not in champions:
            fix = f"set the alias 'champion' in MLflow, or train the first one: autoretrain start {model}"
            yield Finding(f"models.{model}", "warning", "no champion serves", fix)


def _metrics(pipeline: AutoRetrainPipeline) -> Iterator[Finding]:
    """Ask for every live metric; re-scored ones need predictions, and are not worth that here."""
    source, models = pipeline.settings.adapters.metrics, pipeline.settings.models
    if source == "rescoring":
        yield _ok("metrics", "from re-scoring the champion on recent labelled rows")
        return
    now = datetime.now(UTC)
    window = {model: TimeWindow(now - spec.holdout, now) for model, spec in models.items()}
    queries = [MetricQuery(model, spec.metric, window[model]) for model, spec in models.items()]
    answers = pipeline.ports.metrics.read(queries)
    yield _ok("metrics", f"{source} answers")
    tells_apart = {
        "prometheus": "the label of the model",
        "cloudwatch": "namespace, region and all dimensions",
    }
    for answer in answers:
        if answer.value is None:
            where, metric = f"models.{answer.query.model}.metric", answer.query.metric
            fix = f"check {source}.queries.{metric} and {tells_apart[source]}"
            yield Finding(where, "warning", f"{metric} is unknown: {answer.reason}", fix)


def _data(pipeline: AutoRetrainPipeline) -> Iterator[Finding]:
    for model in pipeline.settings.models:
        yield from _run(f"models.{model}.data", lambda p, model=model: _rows(p, model), pipeline)  # type: ignore[misc]


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
        yield _ok(about, f"{text}, label {rows.label}, {len(rows.features)} features")


def _compute(pipeline: AutoRetrainPipeline) -> Iterator[Finding]:
    """Whether runs can be started where they are to run."""
    compute = pipeline.ports.compute
    if isinstance(compute, KubernetesCompute):
        missing = compute.not_permitted()
        for words in missing:
            yield Finding("kubernetes", "problem", f"may not {words}", "add it to the role of its account")
        if not missing:
            names = ", ".join(pipeline.settings.kubernetes.namespaces())
            yield _ok("kubernetes", f"answers, and permits all that is needed in {names}")


def _training(pipeline: AutoRetrainPipeline) -> Iterator[Finding]:
    if pipeline.settings.adapters.compute != "subprocess":
        yield _ok("training", "in pods: what their image holds is not looked at from here")
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
    return _ok(about, f"runs {found}")


def _sandbox(pipeline: AutoRetrainPipeline) -> Iterator[Finding]:
    """Say what runs of a model's own code are kept from here."""
    if pipeline.settings.adapters.compute != "subprocess":
        yield _ok("predictions", "in pods: a NetworkPolicy has to keep them from everything")
        return
    about, wanted = "predictions", pipeline.settings.predictions
    for path in wanted.readable:
        if not (pipeline.settings.base / path).exists():
            yield Finding(about, "problem", f"there is no {path}", "correct predictions.readable")
    try:
        sandbox = find_sandbox(wanted.sandbox)
    except Permanent as refused:
        yield Finding(about, "problem", str(refused), 'or set predictions.sandbox = "auto"')
        return
    text = f"runs of models: {sandbox.words}"
    if sandbox.open:
        fix = 'set predictions.sandbox = "auto"' if wanted.sandbox == "none" else REMEDY
        yield Finding(about, "warning", text, fix)
    else:
        yield _ok(about, text)


def _controller(pipeline: AutoRetrainPipeline) -> Iterator[Finding]:
    running: Sequence[str] = getattr(pipeline.ports.ledger, "controllers", list)()
    if running:
        yield _ok("controller", f"{', '.join(running)} share the models")
        return
    try:
        with exclusive(pipeline.settings.state_dir):
            pass
    except Refused as refused:
        yield _ok("controller", str(refused))
    else:
        yield Finding("controller", "warning", "none runs, so nobody watches", "start one: autoretrain run")


_CHECKS: dict[str, Check] = {
    "ledger": _ledger,
    "storage": _storage,
    "anchors": _anchors,
    "notifier": _told,
    "notices": _notices,
    "mlflow": _registry,
    "metrics": _metrics,
    "data": _data,
    "compute": _compute,
    "training": _training,
    "predictions": _sandbox,
    "controller": _controller,
}
