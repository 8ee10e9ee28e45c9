"""The sections of ``autoretrain.toml``: what each may hold, each checked by itself.

What must hold between sections is checked in ``settings``.
"""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ..domain.routes import Route
from ..domain.spec import ModelSpec
from ..ports.compute import SandboxChoice
from ..ports.errors import Flaws
from ..ports.notifier import DEFAULT_TARGET
from .stores import DEFAULT_SCHEMA, PASSWORD_FIX, SCHEMA_PATTERN, holds_password

_BUCKET_AND_PREFIX = r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/(?!\.{1,2}(/|$))[A-Za-z0-9_.=-]+)*/?"
"""Names of buckets by the rules of S3; a prefix of characters that need no escape anywhere."""

_ENDPOINT = r"https?://[\w.-]+(:\d{1,5})?/?|https?://\[[0-9a-fA-F:]+\](:\d{1,5})?/?"
_TARGET_NAME = "[a-z0-9][a-z0-9-]{0,39}"
"""It ends the names of environment variables and the ids of notices."""


class Section(BaseModel):
    """A table of the settings file: what is not known in it is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSettings(Section):
    """Where a model's rows are.

    Attributes:
        path: Parquet or CSV file, or a glob; relative to the settings file.
        time: Name of the time column.
        label: Name of the label column.
        features: Names of the feature columns; empty takes all others.
        exclude: Columns that are no features.
        time_zone: Zone of times that state none.
    """

    path: str
    time: str
    label: str
    features: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    time_zone: str = "UTC"

    @field_validator("path")
    @classmethod
    def _is_on_a_disk(cls, path: str) -> str:
        if "://" in path:
            raise ValueError("want a file on a local or mounted disk; rows are not read from other places")
        return path


class ModelSettings(ModelSpec):
    """One model of the fleet: its spec, and where its rows are.

    Attributes:
        data: Where its rows are; ``None`` when a data source of your own serves it.
    """

    data: DataSettings | None = None


class AdapterSettings(Section):
    """Which technology stands behind a port.

    Attributes:
        metrics: Where live metrics come from: ``rescoring`` predicts recent labelled rows again,
            ``prometheus`` asks a server, ``cloudwatch`` asks AWS.
        drift: What compares recent rows with those the champion was trained on.
        notifier: Where notices for people go that no route takes (``[[notifier.routes]]``).
        compute: Where training and predictions run: as processes of this machine, or as Jobs of a cluster.
    """

    metrics: Literal["rescoring", "prometheus", "cloudwatch"] = "rescoring"
    drift: Literal["evidently"] = "evidently"
    notifier: Literal["log", "slack", "webhook", "apprise"] = "log"
    compute: Literal["subprocess", "kubernetes"] = "subprocess"


class TargetSettings(Section):
    """Somebody who is told; the address is a secret and comes from the environment.

    Attributes:
        kind: How: ``slack`` by an incoming webhook, ``webhook`` as signed JSON to a program of yours,
            ``apprise`` by e-mail, Teams, PagerDuty and more, ``log`` as a line of the log.
    """

    kind: Literal["slack", "webhook", "apprise", "log"]


class NotifierSettings(Section):
    """Who gets which notices.

    Attributes:
        targets: Who can be told, by name.
        routes: Which notices go to which of them; what no route takes goes to ``adapters.notifier``.
    """

    targets: dict[str, TargetSettings] = Field(default_factory=dict)
    routes: tuple[Route, ...] = ()

    @model_validator(mode="after")
    def _connected(self) -> NotifierSettings:
        problems = [
            (f"targets.{name}", f"a name is of small letters, digits and '-', and not '{DEFAULT_TARGET}'")
            for name in self.targets
            if not re.fullmatch(_TARGET_NAME, name) or name == DEFAULT_TARGET
        ]
        known = ", ".join([*self.targets, DEFAULT_TARGET])
        problems += [
            (f"routes.{number}.targets", f"there is no target {name!r} (there are: {known})")
            for number, route in enumerate(self.routes)
            for name in route.targets
            if name not in self.targets and name != DEFAULT_TARGET
        ]
        reached = {name for route in self.routes for name in route.targets}
        problems += [
            (f"targets.{name}", "no route leads to it: name it in notifier.routes")
            for name in self.targets
            if not problems and name not in reached
        ]
        if problems:
            raise Flaws(problems)
        return self


class LedgerSettings(Section):
    """Where the ledger is: what happened, what is due, and what waits to be told.

    Attributes:
        store: ``sqlite`` keeps it in the state directory, for one controller; ``postgres`` serves several.
        dsn: Where PostgreSQL is: a connection string of libpq, ``key=value`` or a URL, without password.
        schema_name: Schema within the database; created where the role may.
    """

    store: Literal["sqlite", "postgres"] = "sqlite"
    dsn: str | None = Field(default=None, repr=False)
    schema_name: str = Field(default=DEFAULT_SCHEMA, alias="schema", pattern=f"^{SCHEMA_PATTERN}$")

    @model_validator(mode="after")
    def _without_password(self) -> LedgerSettings:
        if self.dsn is not None and holds_password(self.dsn):
            raise ValueError(f"dsn: {PASSWORD_FIX}")
        return self


class StorageSettings(Section):
    """Where snapshots and predictions are kept, so that other machines can read them.

    Credentials are the usual ones of AWS: its variables, its files, or the role of the machine.

    Attributes:
        url: ``s3://bucket/prefix`` of an S3-compatible store; none keeps them in the state directory.
        endpoint: Address of a store that is not AWS, ``http(s)://host[:port]``; none takes
            ``$AWS_ENDPOINT_URL``.
        region: Region of the bucket; none takes ``$AWS_REGION``, or what the AWS profile says.
        connect_timeout_seconds: How long a connection may take.
        request_timeout_seconds: How long nothing may arrive.
        attempts: How often a request is tried before the store counts as away.
    """

    url: str | None = None
    endpoint: str | None = Field(default=None, repr=False)
    region: str | None = Field(default=None, min_length=1)
    connect_timeout_seconds: float = Field(default=5.0, gt=0, le=300)
    request_timeout_seconds: float = Field(default=30.0, gt=0, le=3600)
    attempts: int = Field(default=3, ge=1, le=20)

    @field_validator("url")
    @classmethod
    def _is_a_place(cls, url: str | None) -> str | None:
        if url is not None and not re.fullmatch(_BUCKET_AND_PREFIX, url):
            raise ValueError("want s3://bucket or s3://bucket/prefix, without credentials and without ..")
        return url.rstrip("/") if url else url

    @field_validator("endpoint")
    @classmethod
    def _is_an_address(cls, endpoint: str | None) -> str | None:
        if endpoint is not None and not re.fullmatch(_ENDPOINT, endpoint):
            raise ValueError("want http(s)://host or http(s)://host:port, without credentials and path")
        return endpoint.rstrip("/") if endpoint else endpoint

    @model_validator(mode="after")
    def _of_a_store(self) -> StorageSettings:
        if self.url is None and (self.endpoint or self.region):
            raise ValueError("url: is missing; without it, nothing is kept in a store")
        return self


class MlflowSettings(Section):
    """The MLflow server or database.

    Attributes:
        tracking_uri: ``None`` keeps a SQLite database in the state directory.
        experiment: Experiment of the training runs.
        artifact_root: Where artefacts go; ``None`` leaves it to the server, or takes the state directory.
        max_artifact_mb: A larger model is neither hashed, fetched nor used; in MiB.
    """

    tracking_uri: str | None = Field(default=None, repr=False)
    experiment: str = "autoretrain"
    artifact_root: str | None = None
    max_artifact_mb: int = Field(default=4096, ge=1)


class ComputeSettings(Section):
    """Local runs.

    Attributes:
        max_parallel: Runs at the same time; ``None`` takes the number of processors.
        grace_seconds: Between asking a run to end and ending it.
    """

    max_parallel: int | None = Field(default=None, ge=1)
    grace_seconds: float = Field(default=10.0, ge=0)


class PredictionSettings(Section):
    """Prediction runs, whose code is the model's and not trusted.

    Attributes:
        sandbox: ``auto`` keeps them apart by what works on this machine, ``required`` refuses to predict
            where bubblewrap does not work, ``none`` holds nothing but the limits.
        deadline_seconds: A run that takes longer is ended.
        memory_mb: Most memory of a run, all its processes together, in MiB.
        cpu_seconds: Most processor time of a run.
        processes: Most processes and threads of a run at once.
        output_mb: Most that a run may print, and may keep on the disk, in MiB each.
        readable: Files and directories that your models read, beside the interpreter and its libraries;
            relative to the settings file.
    """

    sandbox: SandboxChoice = "auto"
    deadline_seconds: float = Field(default=600.0, gt=0)
    memory_mb: int = Field(default=8192, ge=128)
    cpu_seconds: float = Field(default=3600.0, ge=1)
    processes: int = Field(default=512, ge=16)
    output_mb: int = Field(default=1024, ge=1)
    readable: tuple[str, ...] = ()


class ControllerSettings(Section):
    """The loop.

    Attributes:
        wait_seconds: Longest wait between two ticks; a person's request is acted on within it.
        lease_seconds: How long a controller that died keeps others out.
        patience_seconds: How long a tick waits for a slow part of the world; what takes longer is taken up
            by a later tick, and delays no other model.
        listen: Address of ``/metrics``, ``/healthz`` and ``/readyz``; empty for none.
        stale_seconds: A loop none of whose turns has ended for so long is not alive.
    """

    wait_seconds: float = Field(default=2.0, gt=0, le=5.0, allow_inf_nan=False)
    lease_seconds: float = Field(default=20.0, ge=2.0, le=3600.0, allow_inf_nan=False)
    patience_seconds: float = Field(default=1.0, gt=0, le=5.0, allow_inf_nan=False)
    listen: str = "127.0.0.1:9464"
    stale_seconds: float = Field(default=120.0, ge=30.0, allow_inf_nan=False)


class AuditSettings(Section):
    """Signed anchors of the ledger, kept away from it.

    Attributes:
        keeper: Where they are kept: in a ``file``, on an ``mlflow`` server, by a ``command`` of yours, or
            nowhere.
        every_hours: How often ``autoretrain run`` makes one.
        path: The file, outside the state directory.
        experiment: Experiment on the MLflow server of ``[mlflow]``.
        command: Program and arguments, without a shell; it gets the anchor on standard input.
        timeout_seconds: How long one run of the command may take.
        key: File of the private key, mode 0600, outside the state directory; ``None`` takes
            ``$AUTORETRAIN_AUDIT_KEY``.
        public_key: File of the public keys that anchors are checked with; ``None`` takes ``key`` with
            ``.pub`` behind it.
    """

    keeper: Literal["none", "file", "mlflow", "command"] = "none"
    every_hours: float = Field(default=24.0, ge=0.01)
    path: str | None = None
    experiment: str = Field(default="autoretrain-audit", min_length=1)
    command: tuple[str, ...] = ()
    timeout_seconds: float = Field(default=60.0, gt=0)
    key: str | None = None
    public_key: str | None = None

    @model_validator(mode="after")
    def _place(self) -> AuditSettings:
        if self.keeper == "file" and not self.path:
            raise ValueError("path: is missing, and the keeper file needs one")
        if self.keeper == "command" and not self.command:
            raise ValueError("command: is missing, and the keeper command needs program and arguments")
        return self


class LoggingSettings(Section):
    """The log of our commands, on standard error.

    Attributes:
        format: ``console`` for people, ``json`` for programs, one object a line; ``--log-format`` overrides
            it.
        level: Least level of the lines of ``autoretrain run``; the other commands say warnings. ``-v`` says
            more.
    """

    format: Literal["console", "json"] = "console"
    level: Literal["debug", "info", "warning", "error"] = "info"


class TelemetrySettings(Section):
    """Metrics of commands that end before anybody scrapes them: ``run --once`` and ``run --until-idle``.

    Attributes:
        pushgateway: Address of a Prometheus Pushgateway; ``None`` pushes nothing.
        push_job: Label ``job`` of what is pushed; ``instance`` is the name of the host.
        push_timeout_seconds: How long a push may take; what fails is a warning in the log.
    """

    pushgateway: str | None = Field(default=None, pattern="^https?://[^/]", repr=False)
    push_job: str = Field(default="autoretrain", min_length=1)
    push_timeout_seconds: float = Field(default=5.0, gt=0, le=60.0)

    @model_validator(mode="after")
    def _without_password(self) -> TelemetrySettings:
        if self.pushgateway is not None and "@" in urlsplit(self.pushgateway).netloc:
            raise ValueError("pushgateway: holds a user or password, which is not sent, so remove it")
        return self
