"""Every branch of the container is built, so that no setting first fails when somebody chooses it."""

import itertools
import json
from pathlib import Path
from typing import Any, get_args

import pytest

from autoretrain import AutoRetrainPipeline
from autoretrain.adapters import (
    compute_kubernetes,
    compute_subprocess,
    data_duckdb,
    drift_evidently,
    inspector_duckdb,
    ledger_sqlite,
    metrics_cloudwatch,
    metrics_prometheus,
    metrics_rescoring,
    notifier_apprise,
    notifier_log,
    notifier_slack,
    notifier_webhook,
    observations_sqlite,
    predictor_runs,
    registry_mlflow,
    scorer_sklearn,
    telemetry_prometheus,
    tracker_mlflow,
)
from autoretrain.adapters.memory import MemoryLedger, MemoryMetrics, MemoryRegistry
from autoretrain.entrypoints import container
from autoretrain.entrypoints.container import PORTS, holder_name
from autoretrain.entrypoints.settings import Settings, parse_settings
from autoretrain.entrypoints.settings_sections import AdapterSettings
from autoretrain.ports.errors import ConfigurationError

WEBHOOK = "AUTORETRAIN_SLACK_WEBHOOK_URL"

DEFAULTS = {
    "ledger": ledger_sqlite.SqliteLedger,
    "agenda": ledger_sqlite.SqliteLedger,
    "limits": ledger_sqlite.SqliteLedger,
    "outbox": ledger_sqlite.SqliteLedger,
    "observations": observations_sqlite.SqliteObservations,
    "metrics": metrics_rescoring.RescoringMetrics,
    "drift": drift_evidently.EvidentlyDrift,
    "data": data_duckdb.DuckdbDataSource,
    "compute": compute_subprocess.SubprocessCompute,
    "registry": registry_mlflow.MlflowRegistry,
    "tracker": tracker_mlflow.MlflowTracker,
    "predictor": predictor_runs.RunPredictor,
    "scorer": scorer_sklearn.SklearnScorer,
    "inspector": inspector_duckdb.DuckdbInspector,
    "notifier": notifier_log.LogNotifier,
    "telemetry": telemetry_prometheus.PrometheusTelemetry,
    "router": type(None),  # nobody shares requests unless a canary is wanted
}
CHOICES: dict[str, dict[str, type[Any]]] = {
    "metrics": {
        "rescoring": metrics_rescoring.RescoringMetrics,
        "prometheus": metrics_prometheus.PrometheusMetrics,
        "cloudwatch": metrics_cloudwatch.CloudWatchMetrics,
    },
    "drift": {"evidently": drift_evidently.EvidentlyDrift},
    "notifier": {
        "log": notifier_log.LogNotifier,
        "slack": notifier_slack.SlackNotifier,
        "webhook": notifier_webhook.WebhookNotifier,
        "apprise": notifier_apprise.AppriseDigestNotifier,
    },
    "compute": {
        "subprocess": compute_subprocess.SubprocessCompute,
        "kubernetes": compute_kubernetes.KubernetesCompute,
    },
}


def settings(directory: Path, **adapters: str) -> Settings:
    """Settings of one model, with a choice of adapters."""
    cluster = {"name": "here", "cluster": {"server": "https://127.0.0.1:1"}}
    user = {"name": "me", "user": {"token": "sesame"}}
    context = {"name": "here", "context": {"cluster": "here", "user": "me"}}
    config = {"clusters": [cluster], "users": [user], "contexts": [context], "current-context": "here"}
    (directory / "kubeconfig").write_text(json.dumps(config))
    return parse_settings(
        {
            "adapters": adapters,
            "kubernetes": {"kubeconfig": "kubeconfig", "image": "heat:1"},
            "mlflow": {"tracking_uri": "http://127.0.0.1:1"},
            "prometheus": {"queries": {"accuracy": {"expression": "accuracy"}}},
            "cloudwatch": {"namespace": "Models", "queries": {"accuracy": {"metric": "Accuracy"}}},
            "models": {"boiler": {"training": {"command": ["true"]}}},
        },
        directory,
    )


