"""Settings: one ``autoretrain.toml``, checked as a whole, and secrets from the environment."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from ..adapters.mlflow_client import sqlite_file
from ..domain.limits import LimitSettings
from ..ports.credentials import without_credentials
from ..ports.errors import ConfigurationError, Flaws, Problem
from .settings_canary import canary_flaws
from .settings_cloudwatch import CloudWatchSettings
from .settings_file import DEFAULT_STATE, find_settings_file, read_toml
from .settings_kubernetes import KubernetesSettings
from .settings_prometheus import PrometheusSettings
from .settings_sections import (
    AdapterSettings,
    AuditSettings,
    ComputeSettings,
    ControllerSettings,
    LedgerSettings,
    LoggingSettings,
    MlflowSettings,
    ModelSettings,
    NotifierSettings,
    PredictionSettings,
    Section,
    StorageSettings,
    TelemetrySettings,
)
from .settings_traffic import TrafficSettings
from .stores import Store, store_of


class Settings(Section):
    """Everything a user can set.

    Attributes:
        base: Directory of the settings file; relative paths start here.
        state: Directory of ledger, runs and snapshots, relative to ``base``; on a local disk.
        ledger: Where the ledger is.
        storage: Where snapshots and predictions are kept.
        adapters: Which technology stands behind which port.
        notifier: Who gets which notices.
        prometheus: Live metrics.
        cloudwatch: Live metrics, too.
        mlflow: Registry and tracking.
        compute: Local runs.
        kubernetes: Runs as Jobs of a cluster.
        predictions: How runs of a model's own code are kept apart.
        controller: The loop.
        limits: What holds across models, for all controllers together.
        audit: Signed anchors of the ledger.
        logging: The log.
        telemetry: Where metrics are left that nobody can scrape.
        traffic: Who shares requests between champion and candidate.
        models: The fleet, by name.
    """

    base: Path
    state: Path = Path(DEFAULT_STATE)
    ledger: LedgerSettings = Field(default_factory=LedgerSettings)
    storage: StorageSettings = Field(default_factory=StorageSettings)
    adapters: AdapterSettings = Field(default_factory=AdapterSettings)
    notifier: NotifierSettings = Field(default_factory=NotifierSettings)
    prometheus: PrometheusSettings = Field(default_factory=PrometheusSettings)
    cloudwatch: CloudWatchSettings = Field(default_factory=CloudWatchSettings)
    mlflow: MlflowSettings = Field(default_factory=MlflowSettings)
    compute: ComputeSettings = Field(default_factory=ComputeSettings)
    kubernetes: KubernetesSettings = Field(default_factory=KubernetesSettings)
    predictions: PredictionSettings = Field(default_factory=PredictionSettings)
    controller: ControllerSettings = Field(default_factory=ControllerSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    audit: AuditSettings = Field(default_factory=AuditSettings)
    logging: LoggingSettings = Field(default_factory=LoggingSettings)
    telemetry: TelemetrySettings = Field(default_factory=TelemetrySettings)
    traffic: TrafficSettings = Field(default_factory=TrafficSettings)
    models: dict[str, ModelSettings] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _agree(self) -> Settings:
        """What no section can see by itself; every flaw of them all at once."""
        rules = (
            self._queries,
            self._baselines,
            self._cluster,
            self._labels,
            self._limits,
            self._prices,
            self._routes,
            self._anchors_elsewhere,
            self._traffic,
            lambda: canary_flaws(self),
        )
        if flaws := [flaw for rule in rules for flaw in rule()]:
            raise Flaws(flaws)
        return self

    def _queries(self) -> Iterator[tuple[str, str]]:
        source = self.adapters.metrics
        if source == "rescoring":
            return
        asked = {metric for spec in self.models.values() for metric in spec.live_metrics}
        fix = {"prometheus": "write the PromQL of this metric", "cloudwatch": "say how CloudWatch names it"}
        for metric in sorted(asked - set(getattr(self, source).queries)):
            yield f"{source}.queries.{metric}", fix[source]
        if source == "cloudwatch" and self.cloudwatch.namespace is None:
            yield "cloudwatch.namespace", "name the namespace of your metrics"

    def _baselines(self) -> Iterator[tuple[str, str]]:
        """Other sources give the metric of whatever served: the version before would be its own baseline."""
        source = self.adapters.metrics
        for name, spec in self.models.items() if source != "rescoring" else ():
            if spec.watch.days and spec.watch.baseline == "previous":
                fix = f"{source} cannot score the version before; use 'validated', or re-scored metrics"
                yield f"models.{name}.watch.baseline", fix

    def _cluster(self) -> Iterator[tuple[str, str]]:
        if self.adapters.compute != "kubernetes":
            return
        kubernetes = self.kubernetes
        for name in kubernetes.models:
            if name not in self.models:
                yield f"kubernetes.models.{name}", "there is no such model"
        for name in () if kubernetes.image else ("training", "prediction"):
            if not getattr(kubernetes, name).image:
                yield f"kubernetes.{name}.image", "name an image here, or one for all in kubernetes.image"
        if not self.mlflow.tracking_uri or self.mlflow.tracking_uri.startswith("sqlite:"):
            yield "mlflow.tracking_uri", "name a server that the pods can reach"

    def _labels(self) -> Iterator[tuple[str, str]]:
        """Two models of one label would be given each other's values."""
        labels = self.prometheus.labels
        for name in labels:
            if name not in self.models:
                yield f"prometheus.labels.{name}", "there is no such model"
        of: dict[str, str] = {}
        for name in self.models:
            other = of.setdefault(labels.get(name, name), name)
            if other != name:
                mapped, kept = (name, other) if name in labels else (other, name)
                yield f"prometheus.labels.{mapped}", f"is the label of {kept}, too, so give it its own"

    def _limits(self) -> Iterator[tuple[str, str]]:
        groups = {spec.group for spec in self.models.values() if spec.group is not None}
        for name in self.limits.groups:
            if name not in groups:
                yield f"limits.groups.{name}", "no model is of this group"
        for name in self.limits.compute:
            if name != self.adapters.compute:
                fix = f"there is no such compute backend; there is {self.adapters.compute}"
                yield f"limits.compute.{name}", fix

    def _prices(self) -> Iterator[tuple[str, str]]:
        """What has no price would never reach a limit of cost."""
        told: dict[tuple[str, str], None] = {}  # several models share limits and classes of nodes
        for model, spec in self.models.items():
            for part, limit in self.limits.of(spec, self.adapters.compute):
                if limit.cost_per_day is not None:
                    told |= dict.fromkeys(self._unpriced(model, f"limits.{_limited(part)}.cost_per_day"))
        yield from told

    def _unpriced(self, model: str, limit: str) -> Iterator[tuple[str, str]]:
        """What has no price though a limit of cost counts it."""
        if self.adapters.compute != "kubernetes":
            fix = (
                f"runs of {self.adapters.compute} have no price, so leave it out, or train on kubernetes "
                "with a price for each of kubernetes.training.nodes"
            )
            yield limit, fix
            return
        own = self.kubernetes.models.get(model)
        place = f"models.{model}" if own is not None and "nodes" in own.model_fields_set else "training"
        for number, nodes in enumerate(self.kubernetes.training_pods(model).nodes):
            if nodes.price is None:
                where = f"kubernetes.{place}.nodes.{number}.price"
                yield where, f"say what an hour on these nodes costs, since {limit} counts it"

    def prices(self) -> dict[str, float]:
        """The highest price of an hour at which each model trains, where there are prices."""
        if self.adapters.compute != "kubernetes":
            return {}
        pods = {model: self.kubernetes.training_pods(model) for model in self.models}
        return {
            model: max(
                pods[model].nodes_of(attempt).price or 0.0
                for attempt in range(1, spec.training.max_attempts + 1)
            )
            for model, spec in self.models.items()
        }

    def _routes(self) -> Iterator[tuple[str, str]]:
        """A route that can take nothing is a mistake, and a silent one."""
        owners = {spec.owner for spec in self.models.values()}
        for number, route in enumerate(self.notifier.routes):
            where = f"notifier.routes.{number}"
            for pattern in route.models:
                if not fnmatch.filter(self.models, pattern):
                    yield f"{where}.models", f"no model has a name like {pattern!r}"
            for owner in route.owners:
                if owner not in owners:
                    yield f"{where}.owners", f"no model has the owner {owner!r}"

    def _anchors_elsewhere(self) -> Iterator[tuple[str, str]]:
        """Whoever can change the ledger must not be able to change the anchors, or to sign others."""
        for name in ("path", "key"):
            if (given := getattr(self.audit, name)) and self.is_beside_ledger(self.located(given)):
                yield f"audit.{name}", "must lie outside the state directory, which holds the ledger"
        database = sqlite_file(self.tracking_uri)
        if self.audit.keeper == "mlflow" and database and self.is_beside_ledger(self.located(str(database))):
            yield "audit.keeper", "needs a server elsewhere, so set mlflow.tracking_uri"

    def _traffic(self) -> Iterator[tuple[str, str]]:
        for name in self.traffic.models:
            if name not in self.models:
                yield f"traffic.models.{name}", "there is no such model"

    def located(self, path: str) -> Path:
        """A path of the settings, from the directory of the file or from the user's home (``~``)."""
        return (self.base / Path(path).expanduser()).absolute()

    def is_beside_ledger(self, path: Path) -> bool:
        """Whether a path lies in the state directory."""
        return path.resolve().is_relative_to(self.state_dir.resolve())

    @property
    def state_dir(self) -> Path:
        """Absolute directory of everything this installation keeps."""
        return (self.base / self.state).absolute()

    def store(self, secrets: Secrets) -> Store:
        """Where the ledger is, with its secret.

        Raises:
            ConfigurationError: PostgreSQL is asked for, and nothing says where it is.
            MissingExtra: Its driver is not installed.
        """
        ledger, secret = self.ledger, secrets.ledger_dsn
        given = secret.get_secret_value() if secret else None
        return store_of(self.state_dir, ledger.store, ledger.dsn, ledger.schema_name, given)

    @property
    def tracking_uri(self) -> str:
        """Address of MLflow."""
        return self.mlflow.tracking_uri or f"sqlite:///{self.state_dir / 'mlflow.db'}"

    @property
    def artifact_root(self) -> str | None:
        """Where artefacts go; ``None`` leaves it to the server."""
        if self.mlflow.tracking_uri is None and self.mlflow.artifact_root is None:
            return str(self.state_dir / "artefacts")
        return self.mlflow.artifact_root


