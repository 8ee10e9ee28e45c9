"""The container: which class stands behind which port, built from checked settings only.

Providers are lazy, so that a command pays only for what it uses. No other file knows of the container but the
library that asks it for the ports.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from dependency_injector import containers, providers

from ..adapters.object_store import Connection, ObjectStore
from ..adapters.object_store_ports import (
    StoredDataSource,
    StoredDrift,
    StoredInspector,
    StoredPredictor,
    StoredScorer,
)
from ..domain.world import Ports
from ..ports.anchors import AnchorKeeper
from ..ports.compute import RunLimits
from ..ports.data import DataSource
from ..ports.drift import DriftDetector
from ..ports.errors import ConfigurationError, Problem
from ..ports.inspector import Inspector
from ..ports.metrics import MetricSource
from ..ports.predictor import Predictor
from ..ports.scorer import Scorer
from .own_metrics import OwnMetrics, load_own_metrics
from .prometheus import prometheus_access
from .routers import build_router
from .settings import Secrets, Settings, secret_variables
from .settings_canary import canary_problems
from .targets import default_notifier

_instances = itertools.count(1)


def _state(settings: Settings) -> Path:
    """The state directory, made when it is not there."""
    try:
        settings.state_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fix = f"cannot be used as a directory: {error.strerror}"
        raise ConfigurationError([Problem("state", str(settings.state_dir), fix)]) from None
    return settings.state_dir


def _ledger(settings: Settings, secrets: Secrets) -> Any:
    _state(settings)
    return settings.store(secrets).ledger()


def _observations(settings: Settings, secrets: Secrets) -> Any:
    _state(settings)
    return settings.store(secrets).observations()


def _compute(settings: Settings) -> Any:
    from ..adapters.compute_subprocess import SubprocessCompute
    from .structured_logs import set_by_us

    compute = settings.compute
    return SubprocessCompute(
        settings.state_dir / "runs",
        max_parallel=compute.max_parallel,
        grace_seconds=compute.grace_seconds,
        base=settings.base,
        withheld=(*secret_variables(), *set_by_us),
        variables=connection_of(settings).variables if settings.storage.url else {},
    )


def _kubernetes(settings: Settings) -> Any:
    from ..adapters.compute_kubernetes import KubernetesCompute
    from ..adapters.kubernetes_manifest import PodTemplate

    kubernetes = settings.kubernetes
    variables = connection_of(settings).variables if settings.storage.url else {}

    def training_pods(model: str) -> PodTemplate:
        """A model's pods, which are told where the rows are."""
        template = kubernetes.training_pods(model)
        return replace(template, environment={**variables, **template.environment})

    return KubernetesCompute(
        kubernetes.cluster(settings.located),
        training_pods,
        kubernetes.prediction_pods(),
        namespaces=kubernetes.namespaces(),
        owner=kubernetes.installation,
        pending_seconds=kubernetes.pending_seconds,
        relist_seconds=kubernetes.relist_seconds,
    )


def connection_of(settings: Settings) -> Connection:
    """How the object store of the settings is reached; its ``variables`` are for trainings elsewhere."""
    storage = settings.storage
    return Connection(
        endpoint=storage.endpoint,
        region=storage.region,
        connect_timeout=storage.connect_timeout_seconds,
        request_timeout=storage.request_timeout_seconds,
        attempts=storage.attempts,
    )


def _store(settings: Settings) -> ObjectStore | None:
    """The object store; ``None`` keeps snapshots and predictions in local files."""
    if settings.storage.url is None:
        return None
    return ObjectStore(settings.storage.url, settings.state_dir / "object-cache", connection_of(settings))


def _data(settings: Settings, store: ObjectStore | None) -> DataSource:
    from ..adapters.data_duckdb import DuckdbDataSource, Table

    tables = {
        name: Table(**model.data.model_dump(), keep=model.promotion.columns)
        for name, model in settings.models.items()
        if model.data is not None
    }
    source = DuckdbDataSource(tables, settings.state_dir / "snapshots", base=settings.base)
    return StoredDataSource(source, store) if store else source


def _registry(settings: Settings) -> Any:
    from ..adapters.registry_mlflow import MlflowRegistry

    return MlflowRegistry(
        settings.tracking_uri,
        experiment=settings.mlflow.experiment,
        cache=settings.state_dir / "artefact-cache",
        most_bytes=settings.mlflow.max_artifact_mb << 20,
    )


def _tracker(settings: Settings) -> Any:
    from ..adapters.tracker_mlflow import MlflowTracker

    return MlflowTracker(
        settings.tracking_uri, experiment=settings.mlflow.experiment, artifact_root=settings.artifact_root
    )


