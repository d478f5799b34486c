from collections.abc import Mapping
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, generate_latest

from ocr_operator.decide.status import series
from ocr_operator.metrics import Metrics, ResourceSeries
from ocr_operator.resources import observed
from ocr_operator.resources.observed import Pod
from ocr_wire import names
from ocr_wire.conditions import CONDITIONS
from ocr_wire.state import PodState
from tests.support.observations import raw_pod, raw_state

GIB = 2**30


def pod(name: str, *uuids: str, gib: int = 6, **parts: Any) -> Pod:
    gpus = [{"uuid": each, "product": "NVIDIA-L40S"} for each in uuids]
    record = {"node": "gpu-a", "sharing": "shared", "gpus": gpus, "memoryBytes": gib * GIB}
    text = msgspec.json.encode(record).decode()
    notes = {names.ANNOTATION_PLACEMENT: text, names.ANNOTATION_GPU_UUIDS: ",".join(uuids)}
    return observed.pod(raw_pod(name, annotations=notes, **parts))


def state(used: int) -> PodState:
    raw = raw_state()
    return msgspec.convert(raw | {"device": raw["device"] | {"memory_used_bytes": used}}, PodState)


def values(
    body: Mapping[str, Any], *pods: Pod, states: Mapping[str, PodState] | None = None
) -> dict[tuple[str, ...], float]:
    found = series(body, pods, lambda each: (states or {}).get(each.name))
    return {(family, *labels): value for family, labels, value in found}


def test_numbers_are_those_of_spec_and_status() -> None:
    body = {
        "spec": {"replicas": 3},
        "status": {
            "replicas": 3,
            "readyReplicas": 2,
            "awakeReplicas": 1,
            "locations": {"gpu": 1, "cpu": 1, "unloaded": 0, "unknown": 1},
            "liveSettings": {"revision": 7},
            "conditions": [{"type": "Ready", "status": "False"}, {"type": "Placed", "status": "True"}],
        },
    }
    assert values(body) == {
        ("condition", "Ready", "False"): 1,
        ("condition", "Placed", "True"): 1,
        ("replicas", "wanted"): 3,
        ("replicas", "running"): 3,
        ("replicas", "ready"): 2,
        ("replicas", "awake"): 1,
        ("models", "gpu"): 1,
        ("models", "cpu"): 1,
        ("models", "unloaded"): 0,
        ("models", "unknown"): 1,
        ("gpu_memory_bytes", "promised"): 0,
        ("gpu_memory_bytes", "used"): 0,
        ("settings_revision",): 7,
    }


def test_resource_without_a_status_has_its_series_from_the_start() -> None:
    assert set(values({"spec": {}}).values()) == {0, 1}
    assert values({"spec": {}})["replicas", "wanted"] == 1


def test_edited_status_makes_no_more_series() -> None:
    odd: list[Any] = [{"type": "Mine", "status": "True"}, {"type": "Ready", "status": "Perhaps"}, 3]
    statuses: list[Any] = [{"conditions": odd, "replicas": "many", "locations": []}, [], {"conditions": {}}]
    for status in statuses:
        assert values({"spec": {"replicas": -1}, "status": status}) == values({"spec": {}})
    full = {"conditions": [{"type": each.type, "status": "True"} for each in CONDITIONS]}
    assert len(values({"spec": {}, "status": full})) == 17, "as docs/metrics.md says"


def test_memory_is_what_pods_were_promised_and_what_their_models_report() -> None:
    there = (pod("a", "GPU-1"), pod("b", "GPU-2", "GPU-3", gib=2))
    found = values({}, *there, states={"a": state(GIB), "b": state(2 * GIB)})
    assert found["gpu_memory_bytes", "promised"] == 10 * GIB
    assert found["gpu_memory_bytes", "used"] == 3 * GIB
    assert values({}, pod("c", "GPU-1", gated=True))["gpu_memory_bytes", "promised"] == 0


def test_series_of_a_resource_that_is_gone_are_gone() -> None:
    metrics = Metrics(CollectorRegistry())
    there = [("default", "invoices"), ("forms", "invoices")]
    metrics.resource_series.read = lambda: [(*key, series({}, (), lambda _: None)) for key in there]
    metrics.resource_series.omitted = lambda: 4

    def lines() -> list[str]:
        text = generate_latest(metrics.registry).decode()
        return [each for each in text.splitlines() if each.startswith(ResourceSeries.PREFIX)]

    assert (
        'ocr_operator_resource_replicas{resource="invoices",resource_namespace="forms",state="wanted"} 1.0'
        in (lines())
    )
    assert "ocr_operator_resource_series_omitted 4.0" in lines()
    there.pop()
    assert not [each for each in lines() if "forms" in each]
    assert [each for each in lines() if "default" in each]