def _limited(part: str) -> str:
    """The field of a limit, from what people call the part of the fleet that it is for."""
    if part == "the fleet":
        return "fleet"
    return f"groups.{part.removeprefix('group ')}" if part.startswith("group ") else f"compute.{part}"


class Secrets(BaseSettings):
    """What must not stand in a file: taken from the environment (``AUTORETRAIN_SLACK_WEBHOOK_URL`` …).

    Attributes:
        slack_webhook_url: Incoming webhook of the Slack channel.
        webhook_url: Where the notifier ``webhook`` posts to.
        webhook_key: Key that it signs with, 32 characters or more.
        apprise_url: Address that the notifier ``apprise`` sends to, as apprise writes it.
        prometheus_token: Bearer token for Prometheus.
        prometheus_password: Password of ``prometheus.user``.
        prometheus_headers: Secret headers for Prometheus: ``Name: value``, one a line.
        ledger_dsn: Connection string of PostgreSQL; what it names wins over ``ledger.dsn``, so that
            ``password=…`` is enough.
        audit_key: Private key that signs the anchors of the ledger, in PEM.
    """

    model_config = SettingsConfigDict(env_prefix="AUTORETRAIN_", extra="ignore", frozen=True)

    slack_webhook_url: SecretStr | None = None
    webhook_url: SecretStr | None = None
    webhook_key: SecretStr | None = None
    apprise_url: SecretStr | None = None
    prometheus_token: SecretStr | None = None
    prometheus_password: SecretStr | None = None
    prometheus_headers: SecretStr | None = None
    ledger_dsn: SecretStr | None = None
    audit_key: SecretStr | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _without_line_end(cls, value: object) -> object:
        return value.strip() if isinstance(value, str) else value  # a secret read from a file often has one


