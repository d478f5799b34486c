"""What is promised to pods that take turns on a GPU, and to those beside them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.decide import manifests, placement
from ocr_operator.decide.placement import NoFit, Placement, Request, Reservation
from ocr_operator.resources import live_settings, observed
from ocr_wire import names
from tests.support.observations import raw_pod
from tests.support.resources import DEEPSEEK, make_deployment
from tests.unit.ocr_operator.decide.placement.test_placement import (
    GIB,
    L40S,
    NOW,
    choose,
    make_gpu,
    make_node,
    make_request,
    make_reservation,
    refuse,
)

ON_DEMAND = {"sharing": "shared", "memoryPolicy": "onDemand"}
MODELS = [{**DEEPSEEK, "name": "a"}, {**DEEPSEEK, "name": "b", "gpuMemory": "20Gi"}]


def turn(pod: str, memory: float, **change: Any) -> Reservation:
    return make_reservation(pod, memory=memory, on_demand=True, **change)


def test_a_pod_on_demand_needs_room_for_its_largest_model() -> None:
    request = placement.request(
        make_deployment(models=MODELS, gpu=ON_DEMAND), observed.pod(raw_pod(gated=True))
    )
    assert (request.memory_bytes, request.on_demand, request.resource) == (20 * GIB, True, "")


@pytest.mark.parametrize(
    ("reservations", "on_demand", "most"),
    [
        ([turn("a", 30), turn("b", 40)], True, 44.9),
        ([turn("a", 30), turn("b", 40)], False, 4.9),
        ([make_reservation("a", memory=20), turn("b", 10)], True, 24.9),
        ([make_reservation("a", memory=20), turn("b", 10)], False, 14.9),
    ],
)
def test_a_gpu_fits_what_is_reserved_and_the_largest_on_demand(
    reservations: list[Reservation], on_demand: bool, most: float
) -> None:
    place = [make_node()], [make_gpu()], reservations
    choose(make_request(memory=most, on_demand=on_demand), *place)
    message = refuse(make_request(memory=most + 1, on_demand=on_demand), *place).message
    assert f"{most:g}Gi free" in message


def test_turns_are_spread_over_gpus_too() -> None:
    gpus = [make_gpu(uuid="GPU-1"), make_gpu(uuid="GPU-2")]
    answer = choose(make_request(memory=30, on_demand=True), [make_node()], gpus, [turn("a", 30)])
    assert answer.gpus[0].uuid == "GPU-2"
    assert "takes turns with others on demand" in answer.why
    crowded = choose(make_request(memory=30, on_demand=True), [make_node()], gpus[:1], [turn("a", 30)])
    assert crowded.score == 0
    assert crowded.reservation(NOW).on_demand


def test_the_policy_is_in_the_pod_template_where_it_is_not_the_default() -> None:
    def annotations(gpu: dict[str, Any]) -> dict[str, str]:
        resource = make_deployment(models=MODELS, gpu=gpu)
        [*_, child] = manifests.desired(resource, manifests.Defaults(image="ocr:1"), "token")
        found: dict[str, str] = child["spec"]["template"]["metadata"]["annotations"]
        return found

    assert names.ANNOTATION_MEMORY_POLICY not in annotations({"sharing": "shared"})
    born = annotations(ON_DEMAND)
    assert born[names.ANNOTATION_MEMORY_POLICY] == "onDemand"
    placed = born | {
        names.ANNOTATION_PLACEMENT: json.dumps({"node": "gpu-a", "memoryBytes": GIB}),
        names.ANNOTATION_GPU_UUIDS: "GPU-1",
    }
    [entry] = placement.reserved([observed.pod(raw_pod(annotations=placed))])
    assert (entry.on_demand, entry.memory_bytes) == (True, GIB)


def test_the_policy_is_not_live() -> None:
    reserved, on_demand = (
        live_settings.values(make_deployment(models=MODELS, gpu=gpu).spec)
        for gpu in ({"sharing": "shared"}, ON_DEMAND)
    )
    assert reserved == on_demand


REQUESTS = st.builds(
    make_request, st.just("shared"), st.floats(0.1, 50), on_demand=st.booleans(), uid=st.uuids().map(str)
)


@given(st.lists(REQUESTS, max_size=12), st.integers(1, 3), st.floats(0, 44))
def test_one_turn_always_fits_beside_what_is_reserved(
    requests: list[Request], count: int, foreign: float
) -> None:
    gpus = [make_gpu(uuid=f"GPU-{k}", used=foreign if k == 0 else 0) for k in range(count)]
    reservations: list[Reservation] = []
    for request in requests:
        match placement.choose(request, [make_node()], gpus, reservations, NOW):
            case NoFit() as refusal:
                assert refusal.message
            case Placement() as spot:
                reservations.append(spot.reservation(NOW))
    for gpu in gpus:
        here = [entry for entry in reservations if gpu.uuid in entry.uuids]
        firm = sum(entry.memory_bytes for entry in here if not entry.on_demand)
        largest = max((entry.memory_bytes for entry in here if entry.on_demand), default=0)
        assert firm + largest + (gpu.memory_used_bytes or 0) <= L40S or not here
