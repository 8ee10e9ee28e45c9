"""A real Kubernetes API server with etcd and the controllers, for as long as tests last.

The programs are found as envtest finds them, in ``KUBEBUILDER_ASSETS``; ``make kubernetes`` builds them from
their modules. All listen on free ports of 127.0.0.1, and what they keep goes with them. Nodes are up to
``kubernetes_node``: nothing here runs a pod.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from postgres_server import free_port

from services import REQUIRED, ROOT

_START_SECONDS = 60.0
_CONTROLLERS = (
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "node-lifecycle-controller",
    "pod-garbage-collector-controller",
    "resourcequota-controller",
    "serviceaccount-controller",
    "taint-eviction-controller",
    "ttl-after-finished-controller",
)


def programs() -> Path:
    """Folder of the programs; the test is skipped, or failed where services are required, without them."""
    found = subprocess.run(
        [ROOT / "tests" / "kubernetes" / "build", "--only-look"], capture_output=True, text=True
    )
    if found.returncode == 0:
        return Path(found.stdout.strip())
    message = "etcd and kube-apiserver are not built: make kubernetes"
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{message} ({REQUIRED}=1)", pytrace=False)
    pytest.skip(message)


class KubernetesServer:
    """An API server in a folder of its own.

    Args:
        folder: Where it keeps what it has; exists.
        controllers: Names of controllers beyond those that Jobs need.
    """

    def __init__(self, folder: Path, controllers: Sequence[str] = ()) -> None:
        self.folder, self._controllers = folder, (*_CONTROLLERS, *controllers)
        self.port = free_port()
        self.token = secrets.token_hex(16)
        self._programs = programs()
        self._etcd_port, self._processes = free_port(), dict[str, subprocess.Popen[bytes]]()
        self._write_keys()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def certificate(self) -> Path:
        return self.folder / "certificates" / "apiserver.crt"

    @property
    def certificate_key(self) -> Path:
        return self.folder / "certificates" / "apiserver.key"

    def start(self) -> None:
        """Start everything, and wait until it answers."""
        peer = free_port()
        self._run(
            "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls=http://127.0.0.1:{self._etcd_port}",
            f"--advertise-client-urls=http://127.0.0.1:{self._etcd_port}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
        )
        self.start_api_server()
        self._run(
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig()}",
            f"--controllers={','.join(self._controllers)}",
            f"--service-account-private-key-file={self.folder / 'accounts.key'}",
            f"--root-ca-file={self.certificate}",
            f"--cert-dir={self.folder / 'controllers'}",
            "--bind-address=127.0.0.1",
            f"--secure-port={free_port()}",
            "--leader-elect=false",
            "--node-monitor-period=1s",
            "--node-monitor-grace-period=5s",
            "--node-startup-grace-period=5s",
            "--resource-quota-sync-period=1s",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            "--concurrent-job-syncs=10",
        )
        self._until("its service accounts", self._has_default_account)

    def start_api_server(self) -> None:
        """Start the API server, on the port that it always has."""
        self._run(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            f"--cert-dir={self.folder / 'certificates'}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--authorization-mode=RBAC",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.folder / 'accounts.pub'}",
            f"--service-account-signing-key-file={self.folder / 'accounts.key'}",
            "--kubelet-preferred-address-types=InternalIP",
            "--endpoint-reconciler-type=none",
            "--watch-cache=true",
        )
        self._until("ready", self._is_ready)

    def stop_api_server(self) -> None:
        """Kill the API server; what it keeps stays."""
        self._end("kube-apiserver", signal.SIGKILL)

    def stop(self) -> None:
        """End everything."""
        for name in ("kube-controller-manager", "kube-apiserver", "etcd"):
            self._end(name, signal.SIGKILL)

    def kubeconfig(self, token: str | None = None, name: str = "kubeconfig") -> Path:
        """A file with which somebody reaches the server: whoever has the token, or its administrator."""
        path = self.folder / name
        cluster = {"server": self.url, "certificate-authority": str(self.certificate)}
        context = {"cluster": "here", "user": "me", "namespace": "default"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": cluster}],
            "users": [{"name": "me", "user": {"token": token or self.token}}],
            "contexts": [{"name": "here", "context": context}],
            "current-context": "here",
        }
        path.write_text(json.dumps(config))
        return path

    def client(self, token: str | None = None) -> httpx.Client:
        """A client of HTTP, by the administrator's token unless another is given."""
        headers = {"Authorization": f"Bearer {token or self.token}"}
        verify = ssl.create_default_context(cafile=self.certificate)
        return httpx.Client(base_url=self.url, headers=headers, verify=verify, timeout=20.0)

    def account_token(self, name: str, namespace: str = "default") -> str:
        """A token of a service account."""
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        with self.client() as client:
            answer = client.post(path, json=request)
        answer.raise_for_status()
        token: str = answer.json()["status"]["token"]
        return token

    def apply(self, *objects: Mapping[str, Any], dry_run: bool = False) -> None:
        """Create or change objects, as ``kubectl apply --server-side`` does.

        Args:
            objects: Each names its kind.
            dry_run: Have them checked, and keep none.
        """
        query = {"fieldManager": "tests", "force": "true", "fieldValidation": "Strict"}
        query |= {"dryRun": "All"} if dry_run else {}
        headers = {"Content-Type": "application/apply-patch+yaml"}
        with self.client() as client:
            for one in objects:
                path = f"{_path_of(one)}/{one['metadata']['name']}"
                answer = client.patch(path, content=json.dumps(one), params=query, headers=headers)
                assert answer.is_success, f"{one['kind']} {one['metadata']['name']}: {answer.text}"

    def _write_keys(self) -> None:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        private = key.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, plain)
        public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
        (self.folder / "accounts.key").write_bytes(private)
        (self.folder / "accounts.pub").write_bytes(public)
        (self.folder / "tokens.csv").write_text(f'{self.token},admin,admin,"system:masters"\n')

    def _run(self, program: str, *arguments: str) -> None:
        with (self.folder / f"{program}.log").open("ab") as log:
            self._processes[program] = subprocess.Popen(
                [self._programs / program, *arguments],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                preexec_fn=partial(_die_with, os.getpid()),
            )

    def _end(self, program: str, how: signal.Signals) -> None:
        process = self._processes.pop(program, None)
        if process is not None:
            process.send_signal(how)
            process.wait()

    def _until(self, what: str, holds: Any) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not holds():
            ended = [name for name, one in self._processes.items() if one.poll() is not None]
            if ended or time.monotonic() > deadline:
                name = (ended or ["kube-apiserver"])[0]
                tail = (self.folder / f"{name}.log").read_text(errors="replace")[-3000:]
                raise RuntimeError(
                    f"Kubernetes is not {what} after {_START_SECONDS:g} s; {name} says: {tail}"
                )
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        try:
            with self.client() as client:
                return client.get("/readyz").status_code == 200
        except (OSError, httpx.HTTPError):
            return False

    def _has_default_account(self) -> bool:
        with self.client() as client:
            return client.get("/api/v1/namespaces/default/serviceaccounts/default").status_code == 200


def _path_of(one: Mapping[str, Any]) -> str:
    kind = one["kind"].lower()
    plural = f"{kind[:-1]}ies" if kind.endswith("policy") else f"{kind}s"
    root = "/api/v1" if one["apiVersion"] == "v1" else f"/apis/{one['apiVersion']}"
    namespace = one["metadata"].get("namespace")
    return f"{root}/namespaces/{namespace}/{plural}" if namespace else f"{root}/{plural}"


def _die_with(parent: int) -> None:
    """Be killed when the process that runs the tests is (Linux)."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


@contextmanager
def running_kubernetes(folder: Path, controllers: Sequence[str] = ()) -> Iterator[KubernetesServer]:
    """A server, for the length of a block."""
    server = KubernetesServer(folder, controllers)
    try:
        server.start()
        yield server
    finally:
        server.stop()