SECRET_VARIABLES = tuple(f"AUTORETRAIN_{name.upper()}" for name in Secrets.model_fields)
"""Environment variables that hold secrets; no run of ours or of the user's gets them."""

_OF_TARGETS = ("SLACK_WEBHOOK_URL", "WEBHOOK_URL", "WEBHOOK_KEY", "APPRISE_URL")


def secret_variables() -> tuple[str, ...]:
    """``SECRET_VARIABLES``, and those of named targets that are set (``AUTORETRAIN_APPRISE_URL_ONCALL``)."""
    beginnings = tuple(f"AUTORETRAIN_{field}_" for field in _OF_TARGETS)
    return (*SECRET_VARIABLES, *(name for name in os.environ if name.startswith(beginnings)))


def load_settings(path: str | Path | None = None) -> Settings:
    """Read and check the settings.

    Args:
        path: The file, or a directory that holds it; ``None`` looks for it.

    Returns:
        Checked settings. ``[defaults]`` has been laid under every model.

    Raises:
        ConfigurationError: Every problem at once, each with its path in the file.
    """
    file = find_settings_file(path)
    return parse_settings(read_toml(file), file.parent)


def parse_settings(values: Mapping[str, Any], base: Path) -> Settings:
    """Check settings given as plain values; see ``load_settings``."""
    values = dict(values)
    defaults = values.pop("defaults", {})
    models = values.get("models", {})
    if isinstance(models, Mapping) and isinstance(defaults, Mapping):
        values["models"] = {
            name: laid_under({**defaults, "name": name}, model) if isinstance(model, Mapping) else model
            for name, model in models.items()
        }
    try:
        settings = Settings.model_validate({**values, "base": base})
    except ValidationError as error:
        raise ConfigurationError(
            [problem for item in error.errors() for problem in _problems(item)]
        ) from None
    return settings


