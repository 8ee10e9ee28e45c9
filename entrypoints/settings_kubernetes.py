"""The section ``[kubernetes]``: runs as Jobs of a cluster."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from ..adapters.kubernetes_client import Cluster
from ..adapters.kubernetes_manifest import Nodes, PodTemplate, Volume
from ..ports.errors import Flaws
from .settings_sections import Section

_NAME = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"
_LABEL = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
_PLACE = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/[A-Za-z0-9._-]+$"


class VolumeSettings(Section):
    """A volume that runs see.

    Attributes:
        path: Where it is mounted: the path that it also has for the controller, where that reads it.
        claim: Name of its PersistentVolumeClaim.
        source: Any other volume, as a pod's `volumes` has it, without its name.
        read_only: Whether runs may only read it.
    """

    path: str = Field(pattern="^/")
    claim: str | None = Field(default=None, pattern=_NAME)
    source: dict[str, Any] = Field(default_factory=dict)
    read_only: bool = False

    @model_validator(mode="after")
    def _one(self) -> VolumeSettings:
        if (self.claim is None) == (not self.source):
            raise ValueError("claim: name a claim, or describe another source, and not both")
        return self


class ExpressionSettings(Section):
    """What one label of a node must be.

    Attributes:
        key: The label's name.
        operator: How it is compared.
        values: With what: any number for `In` and `NotIn`, a whole number for `Gt` and `Lt`, else none.
    """

    key: str = Field(min_length=1)
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    values: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _compares(self) -> ExpressionSettings:
        if self.operator in ("In", "NotIn") and not self.values:
            raise ValueError(f"values: {self.operator} needs one value at least")
        if self.operator in ("Exists", "DoesNotExist") and self.values:
            raise ValueError(f"values: leave them out, {self.operator} takes none")
        numbers = [value for value in self.values if re.fullmatch(r"-?[0-9]+", value)]
        if self.operator in ("Gt", "Lt") and not len(numbers) == len(self.values) == 1:
            raise ValueError(f"values: {self.operator} needs one whole number, as in ['8']")
        return self


class TermSettings(Section):
    """What a node must be, all of it.

    Attributes:
        matchExpressions: Its labels.
        matchFields: The same for its fields, of which `metadata.name` is one.
    """

    matchExpressions: tuple[ExpressionSettings, ...] = ()
    matchFields: tuple[ExpressionSettings, ...] = ()

    @model_validator(mode="after")
    def _says_something(self) -> TermSettings:
        if not self.matchExpressions and not self.matchFields:
            raise ValueError("matchExpressions: say what a node must be, since an empty term fits none")
        return self


class PreferenceSettings(Section):
    """What a node is better than others for.

    Attributes:
        weight: How much better.
        preference: What it is.
    """

    weight: int = Field(ge=1, le=100)
    preference: TermSettings


class NodeSettings(Section):
    """A class of nodes.

    Attributes:
        name: What people call it; stands with every attempt that ran there.
        selector: Labels that a node must have.
        required: Terms of node affinity, beside `selector`: a node must fulfil one of them.
        preferred: Terms of node affinity with a weight: nodes that fulfil them are taken first.
        tolerations: Taints that it may have, as a pod's `tolerations`.
        price: Price of an hour of a run there, in one currency for all; what a job has cost is counted by it.
    """

    name: str = Field(min_length=1)
    selector: dict[str, str] = Field(default_factory=dict)
    required: tuple[TermSettings, ...] = ()
    preferred: tuple[PreferenceSettings, ...] = ()
    tolerations: tuple[dict[str, Any], ...] = ()
    price: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    def nodes(self) -> Nodes:
        """The class for the adapter, with terms as they were given."""
        given = self.model_dump(exclude_unset=True)
        return Nodes(**given)


class PodSettings(Section):
    """How runs are turned into pods. What is set for one model wins over what is set for all.

    Attributes:
        image: Image with Python, AutoRetrain and what the models need.
        namespace: Where the Jobs are; none takes `kubernetes.namespace`.
        requests: Resources that a pod asks for, as `{ cpu = "2", memory = "4Gi" }`.
        limits: The most that it may take, GPUs among them.
        nodes: Classes of nodes, the preferred first: spot instances, then others.
        interruptions: So many attempts on a class of nodes, before the next one is taken.
        service_account: Name of the service account; its token is never mounted.
        volumes: Volumes of every run.
        environment: Variables of every run.
        secrets: Variables that stand in Secrets, as `{ TOKEN = "name-of-the-secret/key" }`.
        secret_environment: Secrets all of whose keys become variables.
        pull_secrets: Secrets to pull the image with.
        directory: Working directory; none takes the image's.
        user: Number of the user that it runs as; none takes the image's, which must not be root.
        queue: Kueue's local queue; Jobs are then suspended until it admits them.
        priority_class: Name of the priority class.
        checkpoints: Directory on a volume for what one attempt of a job leaves to the next.
        pod_patch: JSON merge patch of the pod's template, for whatever has no setting of its own.
        container_patch: The same for its container.
    """

    image: str | None = None
    namespace: str | None = Field(default=None, pattern=_NAME)
    requests: dict[str, str] = Field(default_factory=dict)
    limits: dict[str, str] = Field(default_factory=dict)
    nodes: tuple[NodeSettings, ...] = ()
    interruptions: int = Field(default=2, ge=1)
    service_account: str | None = Field(default=None, pattern=_NAME)
    volumes: tuple[VolumeSettings, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict)
    secrets: dict[str, str] = Field(default_factory=dict)
    secret_environment: tuple[str, ...] = ()
    pull_secrets: tuple[str, ...] = ()
    directory: str | None = Field(default=None, pattern="^/")
    user: int | None = Field(default=None, ge=1)
    queue: str | None = Field(default=None, pattern=_NAME)
    priority_class: str | None = Field(default=None, pattern=_NAME)
    checkpoints: str | None = Field(default=None, pattern="^/")
    pod_patch: dict[str, Any] = Field(default_factory=dict)
    container_patch: dict[str, Any] = Field(default_factory=dict)

    @field_validator("secrets")
    @classmethod
    def _by_reference(cls, value: dict[str, str]) -> dict[str, str]:
        wrong = [name for name, place in value.items() if not re.match(_PLACE, place)]
        if wrong:
            fix = "name a Secret and its key, as in 'mlflow-login/password'"
            raise Flaws([(name, fix) for name in wrong])
        return value


class KubernetesSettings(Section):
    """Runs as Jobs of a cluster, where ``adapters.compute`` says so.

    Attributes:
        kubeconfig: File that says where the cluster is, relative to the settings file; none takes the service
            account of the pod, or outside of a cluster the user's own file.
        context: Context of that file.
        namespace: Where the Jobs are.
        image: Image of every run that names no other.
        installation: Name of this installation: no other one touches its Jobs.
        pending_seconds: A run that has not started for so long has failed, with what the cluster says.
        node_lost_seconds: A run whose node has been silent for so long is lost, and tried again.
        relist_seconds: How late the end of a run is noticed at most.
        timeout_seconds: An answer of the API server that takes longer is none.
        keep_days: Ended Jobs are kept for so long; a controller must not be down longer.
        training: Pods of trainings.
        prediction: Pods of predictions. They get no secret; give them a namespace that holds none, and a
            NetworkPolicy that denies them everything.
        models: Pods of the trainings of one model, by its name, over `training`.
    """

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str = Field(default="default", pattern=_NAME)
    image: str | None = None
    installation: str = Field(
        default="autoretrain", pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
    )
    pending_seconds: float = Field(default=900.0, gt=0, allow_inf_nan=False)
    node_lost_seconds: int = Field(default=60, ge=1)
    relist_seconds: float = Field(default=10.0, gt=0, le=300, allow_inf_nan=False)
    timeout_seconds: float = Field(default=10.0, gt=0, le=120, allow_inf_nan=False)
    keep_days: float = Field(default=7.0, ge=0.1, allow_inf_nan=False)
    training: PodSettings = Field(default_factory=PodSettings)
    prediction: PodSettings = Field(default_factory=PodSettings)
    models: dict[str, PodSettings] = Field(default_factory=dict)

    def cluster(self, located: Callable[[str], Path]) -> Cluster:
        """Which cluster it is; ``located`` says where a path of the settings lies."""
        file = located(self.kubeconfig) if self.kubeconfig else None
        return Cluster(file, self.context, self.timeout_seconds)

    def training_pods(self, model: str) -> PodTemplate:
        """How a training of a model is turned into a pod."""
        return self._template(self.training, self.models.get(model))

    def prediction_pods(self) -> PodTemplate:
        """How a prediction is turned into a pod."""
        return self._template(self.prediction, None)

    def namespaces(self) -> tuple[str, ...]:
        """Every namespace that holds Jobs."""
        all_pods = (self.training, self.prediction, *self.models.values())
        return tuple(
            dict.fromkeys([self.namespace, *(pods.namespace or self.namespace for pods in all_pods)])
        )

    def _template(self, pods: PodSettings, own: PodSettings | None) -> PodTemplate:
        """Settings of one model over those of all."""
        given = {name: getattr(pods, name) for name in PodSettings.model_fields}
        if own is not None:
            given |= {name: getattr(own, name) for name in own.model_fields_set}
        nodes = [one.nodes() for one in given.pop("nodes")]
        volumes = [Volume(**one.model_dump()) for one in given.pop("volumes")]
        return PodTemplate(
            **{
                **given,
                "image": given["image"] or self.image or "",
                "namespace": given["namespace"] or self.namespace,
                "nodes": nodes or [Nodes()],
                "volumes": volumes,
                "node_lost_seconds": self.node_lost_seconds,
                "keep_seconds": int(self.keep_days * 86_400),
            }
        )
