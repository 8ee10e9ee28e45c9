"""What a run looks like as a Job, and what a Job says about its run. No cluster is asked here."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoretrain.adapters.kubernetes_manifest import (
    DIGEST,
    ENDED_AS,
    ENDED_WHY,
    NODES,
    QUEUE,
    UNTRUSTED,
    Nodes,
    PodTemplate,
    Volume,
    digest_of,
    job_of,
    name_of,
)
from autoretrain.adapters.kubernetes_status import has_failed, overdue, says_enough, status_of
from autoretrain.ports.compute import Isolation, RunLimits, RunRequest, RunState, RunStatus
from autoretrain.ports.errors import Permanent

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
RUN = RunRequest(
    "a1b2/train/1",
    ("python", "train.py"),
    {"LEVEL": "1"},
    deadline_seconds=90.5,
    labels={"model": "boiler 7", "job": "a1b2", "attempt": "1"},
)
TEMPLATE = PodTemplate(image="registry.example/train:1")
STATE = Volume("/var/lib/autoretrain", claim="state")


def manifest(run: RunRequest = RUN, template: PodTemplate = TEMPLATE) -> dict[str, Any]:
    return job_of(run, template, "here", 900.0)


def pod_spec(run: RunRequest = RUN, template: PodTemplate = TEMPLATE) -> dict[str, Any]:
    spec: dict[str, Any] = manifest(run, template)["spec"]["template"]["spec"]
    return spec


def container(run: RunRequest = RUN, template: PodTemplate = TEMPLATE) -> dict[str, Any]:
    [only] = pod_spec(run, template)["containers"]
    return dict(only)


def variables(run: RunRequest = RUN, template: PodTemplate = TEMPLATE) -> dict[str, Any]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container(run, template)["env"]}


class TestNames:
    @given(st.text(max_size=300))
    def test_any_key_gives_a_name_that_a_host_can_have(self, key: str) -> None:
        name = name_of(key, "here")
        assert len(name) <= 52
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert name[0] != "-" != name[-1]

    def test_keys_and_installations_are_kept_apart(self) -> None:
        names = {name_of(key, owner) for key in ("a b/1", "a-b/1", "A-b/1") for owner in ("here", "there")}
        assert len(names) == 6

    def test_a_name_can_be_read(self) -> None:
        assert name_of("a1b2/train/1", "here").startswith("a1b2-train-1-")

    def test_labels_are_no_part_of_what_was_asked(self) -> None:
        assert digest_of(RUN) == digest_of(replace(RUN, labels={}))
        assert digest_of(RUN) != digest_of(replace(RUN, environment={"LEVEL": "2"}))
        assert digest_of(RUN) != digest_of(replace(RUN, isolation=Isolation()))
        assert digest_of(replace(RUN, isolation=Isolation(RunLimits(processes=17)))) != digest_of(
            replace(RUN, isolation=Isolation())
        )


class TestAPod:
    def test_is_as_the_restricted_profile_wants_it(self) -> None:
        spec, only = pod_spec(), container()
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert only["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }

    def test_has_the_deadline_of_its_run_and_a_job_that_counts_no_attempts(self) -> None:
        job = manifest()
        assert pod_spec()["activeDeadlineSeconds"] == 91
        assert job["spec"]["activeDeadlineSeconds"] > 900 + 91
        assert job["spec"]["backoffLimit"] == 0
        assert job["metadata"]["annotations"][DIGEST] == digest_of(RUN)

    def test_of_a_name_that_is_no_label_has_one_that_is(self) -> None:
        label = manifest()["metadata"]["labels"]["autoretrain.dev/model"]
        assert label.startswith("boiler-7-")

    def test_gets_what_its_run_was_given_over_what_all_get(self) -> None:
        template = replace(
            TEMPLATE,
            environment={"LEVEL": "0", "REGION": "eu"},
            secrets={"MLFLOW_TRACKING_PASSWORD": "mlflow-login/password", "LEVEL": "x/y"},
            secret_environment=("more",),
        )
        found = variables(RUN, template)
        assert (found["LEVEL"], found["REGION"]) == ("1", "eu")
        assert found["MLFLOW_TRACKING_PASSWORD"] == {
            "secretKeyRef": {"name": "mlflow-login", "key": "password"}
        }
        assert container(RUN, template)["envFrom"] == [{"secretRef": {"name": "more"}}]

    def test_that_is_not_trusted_gets_no_secret_and_sees_its_paths_alone(self) -> None:
        template = replace(
            TEMPLATE,
            environment={"REGION": "eu"},
            secrets={"TOKEN": "login/token"},
            secret_environment=("more",),
            volumes=(STATE,),
            checkpoints="/var/lib/autoretrain/checkpoints",
        )
        apart = Isolation(
            RunLimits(memory_bytes=1 << 30),
            readable=("/var/lib/autoretrain/a/model",),
            writable=("/var/lib/autoretrain/p/run",),
        )
        run = replace(RUN, isolation=apart)
        found, only = variables(run, template), container(run, template)
        assert set(found) == {"HOME", "TMPDIR", "LEVEL"}
        assert only["envFrom"] == []
        assert only["resources"]["limits"]["memory"] == str(1 << 30)
        assert only["volumeMounts"][1:] == [
            {
                "name": "volume-0",
                "mountPath": "/var/lib/autoretrain/a/model",
                "readOnly": True,
                "subPath": "a/model",
            },
            {
                "name": "volume-0",
                "mountPath": "/var/lib/autoretrain/p/run",
                "readOnly": False,
                "subPath": "p/run",
            },
        ]
        assert manifest(run, template)["spec"]["template"]["metadata"]["labels"][UNTRUSTED] == "true"

    def test_that_is_not_trusted_and_needs_what_lies_on_no_volume_is_refused(self) -> None:
        run = replace(RUN, isolation=Isolation(readable=("/srv/model",)))
        with pytest.raises(
            Permanent, match=r"/srv/model lies on no volume .*kubernetes\.prediction\.volumes"
        ):
            manifest(run)

    def test_shares_checkpoints_with_the_other_attempts_of_its_job(self) -> None:
        template = replace(TEMPLATE, checkpoints="/ckpt", volumes=(Volume("/ckpt", claim="ckpt"),))
        second = replace(RUN, key="a1b2/train/2", labels={**RUN.labels, "attempt": "2"})
        assert variables(RUN, template)["AUTORETRAIN_CHECKPOINTS"] == "/ckpt/a1b2"
        assert variables(second, template)["AUTORETRAIN_CHECKPOINTS"] == "/ckpt/a1b2"

    @pytest.mark.parametrize(
        ("attempt", "nodes"), [(1, "spot"), (2, "spot"), (3, "on-demand"), (9, "on-demand")]
    )
    def test_moves_to_nodes_that_stay_after_so_many_interruptions(self, attempt: int, nodes: str) -> None:
        spot = Nodes("spot", {"pool": "spot"}, ({"key": "spot", "operator": "Exists"},), 0.1)
        template = replace(TEMPLATE, nodes=(spot, Nodes()), interruptions=2)
        run = replace(RUN, labels={**RUN.labels, "attempt": str(attempt)})
        assert manifest(run, template)["metadata"]["annotations"][NODES] == nodes
        assert pod_spec(run, template)["nodeSelector"] == ({"pool": "spot"} if nodes == "spot" else {})

    def test_names_the_nodes_that_it_needs_and_those_that_it_prefers(self) -> None:
        term = {"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}
        preference = {"weight": 5, "preference": term}
        template = replace(TEMPLATE, nodes=(Nodes(required=(term,), preferred=(preference,)),))
        assert pod_spec(RUN, template)["affinity"]["nodeAffinity"] == {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]},
            "preferredDuringSchedulingIgnoredDuringExecution": [preference],
        }
        assert "affinity" not in pod_spec()

    def test_waits_for_its_queue(self) -> None:
        job = manifest(RUN, replace(TEMPLATE, queue="gpus"))
        assert job["spec"]["suspend"] is True
        assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"

    def test_is_patched_last(self) -> None:
        template = replace(
            TEMPLATE,
            pod_patch={"spec": {"hostNetwork": False, "enableServiceLinks": None}},
            container_patch={"securityContext": {"readOnlyRootFilesystem": False}},
        )
        spec, only = pod_spec(RUN, template), container(RUN, template)
        assert spec["hostNetwork"] is False
        assert "enableServiceLinks" not in spec
        assert only["securityContext"]["readOnlyRootFilesystem"] is False
        assert only["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def at(seconds: float) -> str:
    return (NOW + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def a_job(
    *conditions: tuple[str, str, str], annotations: dict[str, str] | None = None, **status: Any
) -> dict[str, Any]:
    return {
        "metadata": {"name": "job", "creationTimestamp": at(0), "annotations": annotations or {}},
        "spec": {"suspend": False},
        "status": {
            "startTime": at(0),
            "conditions": [
                {
                    "type": kind,
                    "status": "True",
                    "reason": reason,
                    "message": message,
                    "lastTransitionTime": at(9),
                }
                for kind, reason, message in conditions
            ],
            **status,
        },
    }


def a_pod(phase: str, exit_code: int | None = None, **more: Any) -> dict[str, Any]:
    ended = {
        "exitCode": exit_code,
        "startedAt": at(2),
        "finishedAt": at(7),
        "reason": more.pop("why", "Error"),
    }
    state = {} if exit_code is None else {"terminated": ended}
    return {
        "metadata": {"name": "pod", "creationTimestamp": at(1), **more.pop("metadata", {})},
        "spec": {"nodeName": "n1", "activeDeadlineSeconds": 60},
        "status": {"phase": phase, "containerStatuses": [{"state": state}], **more},
    }


FAILED = ("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
DISRUPTED = {
    "type": "DisruptionTarget",
    "status": "True",
    "reason": "PreemptionByScheduler",
    "message": "gpu",
}


class TestStatus:
    @pytest.mark.parametrize(
        ("job", "pods", "status"),
        [
            (a_job(), [], RunStatus(RunState.PENDING)),
            (a_job(active=1), [a_pod("Pending")], RunStatus(RunState.PENDING)),
            (a_job(active=1), [a_pod("Running")], RunStatus(RunState.RUNNING, seconds=20)),
            (a_job(active=1, ready=1), [], RunStatus(RunState.RUNNING, seconds=20)),
            (
                a_job(("Complete", "", ""), completionTime=at(8)),
                [],
                RunStatus(RunState.SUCCEEDED, "", 0, 8),
            ),
            (a_job(FAILED), [a_pod("Failed", 3)], RunStatus(RunState.FAILED, "exited with status 3", 3, 5)),
            (
                a_job(FAILED),
                [a_pod("Failed", 137)],
                RunStatus(RunState.FAILED, "exited with status 137 (signal 9)", 137, 5),
            ),
            (
                a_job(FAILED),
                [a_pod("Failed", 137, why="OOMKilled")],
                RunStatus(RunState.FAILED, "it took more memory than it may (OOMKilled)", 137, 5),
            ),
            (
                a_job(FAILED),
                [a_pod("Failed", 137, reason="DeadlineExceeded")],
                RunStatus(RunState.FAILED, "it took longer than its deadline of 60 s", None, 5),
            ),
            (
                a_job(("Failed", "PodFailurePolicy", "rule 0")),
                [a_pod("Failed", 143, conditions=[DISRUPTED])],
                RunStatus(
                    RunState.LOST, "its pod was taken from its node: PreemptionByScheduler: gpu", None, 5
                ),
            ),
            (
                a_job(FAILED),
                [a_pod("Failed", 137, reason="Evicted", message="the node was low on memory")],
                RunStatus(
                    RunState.LOST,
                    "its pod was taken from its node: Evicted: the node was low on memory",
                    None,
                    5,
                ),
            ),
            (
                a_job(FAILED),
                [],
                RunStatus(
                    RunState.LOST, f"its pod is gone, and with it how it ended: {FAILED[1]}: {FAILED[2]}"
                ),
            ),
        ],
    )
    def test_is_read_from_job_and_pods(
        self, job: dict[str, Any], pods: list[dict[str, Any]], status: RunStatus
    ) -> None:
        assert status_of(job, pods, NOW + timedelta(seconds=20)) == status
        if not pods:
            assert says_enough(job) or has_failed(job) or status.state is RunState.PENDING

    def test_what_a_controller_ended_has_ended_once_nothing_runs_any_more(self) -> None:
        notes = {ENDED_AS: "failed", ENDED_WHY: "cancelled"}
        now = NOW + timedelta(seconds=20)
        assert status_of(a_job(annotations=notes, active=1), [], now).state is RunState.RUNNING
        ended = status_of(a_job(("Failed", "DeadlineExceeded", ""), annotations=notes), [], now)
        assert (ended.state, ended.reason) == (RunState.FAILED, "cancelled")

    def test_success_came_before_a_cancellation(self) -> None:
        job = a_job(("Complete", "", ""), annotations={ENDED_AS: "failed", ENDED_WHY: "cancelled"})
        assert status_of(job, [], NOW).state is RunState.SUCCEEDED


class TestWaitingInVain:
    UNSCHEDULABLE = {  # noqa: RUF012 - never changed
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu",
    }

    def late(self, job: dict[str, Any], pods: list[dict[str, Any]], *events: dict[str, Any]) -> str:
        found = overdue(job, pods, events, 60.0, NOW + timedelta(seconds=61))
        assert found is not None
        assert found.state is RunState.FAILED
        return found.reason

    def test_is_told_in_the_words_of_the_cluster(self) -> None:
        waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image x:1"}}
        stuck = a_pod("Pending", containerStatuses=[{"state": waiting}])
        assert self.late(a_job(active=1), [stuck]).endswith(
            "within 60 s: ImagePullBackOff: Back-off pulling image x:1"
        )
        crowded = a_pod("Pending", conditions=[self.UNSCHEDULABLE])
        assert "Unschedulable: 0/3 nodes are available" in self.late(a_job(active=1), [crowded])
        quota = {"type": "Warning", "reason": "FailedCreate", "message": "exceeded quota: gpus"}
        assert self.late(a_job(), [], quota).endswith("FailedCreate: exceeded quota: gpus")
        assert "the cluster does not say why" in self.late(a_job(), [])

    @pytest.mark.parametrize("job", [a_job(active=1, ready=1), a_job(FAILED), a_job(("Complete", "", ""))])
    def test_is_nothing_that_a_run_does_which_runs_or_ran(self, job: dict[str, Any]) -> None:
        assert overdue(job, [], [], 60.0, NOW + timedelta(days=1)) is None

    def test_takes_its_time(self) -> None:
        assert overdue(a_job(active=1), [a_pod("Pending")], [], 60.0, NOW + timedelta(seconds=59)) is None

    def test_in_a_queue_is_no_waiting_in_vain(self) -> None:
        job = a_job()
        job["spec"]["suspend"] = True
        assert overdue(job, [], [], 60.0, NOW + timedelta(days=1)) is None

    def test_begins_when_the_cluster_starts_what_the_queue_let_go(self) -> None:
        job = a_job(startTime=None)
        job["metadata"]["labels"] = {QUEUE: "gpus"}
        assert overdue(job, [], [], 60.0, NOW + timedelta(days=1)) is None
        assert status_of(job, [], NOW + timedelta(days=1)) == RunStatus(RunState.PENDING)
        job["status"]["startTime"] = at(3600)
        assert overdue(job, [], [], 60.0, NOW + timedelta(seconds=3659)) is None
        assert overdue(job, [], [], 60.0, NOW + timedelta(seconds=3660)) is not None

    def test_for_a_node_that_does_not_answer_is_a_loss(self) -> None:
        pod = a_pod("Running", metadata={"deletionTimestamp": at(30)})
        assert overdue(a_job(active=1), [pod], [], 60.0, NOW + timedelta(seconds=60)) is None
        lost = overdue(a_job(active=1), [pod], [], 60.0, NOW + timedelta(seconds=61))
        assert lost is not None
        assert (lost.state, lost.reason) == (RunState.LOST, "its node n1 does not answer any more")