def _predictor(settings: Settings, compute: Any, registry: Any, store: ObjectStore | None) -> Predictor:
    from ..adapters.predictor_runs import RunPredictor

    fetch = getattr(registry, "fetch", None)  # no part of the port: a registry of the user's own may lack it
    predictions = settings.predictions
    predictor = RunPredictor(
        compute,
        settings.state_dir / "predictions",
        fetch=fetch,
        python=sys.executable if settings.adapters.compute == "subprocess" else None,
        deadline_seconds=predictions.deadline_seconds,
        limits=RunLimits(
            memory_bytes=predictions.memory_mb << 20,
            cpu_seconds=predictions.cpu_seconds,
            processes=predictions.processes,
            output_bytes=predictions.output_mb << 20,
        ),
        sandbox=predictions.sandbox,
        readable=[str((settings.base / path).absolute()) for path in predictions.readable],
        hidden=[str(settings.base.absolute()), str(settings.state_dir)],
        most_bytes=settings.mlflow.max_artifact_mb << 20,
    )
    return StoredPredictor(predictor, store) if store else predictor


def _scorer(store: ObjectStore | None, own: OwnMetrics) -> Scorer:
    from ..adapters.scorer_sklearn import SklearnScorer

    scorer = SklearnScorer(own.functions)
    return StoredScorer(scorer, store) if store else scorer


def _inspector(store: ObjectStore | None) -> Inspector:
    from ..adapters.inspector_duckdb import DuckdbInspector

    return StoredInspector(DuckdbInspector(), store) if store else DuckdbInspector()


def _rescoring(settings: Settings, data: DataSource, predictor: Predictor, scorer: Scorer) -> MetricSource:
    from ..adapters.metrics_rescoring import RescoringMetrics

    tasks = {name: model.scoring for name, model in settings.models.items()}
    return RescoringMetrics(data, predictor, scorer, tasks)


def _prometheus(settings: Settings, secrets: Secrets) -> MetricSource:
    from ..adapters.metrics_prometheus import PrometheusMetrics, PrometheusQuery

    prometheus = settings.prometheus
    queries = {name: PrometheusQuery(one.expression, one.count) for name, one in prometheus.queries.items()}
    return PrometheusMetrics(
        prometheus.url,
        queries,
        model_label=prometheus.model_label,
        labels=prometheus.labels,
        step_seconds=prometheus.step_seconds,
        timeout=prometheus.timeout_seconds,
        max_bytes=prometheus.max_answer_mb * 1_000_000,
        **prometheus_access(settings, secrets),
    )


def _cloudwatch(settings: Settings) -> MetricSource:
    from ..adapters.metrics_cloudwatch import CloudWatchMetrics

    cloudwatch = settings.cloudwatch
    return CloudWatchMetrics(
        cloudwatch.namespace or "",  # checked with the settings
        {name: one.query() for name, one in cloudwatch.queries.items()},
        region=cloudwatch.region,
        endpoint_url=cloudwatch.endpoint_url,
        model_dimension=cloudwatch.model_dimension,
        dimensions=cloudwatch.dimensions,
        period_seconds=cloudwatch.period_seconds,
        timeout=cloudwatch.timeout_seconds,
    )


def _evidently(settings: Settings, compute: Any, store: ObjectStore | None) -> DriftDetector:
    from ..adapters.drift_evidently import EvidentlyDrift

    drift = EvidentlyDrift(compute, settings.state_dir / "drift")
    return StoredDrift(drift, store) if store else drift


def _telemetry() -> Any:
    from ..adapters.telemetry_prometheus import PrometheusTelemetry

    return PrometheusTelemetry()


def _file_anchors(settings: Settings) -> AnchorKeeper:
    from ..adapters.anchors_file import FileAnchors

    return FileAnchors(settings.located(settings.audit.path or ""))


def _mlflow_anchors(settings: Settings) -> AnchorKeeper:
    from ..adapters.anchors_mlflow import MlflowAnchors

    return MlflowAnchors(settings.tracking_uri, experiment=settings.audit.experiment)


def _command_anchors(settings: Settings) -> AnchorKeeper:
    from ..adapters.anchors_command import CommandAnchors

    return CommandAnchors(
        settings.audit.command,
        settings.state_dir / "anchors.jsonl",
        directory=settings.base,
        timeout=settings.audit.timeout_seconds,
        withheld=secret_variables(),
    )


PORTS = tuple(field.name for field in fields(Ports))
"""Names under which a port can be replaced."""