def test_every_port_has_its_default(tmp_path: Path) -> None:
    ports = AutoRetrainPipeline(settings=settings(tmp_path)).ports
    assert {name: type(getattr(ports, name)) for name in PORTS} == DEFAULTS
    assert len({id(store) for store in (ports.ledger, ports.agenda, ports.limits, ports.outbox)}) == 1


def test_every_choice_of_the_settings_is_known_here() -> None:
    fields = AdapterSettings.model_fields
    assert {name: set(get_args(fields[name].annotation)) for name in fields} == {
        name: set(choices) for name, choices in CHOICES.items()
    }


@pytest.mark.parametrize(
    ("port", "choice", "adapter"),
    [(port, choice, adapter) for port, of in CHOICES.items() for choice, adapter in of.items()],
)
def test_every_choice_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: str, choice: str, adapter: type[Any]
) -> None:
    monkeypatch.setenv(WEBHOOK, "https://hooks.example/T0/sesame")
    monkeypatch.setenv("AUTORETRAIN_PROMETHEUS_TOKEN", "sesame")
    monkeypatch.setenv("AUTORETRAIN_WEBHOOK_URL", "https://hooks.example/sesame")
    monkeypatch.setenv("AUTORETRAIN_WEBHOOK_KEY", "sesame" * 6)
    monkeypatch.setenv("AUTORETRAIN_APPRISE_URL", "mailtos://ann:sesame@plant.example")
    pipeline = AutoRetrainPipeline(settings=settings(tmp_path, **{port: choice}))
    built = getattr(pipeline.ports, port)
    assert type(built) is adapter
    assert "sesame" not in repr(built)


@pytest.mark.parametrize("address", [None, "hooks.example/T0/sesame"])
def test_slack_without_a_usable_webhook_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    monkeypatch.delenv(WEBHOOK, raising=False)
    if address:
        monkeypatch.setenv(WEBHOOK, address)
    with pytest.raises(ConfigurationError, match=WEBHOOK) as caught:
        AutoRetrainPipeline(settings=settings(tmp_path, notifier="slack"))
    assert "sesame" not in str(caught.value)


def test_a_replaced_port_is_used_as_it_is_and_those_that_need_it_are_built(tmp_path: Path) -> None:
    metrics, registry = MemoryMetrics(), MemoryRegistry()
    ports = AutoRetrainPipeline(settings=settings(tmp_path), metrics=metrics, registry=registry).ports
    assert ports.metrics is metrics
    assert ports.registry is registry
    assert type(ports.predictor) is predictor_runs.RunPredictor


def test_a_ledger_that_is_all_three_replaces_all_three(tmp_path: Path) -> None:
    ledger, other = MemoryLedger(), MemoryLedger()
    ports = AutoRetrainPipeline(settings=settings(tmp_path), ledger=ledger).ports
    assert (ports.ledger, ports.agenda, ports.outbox) == (ledger, ledger, ledger)
    ports = AutoRetrainPipeline(settings=settings(tmp_path), ledger=ledger, outbox=other).ports
    assert (ports.agenda, ports.outbox) == (ledger, other)


def test_a_replaced_choice_needs_no_settings_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(WEBHOOK, raising=False)
    mine = notifier_log.LogNotifier("mine")
    pipeline = AutoRetrainPipeline(settings=settings(tmp_path, notifier="slack"), notifier=mine)
    assert pipeline.ports.notifier is mine


def test_a_port_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"no port named metricz; there are ledger, agenda, .*telemetry"):
        AutoRetrainPipeline(settings=settings(tmp_path), metricz=MemoryMetrics())


def test_every_instance_has_a_name_of_its_own() -> None:
    names = [holder_name("library") for _ in range(3)]
    assert len(set(names)) == 3
    assert all(name.startswith("library:") for name in names)


