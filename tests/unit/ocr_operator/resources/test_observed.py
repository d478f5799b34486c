"""API objects become frozen views; what is odd reads as absent, and nothing raises."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.resources import observed
from ocr_operator.resources.observed import Container, Node, Owner, Rollout, Taint, Toleration
from ocr_wire import names
from tests.support.observations import raw_pod


def test_a_running_pod() -> None:
    pod = observed.pod(
        raw_pod(
            containers=[
                {"resources": {"limits": {"nvidia.com/gpu": "1", "cpu": "2"}}},
                {"resources": {"requests": {"nvidia.com/gpu": 1, "memory": "1Gi"}}},
            ],
            tolerations=[{"key": "gpu", "operator": "Exists"}],
        )
    )
    assert (pod.key, pod.uid, pod.deployment) == (
        "default/invoices-7c9-abc",
        "uid-invoices-7c9-abc",
        "invoices",
    )
    assert (pod.node, pod.ip, pod.phase) == ("gpu-a", "127.0.1.5", "Running")
    assert (pod.ready, pod.gated, pod.terminating, pod.finished) == (True, False, False, False)
    assert pod.ready_since == datetime(2026, 11, 23, 8, tzinfo=UTC)
    assert pod.requests == {"nvidia.com/gpu": 2}
    assert pod.tolerations == (Toleration(key="gpu", operator="Exists"),)
    assert pod.server == Container(name=names.CONTAINER, ready=True, running=True)


def test_a_gated_pod_is_not_unschedulable() -> None:
    pod = observed.pod(raw_pod(gated=True))
    assert (pod.gated, pod.unschedulable, pod.node, pod.server) == (True, "", "", None)


def test_an_unschedulable_pod_says_why() -> None:
    raw = raw_pod(ready=False)
    raw["status"]["conditions"].append(
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    )
    assert observed.pod(raw).unschedulable == "0/3 nodes"


def test_how_a_pod_ended() -> None:
    raw = raw_pod()
    raw["status"] |= {
        "phase": "Failed",
        "reason": "Evicted",
        "message": "The node was low on resource: memory.",
        "startTime": "2026-11-23T07:00:00Z",
    }
    ended = {"type": "DisruptionTarget", "status": "True", "lastTransitionTime": "2026-11-23T09:00:00Z"}
    raw["status"]["conditions"].append(ended)
    pod = observed.pod(raw)
    assert (pod.reason, pod.message) == ("Evicted", "The node was low on resource: memory.")
    assert pod.started == datetime(2026, 11, 23, 7, tzinfo=UTC)
    assert pod.ended == datetime(2026, 11, 23, 9, tzinfo=UTC)
    assert observed.pod(raw_pod()).ended is None


def test_how_a_container_ended() -> None:
    ended = {"reason": "OOMKilled", "exitCode": 137, "finishedAt": "2026-11-23T09:00:00Z", "message": "m"}
    raw = raw_pod(
        container={
            "restartCount": 4,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
            "lastState": {"terminated": ended},
        }
    )
    assert observed.pod(raw).server == Container(
        name=names.CONTAINER,
        ready=True,
        restarts=4,
        waiting_reason="CrashLoopBackOff",
        waiting_message="back-off",
        terminated_reason="OOMKilled",
        terminated_message="m",
        terminated_at=datetime(2026, 11, 23, 9, tzinfo=UTC),
        exit_code=137,
    )


def test_only_the_controller_is_the_owner() -> None:
    raw = raw_pod()
    raw["metadata"]["ownerReferences"] = [
        {"kind": "Thing", "name": "t", "uid": "1"},
        {"kind": "ReplicaSet", "name": "invoices-7c9", "uid": "2", "controller": True},
    ]
    assert observed.pod(raw).owner == Owner(kind="ReplicaSet", name="invoices-7c9", uid="2")


def test_no_annotations_map_is_told_apart_from_an_empty_one() -> None:
    raw = raw_pod(annotations={})
    assert observed.pod(raw).annotations == {}
    del raw["metadata"]["annotations"]
    assert observed.pod(raw).annotations is None


def test_a_node() -> None:
    node = observed.node(
        {
            "metadata": {"name": "gpu-a", "labels": {"a": "b"}, "creationTimestamp": "2026-11-23T08:00:00Z"},
            "spec": {"unschedulable": True, "taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]},
            "status": {
                "capacity": {"nvidia.com/gpu": "2", "example.com/fpga": "1", "cpu": "8"},
                "allocatable": {"nvidia.com/gpu": "1"},
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }
    )
    assert node == Node(
        name="gpu-a",
        labels={"a": "b"},
        created=datetime(2026, 11, 23, 8, tzinfo=UTC),
        ready=True,
        cordoned=True,
        taints=(Taint(key="k", value="v", effect="NoSchedule"),),
        allocatable={"nvidia.com/gpu": 1, "example.com/fpga": 1, "cpu": 8000},
    )


def test_a_rollout() -> None:
    raw: dict[str, Any] = {
        "metadata": {"generation": 3},
        "spec": {"replicas": 2},
        "status": {
            "observedGeneration": 3,
            "replicas": 3,
            "updatedReplicas": 1,
            "readyReplicas": 2,
            "availableReplicas": 2,
            "conditions": [{"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"}],
        },
    }
    assert observed.rollout(raw) == Rollout(wanted=2, replicas=3, updated=1, observed=True, available=2)
    raw["metadata"]["generation"] = 4
    assert not observed.rollout(raw).observed


@pytest.mark.parametrize(
    ("kind", "status", "reason"),
    [("Progressing", "False", "ProgressDeadlineExceeded"), ("ReplicaFailure", "True", "FailedCreate")],
)
def test_a_failed_rollout_says_why(kind: str, status: str, reason: str) -> None:
    conditions = [
        {"type": "Available", "status": "False"},
        {"type": kind, "status": status, "reason": reason, "message": "because"},
    ]
    rollout = observed.rollout({"status": {"conditions": conditions}})
    assert (rollout.failed_reason, rollout.failed) == (reason, "because")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23T08:00:00Z", datetime(2026, 11, 23, 8, tzinfo=UTC)),
        ("2026-11-23T10:00:00.123456+02:00", datetime(2026, 11, 23, 8, 0, 0, 123456, tzinfo=UTC)),
        ("2026-11-23T08:00:00", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("yesterday", None),
        (17, None),
        (None, None),
    ],
)
def test_times(text: object, expected: datetime | None) -> None:
    assert observed.time(text) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)
FIELDS = [
    "name",
    "labels",
    "annotations",
    "ownerReferences",
    "creationTimestamp",
    "deletionTimestamp",
    "generation",
    "schedulingGates",
    "nodeName",
    "tolerations",
    "affinity",
    "containers",
    "unschedulable",
    "taints",
    "replicas",
    "conditions",
    "containerStatuses",
    "allocatable",
    "capacity",
    "observedGeneration",
    "phase",
    "podIP",
    "nodeSelector",
]
PART = st.dictionaries(st.sampled_from(FIELDS), JSON) | JSON


@given(st.dictionaries(st.sampled_from(["metadata", "spec", "status"]), PART))
def test_nothing_raises(raw: dict[str, Any]) -> None:
    observed.pod(raw)
    observed.node(raw)
    observed.rollout(raw)