class Container(containers.DeclarativeContainer):
    """One provider a port; each may be overridden by an object of the integrator's."""

    settings = providers.Dependency(instance_of=Settings)
    secrets = providers.Dependency(instance_of=Secrets)

    ledger = providers.Singleton(_ledger, settings, secrets)
    agenda = providers.Singleton(lambda ledger: ledger, ledger)
    limits = providers.Singleton(lambda ledger: ledger, ledger)
    outbox = providers.Singleton(lambda ledger: ledger, ledger)
    observations = providers.Singleton(_observations, settings, secrets)
    processes = providers.Singleton(_compute, settings)
    compute = providers.Selector(
        providers.Callable(lambda settings: settings.adapters.compute, settings),
        subprocess=processes,
        kubernetes=providers.Singleton(_kubernetes, settings),
    )
    object_store = providers.Singleton(_store, settings)
    own_metrics = providers.Singleton(load_own_metrics, settings)
    data = providers.Singleton(_data, settings, object_store)
    registry = providers.Singleton(_registry, settings)
    tracker = providers.Singleton(_tracker, settings)
    predictor = providers.Singleton(_predictor, settings, compute, registry, object_store)
    scorer = providers.Singleton(_scorer, object_store, own_metrics)
    inspector = providers.Singleton(_inspector, object_store)
    metrics = providers.Selector(
        providers.Callable(lambda settings: settings.adapters.metrics, settings),
        rescoring=providers.Singleton(_rescoring, settings, data, predictor, scorer),
        prometheus=providers.Singleton(_prometheus, settings, secrets),
        cloudwatch=providers.Singleton(_cloudwatch, settings),
    )
    drift = providers.Selector(
        providers.Callable(lambda settings: settings.adapters.drift, settings),
        # Our own code on rows that the controller reads anyway: beside it, wherever models are trained.
        evidently=providers.Singleton(_evidently, settings, processes, object_store),
    )
    notifier = providers.Singleton(default_notifier, settings, secrets)
    telemetry = providers.Singleton(_telemetry)
    router = providers.Singleton(build_router, settings)
    anchors = providers.Selector(
        providers.Callable(lambda settings: settings.audit.keeper, settings),
        none=providers.Object(None),
        file=providers.Singleton(_file_anchors, settings),
        mlflow=providers.Singleton(_mlflow_anchors, settings),
        command=providers.Singleton(_command_anchors, settings),
    )


def holder_name(kind: str) -> str:
    """Identity of one more instance among all that share a ledger, also within this process.

    Host and process id are for people. In containers they can be another's, too, and two instances of one
    name would hold the same leases.
    """
    import secrets
    import socket

    return f"{kind}:{socket.gethostname()}:{os.getpid()}:{next(_instances)}:{secrets.token_hex(4)}"


def build_ports(settings: Settings, replacements: Mapping[str, Any]) -> Ports:
    """Build every port from the settings, with the caller's own in place of ours.

    Args:
        settings: Checked settings.
        replacements: Objects by port name; a ledger that is also agenda, limits and outbox replaces all four.

    Returns:
        The ports.

    Raises:
        TypeError: There is no port of a given name.
        ConfigurationError: A secret that the settings ask for is missing, or what a canary needs, or a
            function of the user's cannot be used.
    """
    unknown = sorted(set(replacements) - set(PORTS))
    if unknown:
        raise TypeError(f"there is no port named {', '.join(unknown)}; there are {', '.join(PORTS)}")
    container = Container(settings=settings, secrets=Secrets())
    own = [] if "scorer" in replacements else container.own_metrics().problems
    if problems := [*canary_problems(settings, replacements), *own]:
        raise ConfigurationError(problems)
    for name, port in _with_ledger(replacements).items():
        container.providers[name].override(providers.Object(port))
    return Ports(**{name: container.providers[name]() for name in PORTS})


def build_keeper(settings: Settings) -> AnchorKeeper | None:
    """Build the keeper of anchors; ``None`` where the settings keep none. The loop does not know of it."""
    keeper: AnchorKeeper | None = Container(settings=settings, secrets=Secrets()).anchors()
    return keeper


def build_object_store(settings: Settings) -> ObjectStore | None:
    """Build the object store of the settings; ``None`` where they name none. The loop sees only ports."""
    return _store(settings)


def _with_ledger(replacements: Mapping[str, Any]) -> dict[str, Any]:
    ledger = replacements.get("ledger")
    others = {"agenda": "claim", "limits": "used", "outbox": "delivered"}
    same = {name: ledger for name, method in others.items() if hasattr(ledger, method)}
    return {**same, **replacements}
