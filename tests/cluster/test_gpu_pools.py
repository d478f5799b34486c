"""Pools that a cluster autoscaler makes larger: a pod that finds no GPU has to be one that it looks for."""

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ocr_wire import names
from tests.support import cluster as support
from tests.support import dra
from tests.support.operators import Operator, running
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

PRODUCT = "NVIDIA-L40S"
LABEL = "nvidia.com/gpu.product"
SECONDS = 6
ELSEWHERE: dict[str, Any] = {"schedulingGates": [{"name": "example.com/later"}]}
"""A gate of somebody else: such pods are placed and never bound, so that no process has to run for them."""


@pytest.fixture
def ours(cluster: support.Place, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Operator]:
    """An operator that leaves pods to the scheduler after so many seconds."""
    with running(cluster, tmp_path, "pools", leave_to_scheduler_seconds=str(request.param)) as operator:
        yield operator


def _condition(pod: dict[str, Any]) -> dict[str, Any]:
    """The condition that autoscalers look at; empty while the pod has none."""
    found = pod.get("status", {}).get("conditions", [])
    return next((each for each in found if each["type"] == "PodScheduled"), {})


def _unschedulable(ours: Operator) -> dict[str, Any]:
    """The pod that autoscalers see."""
    return next((pod for pod in ours.pods().values() if _condition(pod).get("reason") == "Unschedulable"), {})


def _uids(ours: Operator) -> set[str]:
    return {pod["metadata"]["uid"] for pod in ours.pods().values()}


def _basis(pod: dict[str, Any]) -> str:
    record: dict[str, str] = json.loads(pod["metadata"]["annotations"][names.ANNOTATION_PLACEMENT])
    return record["basis"]


def _required(pod: dict[str, Any]) -> list[Any]:
    affinity = pod["spec"].get("affinity", {}).get("nodeAffinity", {})
    terms: list[Any] = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get(
        "nodeSelectorTerms", []
    )
    return terms


@contextlib.contextmanager
def _new_node(ours: Operator) -> Iterator[str]:
    """A node of the pool as a cloud brings one: labels of its group, devices, no kubelet that would start anything."""
    name = f"new-{ours.namespace}"
    resources = {"nvidia.com/gpu": "1", "cpu": "8", "memory": "64Gi", "pods": "50"}
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now}
    body = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {LABEL: PRODUCT, "kubernetes.io/hostname": name}},
        "status": {"capacity": resources, "allocatable": resources, "conditions": [ready]},
    }
    ours.kubectl("create", "-f", "-", stdin=json.dumps(body))
    try:
        yield name
    finally:
        ours.kubectl("delete", "node", name, "--wait=false")


@pytest.mark.parametrize("ours", [0], indirect=True)
def test_pod_that_finds_no_gpu_is_unschedulable_at_once_and_goes_to_the_node_that_comes(
    ours: Operator,
) -> None:
    """Five pods for four GPUs. A pod that one GPU more like these wouldn't help is no reason to buy a node."""
    here = {"nodeSelector": {LABEL: PRODUCT}, "terminationGracePeriodSeconds": 2}
    ours.apply(replicas=5, gpu={"sharing": "exclusive", "products": [PRODUCT]}, template={"spec": here})

    pod = until(lambda: _unschedulable(ours), 120, what="the scheduler shows it")

    assert _basis(pod) == "scheduler"
    assert not pod["spec"].get("schedulingGates")
    assert "Insufficient nvidia.com/gpu" in _condition(pod)["message"]
    [term] = _required(pod)
    [wanted] = term["matchExpressions"]
    assert (wanted["key"], PRODUCT in wanted["values"]) == (LABEL, True)
    assert "matchFields" not in term, "no node is named, so the simulation of a new one fits"

    large = [{"name": "pp-ocr", "engine": "rapidocr", "gpuMemory": "64Gi"}]
    for resource, sharing in (("shared", "shared"), ("large", "exclusive")):
        ours.apply(resource, replicas=1, models=large, gpu={"sharing": sharing}, template={"spec": ELSEWHERE})
    until(lambda: {"shared", "large"} <= _told(ours), what="both are told that nothing fits")
    for resource in ("shared", "large"):
        [waiting] = ours.pods(resource).values()
        assert names.ANNOTATION_PLACEMENT not in waiting["metadata"]["annotations"]

    with _new_node(ours) as node:
        until(lambda: ours.pods()[pod["metadata"]["name"]]["spec"].get("nodeName") == node, what="bound")


def _told(ours: Operator) -> set[str]:
    """Resources that say by their condition `Placed` that memory is short."""
    path = f"/apis/{names.API_VERSION}/namespaces/{ours.namespace}/{names.PLURAL}"
    return {
        each["metadata"]["name"]
        for each in ours.place.ask(path)["items"]
        for condition in each.get("status", {}).get("conditions", [])
        if condition["type"] == "Placed" and condition["reason"] == "InsufficientGpuMemory"
    }


@pytest.mark.parametrize("ours", [SECONDS], indirect=True)
@pytest.mark.parametrize("sharing", ["exclusive", "claim"])
def test_pod_that_finds_no_gpu_waits_as_long_as_was_set(ours: Operator, sharing: str) -> None:
    """The fifth of five pods stays gated for so long; then the scheduler's word is the one that counts."""
    with dra.published(ours.place):
        ours.apply(replicas=5, gpu={"sharing": sharing})
        first = until(lambda: found if len(found := _uids(ours)) == 5 else set(), 120, what="there are five")

        pod = until(lambda: _unschedulable(ours), 120, what="the scheduler shows it")

        assert pod["metadata"]["uid"] in first, "no other was made for it"
        assert _basis(pod) == "scheduler"
        assert not _required(pod)
        record = json.loads(pod["metadata"]["annotations"][names.ANNOTATION_PLACEMENT])
        # Not the transition of the condition: it was false at the gate, and is false without a node.
        created, released = (
            datetime.fromisoformat(each)
            for each in (pod["metadata"]["creationTimestamp"], record["placedAt"])
        )
        assert (released - created).total_seconds() >= SECONDS
        ours.kubectl("delete", "ocr", "--all", "--wait=false")
        until(lambda: not ours.pods(), what="pods go before the devices do")
