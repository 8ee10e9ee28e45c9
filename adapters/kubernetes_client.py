"""The few calls of the Kubernetes API that runs and routes need, in plain JSON, with our errors.

The generated models of the library are left alone: they refuse what a newer cluster sends, and cost more than
the rest of a call.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from ..ports.errors import MissingExtra, Permanent, Temporary
from .retry_after import retry_after

Object = Mapping[str, Any]
"""An object of the API, as its JSON."""

_CONNECT_SECONDS = 5.0
_PAGE = 500
_PART = 65_536
_PERMISSION_SECONDS = 30.0


class AlreadyExists(Exception):
    """An object of this name is there already."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Which API server, and who asks it.

    Attributes:
        kubeconfig: File that says so; ``None`` takes the service account of the pod that the controller runs
            in, or outside of a cluster the user's own file (``$KUBECONFIG``, ``~/.kube/config``).
        context: Context of that file; ``None`` for its current one.
        timeout_seconds: An answer that takes longer is none.
    """

    kubeconfig: Path | None = None
    context: str | None = None
    timeout_seconds: float = 10.0


class KubernetesClient:
    """Calls of one API server.

    Args:
        cluster: Which one.

    Raises:
        MissingExtra: The library is not installed.
        Permanent: Nothing says where the server is.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._client = _connected(cluster)
        self._timeout = cluster.timeout_seconds

    def create_job(self, namespace: str, job: Object) -> None:
        """Create a Job.

        Raises:
            AlreadyExists: There is one of this name.
        """
        self._call("POST", _jobs(namespace), body=job)

    def job(self, namespace: str, name: str) -> Object | None:
        """Read a Job; ``None`` when there is none."""
        return self._call("GET", f"{_jobs(namespace)}/{name}", absent=True)

    def jobs(self, namespace: str, selector: str) -> tuple[list[Object], str]:
        """Read all Jobs with these labels, page by page.

        Returns:
            The Jobs, and the version of the list that a watch goes on from.
        """
        items, version = self._items(_jobs(namespace), {"labelSelector": selector})
        return items, version

    def annotate_and_end(self, namespace: str, name: str, notes: Mapping[str, str], begun: bool) -> None:
        """Note on a Job why it is ended, and let the cluster end it. One that is gone is left alone.

        Args:
            namespace: Where it is.
            name: Its name.
            notes: What is noted.
            begun: Whether it has been started. One that has not would start for a moment once it may.
        """
        spec = {"activeDeadlineSeconds": 1, **({} if begun else {"parallelism": 0})}
        patch = {"metadata": {"annotations": dict(notes)}, "spec": spec}
        self._call("PATCH", f"{_jobs(namespace)}/{name}", body=patch, absent=True)

    def pods(self, namespace: str, selector: str) -> list[Object]:
        """Read all pods with these labels."""
        return self._items(f"/api/v1/namespaces/{namespace}/pods", {"labelSelector": selector})[0]

    def events(self, namespace: str, name: str) -> list[Object]:
        """Read what the cluster says about an object, by its name; empty where that is not permitted."""
        query = {"fieldSelector": f"involvedObject.name={name}"}
        try:
            return self._items(f"/api/v1/namespaces/{namespace}/events", query)[0]
        except _NotPermitted:
            return []

    def log(self, namespace: str, pod: str, lines: int, most_bytes: int) -> str:
        """Read the end of what a pod printed; empty when nothing is kept of it."""
        query = {"tailLines": str(lines), "limitBytes": str(most_bytes)}
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        try:
            response = self._answer("GET", path, query, None)
            return self._body(response).decode("utf-8", errors="replace")
        except (_Absent, _NotPermitted, Permanent):  # it has not started, or its node has forgotten it
            return ""

    def watch_jobs(self, namespace: str, selector: str, version: str, seconds: int) -> Iterator[Object]:
        """Follow the changes of Jobs after a version of their list, for so long at most.

        Yields:
            Events, as the server sends them.

        Raises:
            Temporary: The stream broke, fell silent or cannot be read, the version is too old, or watching is
                not permitted.
        """
        query = {
            "labelSelector": selector,
            "resourceVersion": version,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        response = self._answer("GET", _jobs(namespace), query, None, read_seconds=seconds + self._timeout)
        rest = b""
        try:
            while part := response.response.read1(_PART):
                *whole, rest = (rest + part).split(b"\n")
                for event in (json.loads(line) for line in whole if line.strip()):
                    yield _checked(event)
        except Exception as error:
            raise _as_ours(error) from error
        finally:
            response.response.close()

    def http_route(self, namespace: str, name: str) -> Object:
        """Read an HTTPRoute of the Gateway API.

        Raises:
            Permanent: There is none of this name, or the cluster has no Gateway API.
        """
        found = self._call("GET", _http_route(namespace, name))
        assert found is not None  # noqa: S101  (only asked for with absent=True)
        return found

    def change_http_route(self, namespace: str, name: str, patch: Object) -> None:
        """Merge a patch into an HTTPRoute.

        Args:
            namespace: Where it is.
            name: Its name.
            patch: What to change. With ``metadata.resourceVersion`` it is only applied to that version.

        Raises:
            Temporary: The route is another version by now, or the server cannot be reached.
            Permanent: It is gone, or the patch is refused.
        """
        self._call("PATCH", _http_route(namespace, name), body=patch)

    def has_service(self, namespace: str, name: str) -> bool:
        """Whether there is a Service of this name."""
        return self._call("GET", f"/api/v1/namespaces/{namespace}/services/{name}", absent=True) is not None

    def may(
        self, namespace: str, verb: str, group: str, resource: str, part: str = "", name: str = ""
    ) -> bool:
        """Ask whether we may do something in a namespace: with one object by its name, or with any."""
        attributes = {
            "namespace": namespace,
            "verb": verb,
            "group": group,
            "resource": resource,
            "subresource": part,
            "name": name,
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        answer = self._call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=review)
        return bool(answer and answer["status"].get("allowed"))

    def _items(self, path: str, query: Mapping[str, str]) -> tuple[list[Object], str]:
        items: list[Object] = []
        following = ""
        while True:
            page = self._call("GET", path, {**query, "limit": str(_PAGE), "continue": following})
            assert page is not None  # noqa: S101  (only asked for with absent=True)
            items += page["items"]
            following = page["metadata"].get("continue", "")
            if not following:
                return items, page["metadata"]["resourceVersion"]

    def _call(
        self,
        method: Literal["GET", "POST", "PATCH"],
        path: str,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        absent: bool = False,
    ) -> Object | None:
        try:
            response = self._answer(method, path, query or {}, body)
            answer: Object = json.loads(self._body(response))
        except _Absent as error:
            if absent:
                return None
            raise Permanent(str(error)) from None
        except ValueError as error:
            raise Temporary(f"Kubernetes: {method} {path}: the answer cannot be read: {error}") from error
        return answer

    def _body(self, response: Any) -> bytes:
        """Read an answer, within a time for the whole of it: that of a socket begins anew with each byte."""
        parts, deadline = [], time.monotonic() + self._timeout
        try:
            while part := response.response.read1(_PART):
                parts.append(part)
                if time.monotonic() > deadline:
                    response.response.close()
                    raise Temporary(f"Kubernetes: an answer took longer than {self._timeout:g} s")
        except Exception as error:
            raise _as_ours(error) from error
        return b"".join(parts)

    def _answer(
        self,
        method: Literal["GET", "POST", "PATCH"],
        path: str,
        query: Mapping[str, str],
        body: Object | None,
        read_seconds: float | None = None,
    ) -> Any:
        """Put a request; the answer has not been read yet."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Accept": "application/json", "Content-Type": kind}
        try:
            request = self._client.param_serialize(
                method,
                quote(path),
                query_params=[(name, value) for name, value in query.items() if value],
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            times = (_CONNECT_SECONDS, read_seconds or self._timeout)
            response = self._client.call_api(*request, _request_timeout=times)
            if not 200 <= response.status <= 299:
                raise _refused(method, path, response)
        except (Temporary, Permanent, AlreadyExists, _Absent):
            raise
        except Exception as error:
            self._client.rest_client.pool_manager.clear()  # the others that rest may be as dead
            raise _as_ours(error) from error
        return response


class _Absent(Exception):
    """There is no such object."""


class _NotPermitted(Temporary):
    """A role, a quota or an admission rule says no: somebody's slip that will be mended, or a full quota.

    Temporary, so that no training that runs is given up for it.
    """


def _jobs(namespace: str) -> str:
    return f"/apis/batch/v1/namespaces/{namespace}/jobs"


def _http_route(namespace: str, name: str) -> str:
    return f"/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes/{name}"


def _connected(cluster: Cluster) -> Any:
    try:
        from kubernetes import client, config
    except ImportError as error:
        raise MissingExtra("kubernetes", "kubernetes") from error
    configuration = client.Configuration()
    try:
        if cluster.kubeconfig is None and cluster.context is None and _within_cluster():
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            file = str(cluster.kubeconfig) if cluster.kubeconfig else None
            config.load_kube_config(  # type: ignore[no-untyped-call]
                file, cluster.context, configuration, persist_config=False
            )
    except (config.ConfigException, OSError, KeyError, TypeError, ValueError) as error:
        raise Permanent(f"kubernetes.kubeconfig: no cluster can be reached with it: {error}") from error
    configuration.retries = False  # the controller asks again by itself
    return client.ApiClient(configuration)


def _within_cluster() -> bool:
    return Path("/var/run/secrets/kubernetes.io/serviceaccount/token").exists()


def _refused(method: str, path: str, response: Any) -> Exception:
    """What an answer of the server other than success means."""
    try:
        status = json.loads(response.read())
        said, reason, kind = str(status.get("message", "")), status.get("reason", ""), status.get("kind")
    except (ValueError, AttributeError):
        said, reason, kind = response.reason or "", "", None
    text = f"Kubernetes: {said or response.status}"
    if response.status == 409 and reason == "AlreadyExists":
        return AlreadyExists(text)
    if response.status == 404 and kind == "Status":  # anything else is of somebody in between
        return _Absent(text)
    if response.status in (401, 403):
        return _NotPermitted(text, _PERMISSION_SECONDS)
    if response.status in (404, 408, 409, 410, 429) or response.status >= 500:
        return Temporary(text, retry_after(response.headers))
    return Permanent(text)


def _checked(event: Any) -> Object:
    """An event of a watch; the one that says that the version is too old is an error."""
    if not isinstance(event, dict) or not isinstance(event.get("object"), dict):
        raise ValueError("no event of a watch")
    if event.get("type") == "ERROR":
        raise Temporary(f"Kubernetes: {event['object'].get('message', 'the watch ended')}")
    return event


def _as_ours(error: Exception) -> Exception:
    """The error of ours for one of the library's."""
    if isinstance(error, Temporary | Permanent):
        return error
    words = " ".join(str(error).split())[:300]
    if "CERTIFICATE_VERIFY_FAILED" in words:
        return Permanent(f"Kubernetes: its certificate is not the one expected: {words}")
    return Temporary(f"Kubernetes cannot be reached: {type(error).__name__}: {words}")
