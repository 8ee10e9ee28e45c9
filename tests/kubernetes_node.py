"""A node for the tests' Kubernetes: runs the pods that fit as processes of this machine, and reports on them.

It stands for scheduler and kubelet: pods are bound to it where node selector, affinity, taints and what is
left of its resources allow it, and some seconds later where they would rather have another node; of a pod the
first container's command is run, with its variables, and with its volumes where they lie: a claim is a
directory of this machine that is mounted at its own path, and nowhere else. There is no image and no
isolation, unless the node is given an ``Image``: then a container has its files, its volumes wherever it
wants them, its user, a read-only root, an address on the loopback, its readiness probe, and ``kubectl exec``.
An image named ``missing…`` cannot be pulled.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from kubernetes_exec import answer_exec
from kubernetes_image import Image, Mount
from kubernetes_server import KubernetesServer
from kubernetes_service import Published

Object = dict[str, Any]
_POLL_SECONDS = 0.1
_BEAT_SECONDS = 1.0
_OTHERS_FIRST_SECONDS = 3.0
_NOT_MEANT = "didn't match Pod's node affinity/selector"


@dataclass
class _Running:
    """A pod whose command runs, or ran."""

    process: subprocess.Popen[bytes]
    log: Path
    started: datetime
    deadline: float
    over_deadline: bool = False
    killed_at: float | None = None
    published: Published | None = None
    ready: bool = True
    reason: Mapping[str, Any] = field(default_factory=dict)


class Node:
    """A node, as long as the block.

    Args:
        server: The cluster.
        folder: Where it keeps logs; exists.
        name: Its name.
        labels: Its labels.
        taints: Its taints.
        capacity: What it has to give to all of its pods together; anything else that a pod asks for does not
            fit.
        claims: Directories of this machine that stand for PersistentVolumeClaims, by the claims' names.
        image: What containers see, whatever image they name; ``None`` for this machine as it is.
    """

    def __init__(
        self,
        server: KubernetesServer,
        folder: Path,
        name: str = "node-1",
        labels: Mapping[str, str] | None = None,
        taints: Sequence[Mapping[str, str]] = (),
        capacity: Mapping[str, str] | None = None,
        claims: Mapping[str, Path] | None = None,
        image: Image | None = None,
    ) -> None:
        self.name = name
        self.started = 0
        self._server, self._folder = server, folder
        self._labels, self._taints = dict(labels or {}), [dict(taint) for taint in taints]
        self._all_labels = {"kubernetes.io/hostname": name, **self._labels}
        self._capacity = {"cpu": "64", "memory": "256Gi", "pods": "500", **(capacity or {})}
        self._claims, self._image = dict(claims or {}), image
        self._left = dict[str, float]()
        self._pods: dict[str, _Running] = {}
        self._client = server.client()
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=partial(self._loop, self._turn, _POLL_SECONDS), daemon=True),
            threading.Thread(target=partial(self._loop, self._beat, _BEAT_SECONDS), daemon=True),
        ]
        self._logs = _log_server(server, self)

    def __enter__(self) -> Node:
        self._register()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Go in order: nodes that are only silent keep the cluster from taking pods off another one."""
        if not self._stopped.is_set():
            self._end_all()
            self._client.delete(f"/api/v1/nodes/{self.name}")
        self._client.close()

    def kill(self) -> None:
        """Take the node away, with all that runs on it; it says nothing any more."""
        if not self._stopped.is_set():
            self._end_all()

    def _end_all(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(10)
        self._logs.shutdown()
        self._logs.server_close()
        for running in self._pods.values():
            _kill(running.process, signal.SIGKILL)
            running.process.wait()
            if running.published is not None:
                running.published.close()

    def evict(self, pod: str, namespace: str = "default", reason: str = "Evicted") -> None:
        """Take a pod away from the node, as for a node short of memory, or taken back."""
        self._pods[f"{namespace}/{pod}"].reason = {
            "reason": reason,
            "message": "the node was taken back",
            "conditions": [
                _condition("DisruptionTarget", "True", "TerminationByKubelet", "the node went away")
            ],
        }
        _kill(self._pods[f"{namespace}/{pod}"].process, signal.SIGTERM)

    def newest_of(self, namespace: str = "default") -> str:
        """Name of the pod of a namespace that was started last."""
        return [key.partition("/")[2] for key in self._pods if key.startswith(f"{namespace}/")][-1]

    def log_of(self, namespace: str, pod: str, lines: int | None) -> bytes | None:
        """What a pod printed; ``None`` for one that never ran here."""
        running = self._pods.get(f"{namespace}/{pod}")
        if running is None:
            return None
        text = running.log.read_bytes().splitlines(keepends=True)
        return b"".join(text if lines is None else text[max(0, len(text) - lines) :])

    def run_in(self, namespace: str, pod: str, words: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        """Run a program beside what runs in a pod, as ``kubectl exec`` asks for it."""
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}"
        found = self._client.get(path).raise_for_status().json()
        container = found["spec"]["containers"][0]
        return subprocess.run(
            self._command(found, words),
            env=self._environment(found, container),
            cwd=None if self._image else container.get("workingDir"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            start_new_session=True,
            check=False,
        )

    def _loop(self, turn: Any, seconds: float) -> None:
        while not self._stopped.wait(seconds):
            with contextlib.suppress(httpx.HTTPError, ConnectionError, json.JSONDecodeError):
                turn()

    def _register(self) -> None:
        metadata = {"name": self.name, "labels": self._all_labels}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"taints": self._taints}}
        answer = self._client.post("/api/v1/nodes", json=node)
        if answer.status_code != 409:
            answer.raise_for_status()
        self._beat()

    def _beat(self) -> None:
        now = _now()
        status = {
            "capacity": self._capacity,
            "allocatable": self._capacity,
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "declaredFeatures": ["ExtendWebSocketsToKubelet"],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._logs.server_address[1]}},
            "conditions": [
                {**_condition("Ready", "True", "KubeletReady", "up"), "lastHeartbeatTime": now},
            ],
        }
        self._patch(f"/api/v1/nodes/{self.name}/status", {"status": status})

    def _turn(self) -> None:
        pods = self._client.get("/api/v1/pods").raise_for_status().json()["items"]
        self._left = self._left_by(pods)
        for pod in pods:
            mine = pod["spec"].get("nodeName")
            ended = pod["status"].get("phase") in ("Succeeded", "Failed")
            if self._stopped.is_set():
                return
            if not mine and not ended and not pod["metadata"].get("deletionTimestamp"):
                self._schedule(pod)
            elif mine == self.name and not ended:
                self._tend(pod)
            elif mine == self.name and pod["metadata"].get("deletionTimestamp"):
                self._forget(pod)

    def _left_by(self, pods: Sequence[Object]) -> dict[str, float]:
        """What is left of the capacity beside the pods that are bound here and have not ended."""
        left = {name: _quantity(amount) for name, amount in self._capacity.items()}
        for pod in pods:
            ended = pod["status"].get("phase") in ("Succeeded", "Failed")
            if pod["spec"].get("nodeName") == self.name and not ended:
                _take(left, pod["spec"])
        return left

    def _schedule(self, pod: Object) -> None:
        why = self._does_not_fit(pod["spec"])
        path = _path(pod)
        if not why and not self._is_preferred(pod["spec"]) and _age(pod) < _OTHERS_FIRST_SECONDS:
            return
        if why:
            known = _find(pod["status"].get("conditions") or [], "PodScheduled")
            # Each node speaks for itself: one that was not meant leaves standing what another says.
            if known is None or (known.get("message") != why and _NOT_MEANT not in why):
                condition = _condition("PodScheduled", "False", "Unschedulable", why)
                self._patch(f"{path}/status", {"status": {"conditions": [condition]}})
            return
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod["metadata"]["name"]},
            "target": {"apiVersion": "v1", "kind": "Node", "name": self.name},
        }
        if self._client.post(f"{path}/binding", json=binding).is_success:
            _take(self._left, pod["spec"])

    def _does_not_fit(self, spec: Object) -> str:
        wanted = spec.get("nodeSelector") or {}
        terms = (_affinity(spec, "required") or {}).get("nodeSelectorTerms")
        selected = all(self._labels.get(name) == value for name, value in wanted.items())
        if not selected or (terms is not None and not any(map(self._fulfils, terms))):
            return f"0/1 nodes are available: 1 node(s) {_NOT_MEANT}."
        for taint in self._taints:
            if not any(_tolerates(one, taint) for one in spec.get("tolerations") or []):
                return f"0/1 nodes are available: 1 node(s) had untolerated taint {{{taint['key']}}}."
        for name, amount in _asked(spec).items():
            if amount > self._left.get(name, 0.0):
                short = "Too many pods" if name == "pods" else f"Insufficient {name}"
                return f"0/1 nodes are available: 1 {short}."
        return ""

    def _is_preferred(self, spec: Object) -> bool:
        """Whether no other node can be better for a pod."""
        return all(self._fulfils(one["preference"]) for one in _affinity(spec, "preferred") or ())

    def _fulfils(self, term: Object) -> bool:
        """Whether the node is what a term of node affinity says; an empty one fits none."""
        labels = term.get("matchExpressions") or []
        fields = term.get("matchFields") or []
        return bool(labels or fields) and (
            all(_holds(one, self._all_labels) for one in labels)
            and all(_holds(one, {"metadata.name": self.name}) for one in fields)
        )

    def _tend(self, pod: Object) -> None:
        key = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        running = self._pods.get(key)
        if running is None:
            self._start(pod, key)
            return
        if pod["metadata"].get("deletionTimestamp") or time.monotonic() > running.deadline:
            running.over_deadline |= time.monotonic() > running.deadline
            self._end(pod, running)
        code = running.process.poll()
        if code is not None:
            self._report_end(pod, running, code)
        elif running.published is not None and running.ready != running.published.is_ready():
            running.ready = not running.ready
            started = {"running": {"startedAt": _stamp(running.started)}}
            self._report(pod, "Running", started, running.ready, podIP=running.published.address)

    def _start(self, pod: Object, key: str) -> None:
        container = pod["spec"]["containers"][0]
        waiting = self._waits(pod, container)
        if waiting:
            self._report(pod, "Pending", {"waiting": waiting}, ready=False)
            return
        log = self._folder / f"{key.replace('/', '.')}.log"
        deadline = pod["spec"].get("activeDeadlineSeconds")
        with log.open("wb") as output:
            process = subprocess.Popen(
                self._command(pod, [*(container.get("command") or []), *(container.get("args") or [])]),
                env=self._environment(pod, container),
                cwd=self._folder if self._image else container.get("workingDir") or self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=partial(_limit, _limits(container).get("memory")),
            )
        self.started += 1
        until = time.monotonic() + deadline if deadline else float("inf")
        running = self._pods[key] = _Running(process, log, datetime.now(UTC), until)
        if self._image and container.get("ports"):
            running.published = Published.of(process.pid, container, pod["metadata"]["uid"])
            running.ready = not container.get("readinessProbe")
        address = {"podIP": running.published.address} if running.published else {}
        self._report(pod, "Running", {"running": {"startedAt": _now()}}, ready=running.ready, **address)

    def _waits(self, pod: Object, container: Object) -> Object | None:
        if container["image"].startswith("missing"):
            message = f'Back-off pulling image "{container["image"]}"'
            return {"reason": "ImagePullBackOff", "message": message}
        sources = {volume["name"]: volume for volume in pod["spec"].get("volumes") or []}
        for mount in container.get("volumeMounts") or []:
            claim = (sources[mount["name"]].get("persistentVolumeClaim") or {}).get("claimName")
            if claim is None:
                continue
            place = self._claims.get(claim)
            if place is not None and self._image:
                continue
            if place is None or str(place / mount.get("subPath", "")).rstrip("/") != mount["mountPath"]:
                return {"reason": "CreateContainerConfigError", "message": f"no volume {claim} lies there"}
        return None

    def _command(self, pod: Object, words: Sequence[str]) -> list[str]:
        if self._image is None:
            program, rest = words[0], words[1:]
            return [sys.executable if program == "python" else program, *rest]
        container, security = pod["spec"]["containers"][0], pod["spec"]["securityContext"]
        directory = container.get("workingDir")
        return self._image.command(words, self._mounts(pod, container), security["runAsUser"], directory)

    def _mounts(self, pod: Object, container: Object) -> list[Mount]:
        """The volumes of a container where it wants them; those that are made are made once a pod."""
        own = self._folder / f"{pod['metadata']['uid']}.volumes"
        sources = {volume["name"]: volume for volume in pod["spec"].get("volumes") or []}
        mounts = []
        for mount in container.get("volumeMounts") or []:
            place = self._volume(pod, sources[mount["name"]], own / mount["name"])
            read_only = mount.get("readOnly", False)
            mounts.append(Mount(place / mount.get("subPath", ""), mount["mountPath"], read_only))
        return mounts

    def _volume(self, pod: Object, volume: Object, place: Path) -> Path:
        if "persistentVolumeClaim" in volume:
            return self._claims[volume["persistentVolumeClaim"]["claimName"]]
        if not place.exists():
            place.mkdir(parents=True)
            place.chmod(0o777)
            if "configMap" in volume:
                self._write_config_map(pod, volume["configMap"]["name"], place)
            if "projected" in volume:
                self._write_account(pod, place)
        return place

    def _write_config_map(self, pod: Object, name: str, place: Path) -> None:
        path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/configmaps/{name}"
        for file, text in self._client.get(path).raise_for_status().json()["data"].items():
            (place / file).write_text(text)

    def _write_account(self, pod: Object, place: Path) -> None:
        """Token, certificate and namespace of the pod's service account."""
        namespace, account = pod["metadata"]["namespace"], pod["spec"]["serviceAccountName"]
        (place / "namespace").write_text(namespace)
        (place / "token").write_text(self._server.account_token(account, namespace))
        (place / "ca.crt").write_bytes(self._server.certificate.read_bytes())

    def _environment(self, pod: Object, container: Object) -> dict[str, str]:
        found = {"PATH": self._image.path if self._image else os.environ["PATH"], "LANG": "C.UTF-8"}
        if self._image:
            server = {
                "KUBERNETES_SERVICE_HOST": "127.0.0.1",
                "KUBERNETES_SERVICE_PORT": str(self._server.port),
            }
            found |= {**self._image.variables, **server}
        for source in container.get("envFrom") or []:
            if "configMapRef" in source:
                found |= self._data(pod, "configmaps", source["configMapRef"]["name"])
            else:
                found |= self._secret(pod, source["secretRef"]["name"])
        for one in container.get("env") or []:
            reference = (one.get("valueFrom") or {}).get("secretKeyRef")
            found[one["name"]] = (
                self._secret(pod, reference["name"])[reference["key"]] if reference else one.get("value", "")
            )
        return found

    def _secret(self, pod: Object, name: str) -> dict[str, str]:
        import base64

        data = self._data(pod, "secrets", name)
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def _data(self, pod: Object, kind: str, name: str) -> dict[str, str]:
        path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/{kind}/{name}"
        return dict(self._client.get(path).raise_for_status().json().get("data") or {})

    def _end(self, pod: Object, running: _Running) -> None:
        grace = pod["metadata"].get("deletionGracePeriodSeconds") or 2
        if running.killed_at is None:
            running.killed_at = time.monotonic()
            _kill(running.process, signal.SIGTERM)
        elif time.monotonic() - running.killed_at > min(grace, 5):
            _kill(running.process, signal.SIGKILL)

    def _report_end(self, pod: Object, running: _Running, code: int) -> None:
        exit_code = code if code >= 0 else 128 - code
        ended = {
            "exitCode": exit_code,
            "reason": "Completed" if exit_code == 0 else "Error",
            "startedAt": _stamp(running.started),
            "finishedAt": _now(),
        }
        more = dict(running.reason)
        if running.over_deadline:
            more |= {"reason": "DeadlineExceeded", "message": "Pod was active on the node longer than it may"}
        phase = "Succeeded" if exit_code == 0 and not more else "Failed"
        self._report(pod, phase, {"terminated": ended}, ready=False, **more)
        if pod["metadata"].get("deletionTimestamp"):
            self._forget(pod)

    def _forget(self, pod: Object) -> None:
        running = self._pods.get(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}")
        if running is not None and running.published is not None:
            running.published.close()
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}}
        self._client.request("DELETE", _path(pod), json=body)

    def _report(self, pod: Object, phase: str, state: Object, ready: bool, **more: Any) -> None:
        container = pod["spec"]["containers"][0]
        known = {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": ready,
            "started": ready,
            "restartCount": 0,
            "state": state,
        }
        truth = "True" if ready else "False"
        conditions = [_condition("Ready", truth), _condition("ContainersReady", truth)]
        status = {
            "phase": phase,
            "startTime": pod["status"].get("startTime") or _now(),
            "containerStatuses": [known],
            **more,
            "conditions": [*conditions, *more.get("conditions", [])],
        }
        self._patch(f"{_path(pod)}/status", {"status": status})

    def _patch(self, path: str, body: Object) -> None:
        kind = {"Content-Type": "application/strategic-merge-patch+json"}
        self._client.patch(path, content=json.dumps(body), headers=kind)


