"""What a run looks like as a Kubernetes Job. Values only; nothing here calls anybody."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from ..ports.compute import RunRequest
from ..ports.errors import Permanent

PREFIX = "autoretrain.dev"
KEY, DIGEST = f"{PREFIX}/key", f"{PREFIX}/digest"
ENDED_AS, ENDED_WHY = f"{PREFIX}/ended-as", f"{PREFIX}/ended-because"
NODES, PRICE = f"{PREFIX}/nodes", f"{PREFIX}/price-an-hour"
QUEUE = "kueue.x-k8s.io/queue-name"
OWNER, UNTRUSTED = f"{PREFIX}/installation", f"{PREFIX}/untrusted"
CONTAINER = "run"
JOB_NAME = "batch.kubernetes.io/job-name"

_LONGEST_NAME = 52  # a pod's name adds a suffix to that of its Job, and is a host name of 63 characters
_CHECKPOINTS = "AUTORETRAIN_CHECKPOINTS"
_BEYOND_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume that a run sees, by the path that it has for the controller.

    Attributes:
        path: Where it is mounted, in the pods as for the controller.
        claim: Name of its PersistentVolumeClaim; ``None`` for one that ``source`` describes.
        source: The volume as a pod's ``volumes`` has it, without its name.
        read_only: Whether runs may only read it.
    """

    path: str
    claim: str | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Nodes:
    """A class of nodes, and what an hour of it costs.

    Attributes:
        name: What people call it.
        selector: Labels that a node must have.
        tolerations: Taints that it may have, as a pod's ``tolerations``.
        price: Price of an hour, in whatever currency the fleet's budget is; ``None`` when nobody knows.
        required: Terms of which a node must fulfil one, as ``nodeSelectorTerms`` of a pod's affinity.
        preferred: Terms that are better fulfilled, each with its weight, as a pod's affinity has them.
    """

    name: str = "on-demand"
    selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    price: float | None = None
    required: Sequence[Mapping[str, Any]] = ()
    preferred: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """How runs are turned into pods.

    Attributes:
        image: Image with the interpreter, this package and what the models need.
        namespace: Where the Jobs are.
        requests: Resources that a pod asks for; ``{"cpu": "2", "nvidia.com/gpu": "1"}``.
        limits: The most that it may take.
        nodes: Classes of nodes in the order of preference: a run that is interrupted on one moves to the next
            after ``interruptions`` attempts.
        interruptions: Attempts on a class of nodes that may be interrupted, before the next one is taken.
        service_account: Name of the service account; its token is never mounted.
        volumes: Volumes of every run.
        environment: Variables of every run.
        secrets: Variables of every run that stand in Secrets: ``{"TOKEN": "name-of-the-secret/key"}``.
        secret_environment: Secrets all of whose keys become variables.
        pull_secrets: Secrets to pull the image with.
        directory: Working directory; ``None`` for the image's.
        user: Number of the user that it runs as; ``None`` for the image's, which must not be root.
        queue: Kueue's local queue; the Job is then suspended until it is admitted. ``None`` for none.
        priority_class: Name of the priority class; ``None`` for the cluster's default.
        node_lost_seconds: A run whose node has been silent for so long is lost.
        keep_seconds: An ended Job is kept for so long.
        checkpoints: Directory on a volume where the attempts of a job keep what the next one goes on from;
            ``None`` for none.
        pod_patch: JSON merge patch (RFC 7396) of the pod's template, for what is not covered here.
        container_patch: The same for its container.
    """

    image: str
    namespace: str = "default"
    requests: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)
    nodes: Sequence[Nodes] = (Nodes(),)
    interruptions: int = 2
    service_account: str | None = None
    volumes: Sequence[Volume] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    secret_environment: Sequence[str] = ()
    pull_secrets: Sequence[str] = ()
    directory: str | None = None
    user: int | None = None
    queue: str | None = None
    priority_class: str | None = None
    node_lost_seconds: int = 60
    keep_seconds: int = 7 * 86_400
    checkpoints: str | None = None
    pod_patch: Mapping[str, Any] = field(default_factory=dict)
    container_patch: Mapping[str, Any] = field(default_factory=dict)

    def nodes_of(self, attempt: int) -> Nodes:
        """The class of nodes for an attempt, from 1: every attempt before it was interrupted or lost."""
        return self.nodes[min((attempt - 1) // max(self.interruptions, 1), len(self.nodes) - 1)]


def name_of(key: str, owner: str) -> str:
    """Name of the Job of a run: readable, and another one for every key and installation."""
    digest = hashlib.sha256(f"{owner}\n{key}".encode("utf-8", "surrogatepass")).hexdigest()[:12]
    words = re.sub(r"[^a-z0-9]+", "-", key.lower()).strip("-")
    return f"{words[: _LONGEST_NAME - 13].strip('-') or 'run'}-{digest}"


def digest_of(run: RunRequest) -> str:
    """Digest of all that a run was asked for. Labels are left out: they say what it is, not what it does."""
    asked = {name: value for name, value in asdict(run).items() if name != "labels"}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def job_of(run: RunRequest, template: PodTemplate, owner: str, pending_seconds: float) -> dict[str, Any]:
    """The Job of a run.

    Args:
        run: What to execute.
        template: How it becomes a pod.
        owner: Name of the installation.
        pending_seconds: How long it may wait to be started.

    Raises:
        Permanent: A path that the run needs lies on no volume.
    """
    nodes = template.nodes_of(_attempt(run))
    labels = {"app.kubernetes.io/managed-by": "autoretrain", OWNER: owner, **_labels(run)}
    if run.isolation is not None:
        labels[UNTRUSTED] = "true"
    annotations = {KEY: run.key, DIGEST: digest_of(run), NODES: nodes.name}
    if nodes.price is not None:
        annotations[PRICE] = f"{nodes.price}"  # as it was when the run began
    spec: dict[str, Any] = {
        "backoffLimit": 0,  # attempts are counted by the ledger
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {
            "rules": [{"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget"}]}],
        },
        "ttlSecondsAfterFinished": template.keep_seconds,
        # A backstop for what nobody looks at any more; the pod has the deadline of the run.
        "activeDeadlineSeconds": math.ceil(pending_seconds + run.deadline_seconds) + _BEYOND_SECONDS,
        "template": _patched(_pod(run, template, nodes, labels), template.pod_patch),
    }
    if template.queue is not None:
        labels = {**labels, QUEUE: template.queue}
        spec["suspend"] = True
    metadata = {"name": name_of(run.key, owner), "labels": labels, "annotations": annotations}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _attempt(run: RunRequest) -> int:
    return int(run.labels.get("attempt", "1"))


