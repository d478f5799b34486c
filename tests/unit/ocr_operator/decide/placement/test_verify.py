"""Whether pods got what they were promised; and that nothing that pods, exporters or people write can hurt."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.decide import placement
from ocr_operator.decide.placement import Basis, NoFit, Placement, Request, verify
from ocr_operator.gpuload import dcgm, readings
from ocr_operator.gpuload.dcgm import Source
from ocr_operator.gpuload.readings import GpuNodes
from ocr_operator.resources import observed
from ocr_operator.resources.demand import Demand
from ocr_operator.resources.observed import Node, Pod
from ocr_wire import names
from ocr_wire import state as podstate
from ocr_wire.placement import UUID
from ocr_wire.state import PodState
from tests.support.observations import raw_pod, raw_state

GIB = 2**30
NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
HOMES = GpuNodes({"GPU-1": "gpu-a", "GPU-2": "gpu-a", "GPU-9": "gpu-b"}, frozenset({"gpu-a", "gpu-b"}))


def state(uuid: str | None = "GPU-1", kind: str = "cuda", **device: Any) -> PodState:
    raw = raw_state("a", uuid=uuid, kind=kind)
    raw["device"] |= device
    parsed = podstate.parse(raw)
    assert isinstance(parsed, PodState), parsed
    return parsed


def pod(promised: str = "", **spec: Any) -> Pod:
    annotations = {names.ANNOTATION_GPU_UUIDS: promised} if promised else {}
    return observed.pod(raw_pod("a", annotations=annotations, **spec))


@pytest.mark.parametrize(
    ("wanted", "product", "text"),
    [
        ("NVIDIA-L40S", "NVIDIA L40S", ""),
        ("NVIDIA-L40S-SHARED", "NVIDIA L40S", ""),
        ("NVIDIA-A100-SXM4-80GB", "NVIDIA A100-SXM4-80GB MIG 1g.10gb", ""),
        (
            "NVIDIA-A100,NVIDIA-L40S",
            "Tesla T4",
            "runs on Tesla T4, which is none of NVIDIA-A100, NVIDIA-L40S",
        ),
        ("NVIDIA-L40S", None, ""),
        ("", "Tesla T4", ""),
    ],
)
def test_a_pod_on_another_product_is_named(wanted: str, product: str | None, text: str) -> None:
    annotations = {names.ANNOTATION_GPU_PRODUCTS: wanted}
    placed = observed.pod(raw_pod("a", annotations=annotations))
    assert verify.mismatch(placed, state(product=product), HOMES) == text
    on_amd = replace(placed, demand=Demand(amounts=(("amd.com/gpu", 1),)))
    assert verify.mismatch(on_amd, state(product=product), HOMES) == "", (
        "the driver has other names than the label"
    )


@pytest.mark.parametrize(
    ("promised", "reported", "text"),
    [
        ("GPU-1", state("GPU-1"), ""),
        ("GPU-1,GPU-2", state("GPU-2"), ""),
        ("", state("GPU-1"), ""),
        ("", state(None, "cpu"), ""),
        ("GPU-1", state("GPU-2"), "got GPU-2 instead of GPU-1"),
        ("GPU-1", state("GPU-9"), "got GPU-9 instead of GPU-1"),
        ("", state("GPU-9"), "says that it runs on GPU-9, which is on node gpu-b, not on gpu-a"),
        ("", state("GPU-7"), "says that it runs on GPU-7, which node gpu-a doesn't have"),
        ("", state("MIG-7"), ""),
        (
            "GPU-1",
            state(None, "cpu", mismatch="promised GPU-1, but there is\x00 no GPU here"),
            "promised GPU-1, but there is no GPU here",
        ),
    ],
)
def test_a_gpu_that_does_not_fit_is_named(promised: str, reported: PodState, text: str) -> None:
    assert verify.mismatch(pod(promised), reported, HOMES) == text


def test_a_node_that_nobody_tells_of_gives_no_reason_to_doubt() -> None:
    assert verify.mismatch(pod(), state("GPU-7")) == ""


def test_the_books_count_a_pod_where_it_is_as_well_as_where_it_should_be() -> None:
    [entry] = placement.reserved([pod("GPU-1")], {}, {"uid-a": state("GPU-2")})
    assert entry.uuids == ("GPU-1", "GPU-2")
    request = Request(pod="default/b", uid="b", deployment="", sharing="shared", memory_bytes=40 * GIB)
    placed = json.dumps({"node": "gpu-a", "gpus": [{"uuid": "GPU-1"}], "memoryBytes": 10 * GIB})
    both = observed.pod(
        raw_pod("a", annotations={names.ANNOTATION_GPU_UUIDS: "GPU-1", names.ANNOTATION_PLACEMENT: placed})
    )
    reservations = placement.reserved([both], {}, {"uid-a": state("GPU-2")})
    gpus = dcgm.parse(_text(("GPU-1", 0), ("GPU-2", 0)), "gpu-a", NOW)
    assert isinstance(
        placement.choose(request, [Node(name="gpu-a", ready=True)], gpus, reservations, NOW), NoFit
    )


def test_a_claim_of_another_nodes_gpu_books_nothing_there() -> None:
    reservations = placement.reserved(
        [pod("GPU-1")], {"default/invoices": 40 * GIB}, {"uid-a": state("GPU-9")}
    )
    request = Request(pod="default/b", uid="b", deployment="", sharing="shared", memory_bytes=40 * GIB)
    gpus = dcgm.parse(_text(("GPU-9", 0)), "gpu-b", NOW)
    answer = placement.choose(request, [Node(name="gpu-b", ready=True)], gpus, reservations, NOW)
    assert isinstance(answer, Placement)


def _text(*gpus: tuple[str, object]) -> str:
    lines = []
    for uuid, used in gpus:
        labels = f'{{gpu="0",UUID="{uuid}",modelName="NVIDIA L40S"}}'
        lines += [
            f"{dcgm.FB_USED}{labels} {used}",
            f"{dcgm.FB_FREE}{labels} 46068",
            f"{dcgm.GPU_UTIL}{labels} {used}",
        ]
    return "\n".join(lines) + "\n"


LIES = st.sampled_from(["NaN", "+Inf", "-Inf", "-1", "9.223372036854776e+18", "1e400", "", "x", "46069", "0"])
HOSTILE_TEXT = st.text(max_size=60) | st.sampled_from(
    ["all", "GPU-1,GPU-1", "../GPU-1", "GPU-" + "1" * 300, "[]", "{"]
)


@given(LIES, LIES, st.text(max_size=40))
def test_lying_metrics_never_stop_a_placement(used: str, free: str, noise: str) -> None:
    """A GPU whose numbers can't be is decided by allocation; it neither vanishes nor attracts."""
    labels = '{gpu="0",UUID="GPU-1",modelName="NVIDIA L40S"}'
    text = f"{dcgm.FB_USED}{labels} {used}\n{noise}\n{dcgm.FB_FREE}{labels} {free}\n"
    text += f"DCGM_FI_DEV_GPU_TEMP{labels} 40\n{dcgm.GPU_UTIL}{labels} {used}\n"
    gpus = readings.merge(dcgm.parse(text, "gpu-a", NOW), NOW)
    node = Node(name="gpu-a", ready=True, labels={"nvidia.com/gpu.memory": "46068"})
    request = Request(pod="default/b", uid="b", deployment="", sharing="shared", memory_bytes=GIB)
    answer = placement.choose(request, [node], gpus, [], NOW)
    if isinstance(answer, Placement):
        assert answer.basis in (Basis.METRICS, Basis.ALLOCATION)
        assert 0 <= answer.score <= 1
    else:
        assert answer.message


