"""Objects that their authors made to do harm: no decision fails because one of them is among those that it looks at."""

import copy
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.controllers.beginners import Beginners
from ocr_operator.decide import leadership, leases, placement, routing, status
from ocr_operator.decide.placement import Placement, overbooked, unschedulable
from ocr_operator.gpuload.dcgm import GpuReading
from ocr_operator.pods import wire
from ocr_operator.resources import observed
from ocr_operator.resources.observed import Owner
from ocr_wire import names
from tests.support import damage
from tests.support.observations import raw_pod
from tests.support.resources import make_deployment

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
RESOURCE = make_deployment(
    models=[{"name": "pp-ocr", "engine": "rapidocr", "gpuMemory": "1Gi"}], gpu={"sharing": "shared"}
)
NODE: dict[str, Any] = {
    "metadata": {"name": "gpu-a", "labels": {"nvidia.com/gpu.product": "NVIDIA-L40S"}},
    "spec": {"taints": [{"key": "a", "effect": "PreferNoSchedule"}]},
    "status": {
        "allocatable": {"nvidia.com/gpu": "2"},
        "conditions": [{"type": "Ready", "status": "True"}],
    },
}
READING = GpuReading(
    node="gpu-b", uuid="GPU-1", memory_used_bytes=0, memory_total_bytes=48 * 2**30, read_at=NOW
)
ODD = st.sampled_from(
    [
        *(
            None,
            True,
            -1,
            2**80,
            1e308,
            float("inf"),
            "",
            "\ud800",
            "1e999999",
            "x" * 5000,
            [],
            {},
            [None],
            {"": 1},
        ),
        *("9" * 5000, "٣", "[" * 100_000, '{"a":' * 5000, '{"gpus":[{"uuid":1}],"memoryBytes":-1}', "NaN"),
        *("2026-13-45T99:99:99Z", "9999-12-31T23:59:59-23:59", {"operator": "Gt", "values": ["9" * 5000]}),
    ]
)
ANNOTATIONS = {
    names.ANNOTATION_PLACEMENT: '{"node":"gpu-a","gpus":[{"uuid":"GPU-1"}],"memoryBytes":1}',
    names.ANNOTATION_GPU_UUIDS: "GPU-1",
    names.ANNOTATION_LIVE_SETTINGS: "{}",
    names.ANNOTATION_MEMORY_POLICY: "onDemand",
    names.ANNOTATION_CLAIM: "",
}
AFFINITY = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}]
        }
    }
}

LEASE_SPEC: dict[str, Any] = {
    "holderIdentity": "other",
    "leaseDurationSeconds": 15,
    "renewTime": "2026-11-23T08:00:00.000000Z",
    "acquireTime": "2026-11-23T08:00:00.000000Z",
    "leaseTransitions": 1,
}
BEGINS = observed.pod(
    raw_pod(
        "begins",
        annotations={
            names.ANNOTATION_PLACEMENT: '{"node":"gpu-a","gpus":[{"uuid":"GPU-1"}],"memoryBytes":1}',
            names.ANNOTATION_GPU_UUIDS: "GPU-1",
        },
    )
    | {"status": {"phase": "Pending"}}
)


@st.composite
def damaged(draw: st.DrawFn, document: dict[str, Any]) -> dict[str, Any]:
    """The document with something odd in up to three places of it."""
    changed = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        *parents, last = draw(st.sampled_from([each for each in damage.places(changed) if each]))
        damage.at(changed, tuple(parents))[last] = copy.deepcopy(draw(ODD))
    return changed


def hostile_pod(gated: bool) -> dict[str, Any]:
    container = {
        "name": names.CONTAINER,
        "image": "x",
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
        "env": [{"name": "A", "value": "b"}],
    }
    return raw_pod(
        "hostile",
        gated=gated,
        annotations=ANNOTATIONS,
        affinity=AFFINITY,
        tolerations=[{"key": "a", "operator": "Exists"}],
        nodeSelector={"a": "b"},
        containers=[container],
    )


def decide(pod: dict[str, Any], node: dict[str, Any]) -> Placement:
    """Everything that is decided of, or beside, a pod and a node; the placement of another pod."""
    hostile, calm = observed.pod(pod), observed.pod(raw_pod("calm", gated=True))
    nodes = [observed.node(node), observed.Node(name="gpu-b", ready=True)]
    pods = [hostile, calm]
    wire.target(hostile, 8001)
    first, choice = (
        placement.choose(placement.request(RESOURCE, each), nodes, [READING], placement.reserved(pods), NOW)
        for each in pods
    )
    if hostile.gated and isinstance(first, Placement):
        placement.patch(hostile, first, "{}", NOW)
    placement.stamp(hostile, {"a": "b"})
    unschedulable.decide(
        unschedulable.UnschedulableHistory(),
        [unschedulable.Unschedulable(hostile, "gpu-a", True)],
        0.0,
        waits=True,
    )
    found = routing.candidates(pods, {}, set(), ["pp-ocr"])
    routing.decide(found, RESOURCE.spec.routing, 8, routing.RoutingState(), 0.0)
    seen = status.Seen(pods=tuple(status.PodSeen(pod=each) for each in pods))
    status.aggregate(RESOURCE, seen, NOW)
    begins = replace(BEGINS, owner=Owner(kind="ReplicaSet", name="begins", uid="rs"))
    assert begins.uid not in overbooked.late([*pods, begins], {"GPU-1": 2}), "there is room for both"
    Beginners().changed(None, hostile)
    assert isinstance(choice, Placement), choice
    return choice


@pytest.mark.parametrize("gated", [False, True])
@given(data=st.data())
def test_no_decision_fails_because_of_a_hostile_pod_or_node(gated: bool, data: st.DataObject) -> None:
    pod = data.draw(damaged(hostile_pod(gated)))
    node = data.draw(damaged(NODE))

    assert decide(pod, node).node == "gpu-b"


@given(data=st.data())
def test_a_hostile_lease_holds_up_no_replica_for_ever(data: st.DataObject) -> None:
    lease = {"metadata": {"resourceVersion": "7"}, "spec": data.draw(damaged(LEASE_SPEC))}
    seen = leadership.sight(None, lease, 0.0)
    again = leadership.sight(seen, lease, float(leases.MAX_DURATION_SECONDS + 1))
    assert isinstance(leadership.decide("ours", again, float(leases.MAX_DURATION_SECONDS + 1)), leases.Take)
    leadership.spec("ours", again, NOW)
    leadership.given_back(again, NOW)