def _labels(run: RunRequest) -> dict[str, str]:
    """Labels for people, quotas and selectors; what is no label is made one."""
    return {f"{PREFIX}/{name}": _as_label(value) for name, value in run.labels.items()}


def _as_label(value: str) -> str:
    if re.fullmatch(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?", value):
        return value
    digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9]+', '-', value)[:50].strip('-')}-{digest}".lstrip("-")


def _pod(run: RunRequest, template: PodTemplate, nodes: Nodes, labels: Mapping[str, str]) -> dict[str, Any]:
    mounts = _mounts(run, template)
    volumes = {f"volume-{number}": _source(volume) for number, volume in enumerate(template.volumes)}
    used = {mount["name"] for mount in mounts}
    user = {} if template.user is None else {"runAsUser": template.user, "runAsGroup": template.user}
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "activeDeadlineSeconds": math.ceil(run.deadline_seconds),
        "securityContext": {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
            **user,
            **({"fsGroup": template.user} if template.user is not None else {}),
        },
        "containers": [_patched(_container(run, template, mounts), template.container_patch)],
        "volumes": [
            {"name": "scratch", "emptyDir": {}},
            *({"name": name, **source} for name, source in volumes.items() if name in used),
        ],
        "nodeSelector": dict(nodes.selector),
        "tolerations": [*map(dict, nodes.tolerations), *_node_lost(template.node_lost_seconds)],
        "imagePullSecrets": [{"name": name} for name in template.pull_secrets],
    }
    if nodes.required or nodes.preferred:
        spec["affinity"] = {"nodeAffinity": _affinity(nodes)}
    if template.service_account is not None:
        spec["serviceAccountName"] = template.service_account
    if template.priority_class is not None:
        spec["priorityClassName"] = template.priority_class
    return {"metadata": {"labels": dict(labels), "annotations": {KEY: run.key}}, "spec": spec}


def _affinity(nodes: Nodes) -> dict[str, Any]:
    later = "DuringSchedulingIgnoredDuringExecution"
    required = {"nodeSelectorTerms": list(nodes.required)}
    return {
        **({f"required{later}": required} if nodes.required else {}),
        **({f"preferred{later}": list(nodes.preferred)} if nodes.preferred else {}),
    }