def check_rules(settings: Settings, triggers: Mapping[str, Any]) -> None:
    """Check that every model's rule names triggers that exist.

    Args:
        settings: Checked settings.
        triggers: The user's own triggers, by name.

    Raises:
        ConfigurationError: Every rule that cannot be read.
    """
    problems = []
    for name, spec in settings.models.items():
        try:
            spec.combined_rule(dict(triggers))
        except ValueError as error:
            problems.append(Problem(f"models.{name}.rule", repr(spec.rule), str(error)))
    if problems:
        raise ConfigurationError(problems)


def laid_under(defaults: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the model over the defaults, table by table."""
    merged = dict(defaults)
    for key, value in model.items():
        below = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        merged[key] = laid_under(below, value) if both else value  # type: ignore[arg-type]
    return merged


def _problems(item: Mapping[str, Any]) -> list[Problem]:
    """What is wrong by one report of pydantic."""
    where = [str(part) for part in item["loc"]]
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "missing":
        return [Problem(".".join(where), "", "is missing; it must be set")]
    if item["type"] == "extra_forbidden":
        # Without its value: a secret in the wrong place is the likeliest of all misplaced settings.
        return [Problem(".".join(where), "", "there is no such setting; check its spelling")]
    if isinstance(item["input"], Mapping | BaseModel) and item["type"] == "value_error":
        # A rule over a whole section names each field by itself.
        error = item["ctx"]["error"]
        flaws = error.flaws if isinstance(error, Flaws) else [message.partition(": ")[::2]]
        return [Problem(".".join([*where, field]), "", fix) for field, fix in flaws]
    given = "" if isinstance(item["input"], Mapping | BaseModel) else _short(item["input"])
    return [Problem(".".join(where), given, message[:1].lower() + message[1:])]


def _short(value: Any) -> str:
    text = without_credentials(repr(value))
    return text if len(text) <= 80 else text[:77] + "..."
