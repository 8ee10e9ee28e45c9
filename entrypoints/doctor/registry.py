"""MLflow: what is there, and what may be written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...adapters.mlflow_probe import PROBE, Deed, MlflowProbe, Tried
from ...ports.errors import AutoRetrainError, Temporary
from ..pipeline import AutoRetrainPipeline
from ..settings import Settings
from .finding import FEW, Finding, names_of, ok

_FIXES: dict[Deed, str] = {
    "experiment": "create the experiment, and give the user MANAGE on it; or let the user create experiments",
    "runs": "give the user EDIT on the experiment, or MANAGE, which deletes as well",
    "artefacts": "see the log of the server and its --artifacts-destination; or, where artefacts are written "
    "past the server, the credentials of their store",
    "model": "give the user EDIT on the registered model",
}
_DELETING = (
    "give the user MANAGE on the experiment: else what a lost training has logged cannot be removed, and its "
    "job fails"
)
_MAY: dict[Deed, str] = {
    "runs": "write runs",
    "artefacts": "write and read artefacts",
    "deleting": "delete runs",
}
_IN_PODS = "; the pods write artefacts, which is not tried from here"


def registry(pipeline: AutoRetrainPipeline) -> Iterator[Finding]:
    """Whether MLflow answers, who serves, and whether all that a job writes may be written."""
    settings = pipeline.settings
    probe = MlflowProbe(
        settings.tracking_uri, experiment=settings.mlflow.experiment, artifact_root=settings.artifact_root
    )
    models = sorted(settings.models)
    try:
        version = probe.version()
        champions = pipeline.ports.registry.champions(models)
    except AutoRetrainError as error:
        yield Finding("mlflow", "problem", f"{probe.place}: {error}")
        return
    name = f"MLflow {version}" if version else "MLflow"
    serving = f"{len(champions)} of {len(models)} models have a champion"
    yield ok("mlflow", f"{probe.place}: {name} answers, {serving}")
    yield from _writing(probe, settings)
    for model in models:
        if model not in champions:
            fix = f"set the alias 'champion' in MLflow, or train the first one: autoretrain start {model}"
            yield Finding(f"models.{model}", "warning", "no champion serves", fix)


def _writing(probe: MlflowProbe, settings: Settings) -> Iterator[Finding]:
    """Each thing that is refused, and one line for all that are not."""
    local = settings.adapters.compute == "subprocess"
    tried = list(probe.examine(sorted(settings.models), artefacts=local))
    models = [one for one in tried if one.deed == "model"]
    for one in tried:
        if one.fault is not None and one.deed != "model":
            yield _refused(probe.place, one, one.fault)
    yield from _unchanged(probe.place, models)
    done = [one for one in tried if one.fault is None]
    if may := [_MAY[one.deed] for one in done if one.deed in _MAY]:
        changed = sum(one.fault is None for one in models)
        may += [f"change {changed} of {len(models)} registered models"] if changed else []
        yield ok("mlflow", f"{probe.place}: {_where(done)}may {', '.join(may)}{'' if local else _IN_PODS}")


def _refused(place: str, one: Tried, fault: AutoRetrainError) -> Finding:
    if one.deed == "deleting":
        return Finding("mlflow", "warning", f"{place}: the run {PROBE} stays: {fault}", _DELETING)
    away = isinstance(fault, Temporary) and one.deed != "artefacts"
    return Finding("mlflow", "problem", f"{place}: {fault}", "" if away else _FIXES[one.deed])


def _unchanged(place: str, models: Sequence[Tried]) -> Iterator[Finding]:
    """The registered models that may not be changed: a line a model, or one for many."""
    refused: dict[str, list[str]] = {}
    for one in models:
        if one.fault is not None:
            refused.setdefault(str(one.fault), []).append(one.about)
    for fault, names in refused.items():
        if len(names) > FEW:
            yield Finding("mlflow", "problem", f"{place}: {names_of(names)}: {fault}", _FIXES["model"])
            continue
        for name in names:
            yield Finding(f"models.{name}", "problem", f"{place}: {fault}", _FIXES["model"])


def _where(done: Sequence[Tried]) -> str:
    used = {one.deed: one.about for one in done}
    if used.get("runs") == PROBE:
        return f"experiment {used['experiment']} is not there yet, the first job makes it; in {PROBE}: "
    return f"experiment {used['experiment']}: "