def _log_server(server: KubernetesServer, node: Node) -> ThreadingHTTPServer:
    """What the API server asks for the logs of pods, as it would ask a kubelet."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            if wanted := re.fullmatch(r"/exec/([^/]+)/([^/]+)/[^/]+", asked.path):
                answer_exec(self, node.run_in(wanted[1], wanted[2], parse_qs(asked.query)["command"]))
                return
            found = re.fullmatch(r"/containerLogs/([^/]+)/([^/]+)/[^/]+", asked.path)
            lines = parse_qs(asked.query).get("tailLines")
            text = node.log_of(found[1], found[2], int(lines[0]) if lines else None) if found else None
            self.send_response(404 if text is None else 200)
            self.send_header("Content-Length", str(len(text or b"")))
            self.end_headers()
            self.wfile.write(text or b"")

        def log_message(self, *_: object) -> None:
            pass

    logs = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.certificate_key)
    logs.socket = context.wrap_socket(logs.socket, server_side=True)
    threading.Thread(target=logs.serve_forever, daemon=True).start()
    return logs


def _path(pod: Object) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


def _kill(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, how)


def _limit(memory: str | None) -> None:
    if memory is not None:
        most = int(_quantity(memory))
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _limits(container: Object) -> dict[str, str]:
    return dict((container.get("resources") or {}).get("limits") or {})


def _asked(spec: Object) -> dict[str, float]:
    resources = spec["containers"][0].get("resources") or {}
    asked = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    amounts = {name: _quantity(amount) for name, amount in asked.items() if name != "ephemeral-storage"}
    return {**amounts, "pods": 1.0}


def _take(left: dict[str, float], spec: Object) -> None:
    for name, amount in _asked(spec).items():
        left[name] = left.get(name, 0.0) - amount


def _affinity(spec: Object, kind: str) -> Any:
    nodes = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    return nodes.get(f"{kind}DuringSchedulingIgnoredDuringExecution")


def _holds(expression: Object, labels: Mapping[str, str]) -> bool:
    """Whether an expression of a node selector term holds for a node's labels."""
    value = labels.get(expression["key"])
    values: Sequence[str] = expression.get("values") or []
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists" | "DoesNotExist":
            return (value is not None) is bool(expression["operator"] == "Exists")
    if value is None or not value.isdecimal():
        return False
    return int(value) > int(values[0]) if expression["operator"] == "Gt" else int(value) < int(values[0])


def _age(pod: Object) -> float:
    """How many seconds ago a pod was created."""
    created = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
    return (datetime.now(UTC) - created).total_seconds()


def _quantity(text: str) -> float:
    found = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", str(text))
    assert found is not None, f"{text} is no quantity"
    units = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
    return float(found[1]) * units[found[2]]


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, str]) -> bool:
    same = toleration.get("key") in (None, taint["key"])
    exists = toleration.get("operator") == "Exists" or toleration.get("value") == taint.get("value")
    return same and exists and toleration.get("effect") in (None, taint["effect"])


def _find(conditions: Sequence[Object], kind: str) -> Object | None:
    return next((one for one in conditions if one["type"] == kind), None)


def _condition(kind: str, status: str, reason: str = "", message: str = "") -> Object:
    said = {"reason": reason, "message": message} if reason else {}
    return {"type": kind, "status": status, "lastTransitionTime": _now(), **said}


def _now() -> str:
    return _stamp(datetime.now(UTC))


def _stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
