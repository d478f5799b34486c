"""Valid resources that were damaged anywhere: whatever the API server hands out, every decision about it is made.

Definitions are edited by hand, and of other versions, so a stored resource may have any value in any place.
"""

import copy
import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.decide import manifests, placement, plan, routing, status, waves
from ocr_operator.decide.placement import Placement
from ocr_operator.decide.status import Fault, PodSeen, Seen
from ocr_operator.gpuload.dcgm import GpuReading
from ocr_operator.kube import decoding, informer
from ocr_operator.pods import wire
from ocr_operator.resources import (
    conditions,
    effective,
    live_override,
    live_settings,
    observed,
    sharing,
    spec,
)
from ocr_operator.resources.reading import mapping
from ocr_operator.resources.spec import InvalidSpec, OcrDeployment
from ocr_wire import names
from ocr_wire import state as podstate
from ocr_wire.live_settings import envelope
from tests.support import damage, resources
from tests.support.observations import T0, raw_state

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
DEFAULTS = manifests.Defaults(image="ocr:1")
POLICY = resources.make_policy(idle={"offloadAfterSeconds": 7}, models=[{"name": "pp-ocr", "preload": True}])
NODE = observed.node(
    {
        "metadata": {"name": "gpu-a", "labels": {"nvidia.com/gpu.product": "NVIDIA-L40S"}},
        "status": {
            "allocatable": {"nvidia.com/gpu": "8", "cpu": "64", "memory": "512Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }
)
READING = GpuReading(
    node="gpu-a", uuid="GPU-1", memory_used_bytes=0, memory_total_bytes=48 * 2**30, read_at=NOW
)
OVERRIDE = '{"values":{"idle":{"offloadAfterSeconds":30}},"until":"2026-11-25T14:05:00Z"}'


def stored(example: dict[str, Any]) -> dict[str, Any]:
    """The resource as the API server returns it once it has pods and a status."""
    meta = {
        "namespace": "default",
        "uid": "8f7a95dc-2eac-5db4-b921-0123456789ab",
        "resourceVersion": "1042",
        "generation": 4,
        "creationTimestamp": T0,
        "annotations": {names.ANNOTATION_LIVE_OVERRIDE: OVERRIDE, "team.example/owner": "mail room"},
        "managedFields": [{"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {}}}],
    }
    body = {**copy.deepcopy(example), "metadata": {**meta, **example["metadata"]}}
    body["metadata"]["labels"] = {"team": "mail", **body["metadata"].get("labels", {})}
    assert isinstance(spec.parse(body), OcrDeployment)
    body["status"] = everything(body)
    return body


def everything(body: dict[str, Any]) -> dict[str, Any]:
    """Everything that is decided of a resource as it was read; its status."""
    informer.raw(body)
    sharing.exactly_alike(body, copy.deepcopy(body))
    conditions.counts([body])
    POLICY.selects(observed.labels(body), {})
    fault = status.faulty(body, Fault(message="it fails"), NOW)
    before = mapping(body, "status")
    status.events(before, fault)
    status.applied(before)
    list(status.series(body, [], lambda _: None))
    resource = spec.parse(body)
    after = (
        status.stalled(body, resource, NOW) if isinstance(resource, InvalidSpec) else served(body, resource)
    )
    status.step(before, after)
    status.events(before, after)
    msgspec.json.encode([fault, after])  # they are written
    return after


def served(body: dict[str, Any], resource: OcrDeployment) -> dict[str, Any]:
    """Everything that is decided of a valid resource: its children, the pods that they make; its status."""
    override = live_override.of(body, [each.name for each in resource.spec.models])
    settings = effective.of(resource, [POLICY], NOW, override)
    resource = msgspec.structs.replace(resource, spec=settings.spec)
    values, recorded = live_settings.values(resource.spec), live_settings.revision(resource.status)
    step = live_settings.advance(recorded, values)
    live = envelope(resource.generation, step.revision.revision, values)
    block = live_settings.reserve(recorded, live.revision, None)

    desired = manifests.desired(resource, DEFAULTS, "token", with_budget=True)
    assert plan.plan(desired, []).apply == tuple(desired)
    there = json.loads(msgspec.json.encode(desired))
    assert not plan.plan(desired, there), "what was written is as it should be"
    manifests.wants_budget(resource, there)
    [child] = (each for each in there if each["kind"] == "Deployment")
    waves.cause(child, child, compared=True)
    waves.turn_of(child)

    pod = observed.pod(born(child))
    request = placement.request(resource, pod)
    choice = placement.choose(request, [NODE], [READING], placement.reserved([pod]), NOW)
    if isinstance(choice, Placement):
        msgspec.json.encode(placement.patch(pod, choice, live.to_json(), NOW))
        manifests.claim(resource, pod, choice.uuids)
    else:
        placement.give_up(request, pod, choice, NOW, after_seconds=0)
    wire.target(pod, resource.spec.server.port)
    routing.decide(
        routing.candidates([pod], {}, set(), [each.name for each in resource.spec.models]),
        resource.spec.routing,
        resource.spec.batching.max_pages,
        routing.RoutingState(),
        0.0,
    )
    state = podstate.parse(raw_state(pod.name, models={"pp-ocr": ("ready", "gpu")}))
    assert isinstance(state, podstate.PodState)
    seen = Seen(
        pods=(PodSeen(pod=pod, state=state),),
        rollout=observed.rollout(child),
        live=live,
        reserved=block.last,
        sources=settings.sources,
        override=override,
        nofits={} if isinstance(choice, Placement) else {pod.name: choice},
    )
    after = status.aggregate(resource, seen, NOW)
    again = status.aggregate(msgspec.structs.replace(resource, status=after), seen, NOW)
    assert again == after, "what was written once is written no more"
    msgspec.json.encode(status.aggregate(resource, seen, NOW, compared=False))
    return after


def born(child: dict[str, Any]) -> dict[str, Any]:
    """The pod that a Deployment makes, as it waits at its gate."""
    template = copy.deepcopy(child["spec"]["template"])
    meta = {"name": "a-7c9-abc", "namespace": "default", "uid": "uid-a", "creationTimestamp": T0}
    return {
        "metadata": {**template["metadata"], **meta, "resourceVersion": "7"},
        "spec": template["spec"],
        "status": {"phase": "Pending"},
    }


def handed_out(damaged: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """What the operator reads of a resource: what names it is the API server's own, and never damaged."""
    meta = mapping(damaged, "metadata")
    named = {key: whole["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")}
    text = json.dumps({**damaged, "metadata": {**meta, **named}})
    return decoding.document(text.encode(), free_form=True)


BODIES = {
    **{name: stored(example) for name, example in resources.examples().items()},
    "smallest": stored(resources.make_body()),
    "two models": stored(
        resources.make_body(
            models=[{**resources.RAPIDOCR, "gpuMemory": "1Gi"}, dict(resources.DEEPSEEK)],
            gpu={"sharing": "shared", "memoryPolicy": "onDemand"},
        )
    ),
}


def test_examples_are_served() -> None:
    assert len(BODIES) > 10
    for body in BODIES.values():
        assert {each["type"]: each["status"] for each in body["status"]["conditions"]}["Stalled"] == "False"


@given(st.data())
def test_every_decision_is_made_of_a_damaged_resource(data: st.DataObject) -> None:
    whole = BODIES[data.draw(st.sampled_from(sorted(BODIES)))]

    everything(handed_out(data.draw(damage.damaged(whole)), whole))


@pytest.mark.parametrize(
    "odd", [None, True, 3, "x", [], {}, [[]], [None], damage.nested(200)], ids=lambda odd: str(odd)[:8]
)
def test_every_decision_is_made_of_a_resource_with_one_odd_value(odd: Any) -> None:
    whole = BODIES["two models"]
    for *parents, last in [each for each in damage.places(whole) if each]:
        changed = copy.deepcopy(whole)
        damage.at(changed, tuple(parents))[last] = odd
        everything(handed_out(changed, whole))
