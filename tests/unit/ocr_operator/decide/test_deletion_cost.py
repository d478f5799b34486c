from typing import Any

import msgspec
import pytest

from ocr_operator.decide.deletion_cost import costs
from ocr_operator.resources import observed
from ocr_wire import names
from ocr_wire.state import PodState
from tests.support.observations import raw_pod, raw_state


def pod(name: str, *, awake: bool = False, **values: Any) -> observed.Pod:
    raw = raw_pod(name, **values)
    raw["metadata"]["labels"][names.LABEL_AWAKE] = str(awake).lower()
    return observed.pod(raw)


def state(name: str, *locations: str, waiting: int = 0) -> PodState:
    models = {f"model-{index}": ("unknown", each) for index, each in enumerate(locations)}
    return msgspec.convert(
        raw_state(name, models=models) | {"queue": {"waiting": waiting, "in_flight": 0, "limit": 64}},
        PodState,
    )


def order(*candidates: tuple[observed.Pod, PodState | None]) -> list[str]:
    """Names in the order in which a ReplicaSet ends them."""
    states = {each.uid: seen for each, seen in candidates if seen is not None}
    found = costs([each for each, _ in candidates], states)
    names_of = {each.uid: each.name for each, _ in candidates}
    return [names_of[uid] for uid in sorted(found, key=lambda uid: int(found[uid]))]


def test_colder_pods_go_first_and_those_that_work_last() -> None:
    assert order(
        (pod("busy"), state("busy", "unloaded", waiting=1)),
        (pod("gpu"), state("gpu", "gpu", "unloaded")),
        (pod("cpu"), state("cpu", "cpu", "unloaded")),
        (pod("unloaded"), state("unloaded", "unloaded", "unloaded")),
    ) == ["unloaded", "cpu", "gpu", "busy"]


@pytest.mark.parametrize("location", ["unloaded", "cpu", "gpu"])
def test_of_two_alike_the_one_that_gets_no_requests_goes_first(location: str) -> None:
    assert order(
        (pod("awake", awake=True), state("awake", location)), (pod("asleep"), state("asleep", location))
    ) == ["asleep", "awake"]


def test_pod_that_cannot_be_heard_goes_before_one_with_a_model() -> None:
    assert order((pod("cpu"), state("cpu", "cpu")), (pod("silent", awake=True), None)) == ["silent", "cpu"]


def test_pods_at_their_gate_have_no_cost() -> None:
    """Kubernetes ends those without a node first, whatever they say."""
    assert costs([pod("gated", gated=True)], {}) == {}


def test_values_are_numbers_that_kubernetes_takes() -> None:
    for value in costs([pod("a", awake=True)], {"uid-a": state("a", "gpu", waiting=9)}).values():
        assert 0 <= int(value) < 2**31
        assert value == str(int(value)), "no sign and no leading zero, or the API server refuses it"