def test_metrics_that_vanish_are_used_for_five_minutes_and_then_not() -> None:
    node = Node(name="gpu-a", ready=True)
    gpus = dcgm.parse(_text(("GPU-1", 30_000)), "gpu-a", NOW)
    request = Request(pod="default/b", uid="b", deployment="", sharing="shared", memory_bytes=GIB)
    bases = []
    for seconds in (10, 120, 301, 86_400):
        later = NOW + timedelta(seconds=seconds)
        answer = placement.choose(request, [node], readings.merge(gpus, later), [], later)
        assert isinstance(answer, Placement)
        bases.append(answer.basis)
    assert bases == [Basis.METRICS, Basis.RECENT_METRICS, Basis.ALLOCATION, Basis.ALLOCATION]


@given(HOSTILE_TEXT, HOSTILE_TEXT, HOSTILE_TEXT)
def test_hand_edited_annotations_and_odd_claims_are_survived(uuids: str, record: str, uuid: str) -> None:
    raw = raw_pod(
        "a", annotations={names.ANNOTATION_GPU_UUIDS: uuids, names.ANNOTATION_PLACEMENT: record}, node="gpu-a"
    )
    parsed = podstate.parse(raw_state("a", uuid=uuid, kind="cuda"))
    states = {"uid-a": parsed} if isinstance(parsed, PodState) else {}
    edited = observed.pod(raw)
    reservations = placement.reserved([edited], {"default/invoices": GIB}, states)
    for entry in reservations:
        assert all(UUID.fullmatch(each) for each in entry.uuids)
        assert len(entry.uuids) <= 17
    for each in states.values():
        assert len(verify.mismatch(edited, each, HOMES)) <= 512
    reported = readings.of_pods([edited], states, NOW)
    assert all(each.source is Source.POD for each in reported)