def test_two_containers_of_one_hostname_have_names_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is process 1 of its own container; with one name both would hold the same leases."""
    monkeypatch.setattr("os.getpid", lambda: 1)
    monkeypatch.setattr("socket.gethostname", lambda: "controller-0")
    names = set()
    for _ in range(2):
        monkeypatch.setattr(container, "_instances", itertools.count(1))
        names.add(holder_name("run"))
    assert len(names) == 2


def test_a_cluster_asks_for_what_its_pods_need_all_at_once(tmp_path: Path) -> None:
    values = {
        "adapters": {"compute": "kubernetes"},
        "kubernetes": {"models": {"boilr": {}}},
        "models": {"boiler": {"training": {"command": ["true"]}}},
    }
    with pytest.raises(ConfigurationError) as caught:
        parse_settings(values, tmp_path)
    assert [problem.where for problem in caught.value.problems] == [
        "kubernetes.models.boilr",
        "kubernetes.training.image",
        "kubernetes.prediction.image",
        "mlflow.tracking_uri",
    ]
    wrong = {"secrets": {"TOKEN": "hush"}, "nodes": [{"name": ""}], "volumes": [{"path": "state"}]}
    with pytest.raises(ConfigurationError) as caught:
        parse_settings({**values, "kubernetes": {"training": wrong}}, tmp_path)
    assert {problem.where for problem in caught.value.problems} == {
        "kubernetes.training.secrets.TOKEN",
        "kubernetes.training.nodes.0.name",
        "kubernetes.training.volumes.0.path",
    }
    terms: dict[str, Any] = {
        "name": "spot",
        "required": [
            {},
            {"matchExpressions": [{"key": "gpu", "operator": "In"}, {"key": "gpu", "operator": "Is"}]},
            {"matchFields": [{"key": "metadata.name", "operator": "Exists", "values": ["a"]}]},
        ],
        "preferred": [{"weight": 101, "preference": {"matchExpresions": []}}],
    }
    cores = {"matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["many"]}]}
    nodes = [terms, {"name": "large", "required": [cores]}]
    with pytest.raises(ConfigurationError) as caught:
        parse_settings({**values, "kubernetes": {"training": {"nodes": nodes}}}, tmp_path)
    assert {problem.where for problem in caught.value.problems} == {
        f"kubernetes.training.nodes.{where}"
        for where in (
            "0.required.0.matchExpressions",
            "0.required.1.matchExpressions.0.values",
            "0.required.1.matchExpressions.1.operator",
            "0.required.2.matchFields.0.values",
            "0.preferred.0.weight",
            "0.preferred.0.preference.matchExpresions",
            "1.required.0.matchExpressions.0.values",
        )
    }


def test_a_limit_of_cost_needs_a_price_for_all_that_it_counts(tmp_path: Path) -> None:
    cheap, dear = {"name": "spot", "price": 0.3}, {"name": "on-demand", "price": 1.0}
    values: dict[str, Any] = {
        "adapters": {"compute": "kubernetes"},
        "mlflow": {"tracking_uri": "http://mlflow:5000"},
        "kubernetes": {
            "image": "heat:1",
            "training": {"nodes": [cheap, dear], "interruptions": 2},
            "models": {"oven": {"nodes": [{"name": "gpu"}]}},
        },
        "limits": {"fleet": {"cost_per_day": 10}},
        "models": {
            "boiler": {"training": {"command": ["true"], "max_attempts": 2}},
            "oven": {"training": {"command": ["true"]}},
        },
    }
    with pytest.raises(ConfigurationError) as caught:
        parse_settings(values, tmp_path)
    assert [problem.where for problem in caught.value.problems] == ["kubernetes.models.oven.nodes.0.price"]

    values["kubernetes"]["models"]["oven"]["nodes"][0]["price"] = 4
    assert parse_settings(values, tmp_path).prices() == {"boiler": 0.3, "oven": 4.0}

    del values["adapters"]
    with pytest.raises(ConfigurationError) as caught:
        parse_settings(values, tmp_path)
    [problem] = caught.value.problems
    assert problem.where == "limits.fleet.cost_per_day"
    assert "runs of subprocess have no price" in str(caught.value)