def _node_lost(seconds: int) -> list[dict[str, Any]]:
    """How long a pod stays on a node that does not answer; five minutes unless it is said."""
    return [
        {
            "key": f"node.kubernetes.io/{trouble}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": seconds,
        }
        for trouble in ("not-ready", "unreachable")
    ]


def _container(run: RunRequest, template: PodTemplate, mounts: list[dict[str, Any]]) -> dict[str, Any]:
    directory = _directory(run, template)
    return {
        "name": CONTAINER,
        "image": template.image,
        "command": list(run.command),
        **({"workingDir": directory} if directory else {}),
        "env": _environment(run, template),
        "envFrom": [
            {"secretRef": {"name": name}} for name in template.secret_environment if run.isolation is None
        ],
        "resources": _resources(run, template),
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}, *mounts],  # noqa: S108 - the pod's own
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _environment(run: RunRequest, template: PodTemplate) -> list[dict[str, Any]]:
    """Variables; those of the run win. A run that is not trusted gets no secret."""
    plain = {"HOME": "/tmp", "TMPDIR": "/tmp"}  # noqa: S108 - the pod's own
    checkpoints = _checkpoints(run, template)
    if checkpoints is not None:
        plain[_CHECKPOINTS] = checkpoints
    if run.isolation is None:
        plain |= template.environment
    plain |= run.environment
    secret = {} if run.isolation is not None else template.secrets
    return [
        *({"name": name, "value": value} for name, value in plain.items()),
        *(
            {"name": name, "valueFrom": {"secretKeyRef": _secret_key(place)}}
            for name, place in secret.items()
            if name not in plain
        ),
    ]


def _secret_key(place: str) -> dict[str, str]:
    name, _, key = place.partition("/")
    return {"name": name, "key": key}


def _checkpoints(run: RunRequest, template: PodTemplate) -> str | None:
    """The directory that all attempts of a job share."""
    job = run.labels.get("job")
    if template.checkpoints is None or job is None or run.isolation is not None:
        return None
    return str(PurePosixPath(template.checkpoints) / _as_label(job))


def _directory(run: RunRequest, template: PodTemplate) -> str | None:
    if run.directory is not None and run.directory.startswith("/"):
        return run.directory
    if template.directory is None:
        return None
    return str(PurePosixPath(template.directory) / (run.directory or "."))


def _resources(run: RunRequest, template: PodTemplate) -> dict[str, Any]:
    limits, requests = dict(template.limits), dict(template.requests)
    if run.isolation is not None:
        limits["memory"] = str(run.isolation.limits.memory_bytes)
        limits["ephemeral-storage"] = str(2 * run.isolation.limits.output_bytes)
    return {"limits": limits, "requests": requests}


def _source(volume: Volume) -> dict[str, Any]:
    if volume.claim is not None:
        return {"persistentVolumeClaim": {"claimName": volume.claim}}
    return dict(volume.source)


def _mounts(run: RunRequest, template: PodTemplate) -> list[dict[str, Any]]:
    """Volumes of a run: all of them, or just the paths that one which is not trusted may see."""
    if run.isolation is None:
        return [
            {"name": f"volume-{number}", "mountPath": volume.path, "readOnly": volume.read_only}
            for number, volume in enumerate(template.volumes)
        ]
    return [
        _mount_within(path, template.volumes, read_only)
        for paths, read_only in ((run.isolation.readable, True), (run.isolation.writable, False))
        for path in dict.fromkeys(paths)
    ]


def _mount_within(path: str, volumes: Sequence[Volume], read_only: bool) -> dict[str, Any]:
    """Mount one file or directory of a volume, and nothing beside it."""
    for number, volume in enumerate(volumes):
        if PurePosixPath(path).is_relative_to(volume.path):
            within = PurePosixPath(path).relative_to(volume.path)
            part = {} if within == PurePosixPath(".") else {"subPath": str(within)}
            return {"name": f"volume-{number}", "mountPath": path, "readOnly": read_only, **part}
    raise Permanent(
        f"{path} lies on no volume that the pods share with the controller; "
        "name one with its path in kubernetes.prediction.volumes"
    )


def _patched(value: Any, patch: Any) -> Any:
    """JSON merge patch (RFC 7396): objects are merged, null removes, everything else replaces."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(value) if isinstance(value, Mapping) else {}
    for name, part in patch.items():
        if part is None:
            merged.pop(name, None)
        else:
            merged[name] = _patched(merged.get(name), part)
    return merged
