"""Which promises are undone where operators that don't see each other's choices gave away the same GPU memory."""

import random
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.controllers.beginners import Beginners
from ocr_operator.decide import placement
from ocr_operator.decide.placement import overbooked
from ocr_operator.resources.demand import Demand
from ocr_operator.resources.observed import Owner, Pod
from ocr_wire import names
from ocr_wire.placement import Gpu, Record, at
from tests.unit.ocr_operator.decide.placement.test_placement import GIB, NOW

REPLICA = "nvidia.com/gpu.shared"
SIZES = {"GPU-1": 40 * GIB, "GPU-2": 40 * GIB}


def promised(
    name: str,
    memory: float = 30,
    second: int = 0,
    uuid: str = "GPU-1",
    on_demand: bool = False,
    **change: Any,
) -> Pod:
    record = Record(
        node="gpu-a",
        gpus=(Gpu(uuid=uuid),),
        memory_bytes=int(memory * GIB),
        placed_at=at(NOW + timedelta(seconds=second)),
    )
    annotations = {names.ANNOTATION_GPU_UUIDS: uuid, names.ANNOTATION_PLACEMENT: record.to_json()}
    if on_demand:
        annotations[names.ANNOTATION_MEMORY_POLICY] = "onDemand"
    reported: dict[str, Any] = {
        "name": name,
        "namespace": "default",
        "uid": f"uid-{name}",
        "owner": Owner(kind="ReplicaSet", name="a-5d4", uid="rs"),
        "labels": {names.LABEL_DEPLOYMENT: name},
        "annotations": annotations,
        "phase": "Pending",
    }
    return Pod(**(reported | change))


def undone(*pods: Pod) -> set[str]:
    return {each.removeprefix("uid-") for each in overbooked.late(pods, SIZES)}


def test_later_promise_is_undone_and_the_lower_uid_counts_within_a_second() -> None:
    assert undone(promised("a", second=1), promised("b")) == {"a"}
    assert undone(promised("b"), promised("a")) == {"b"}
    assert not undone(promised("a"), promised("b", uuid="GPU-2"))
    assert undone(promised("a", 10), promised("b", 20), promised("c", 20), promised("d", 10)) == {"c"}


def test_replicas_of_a_gpu_are_not_undone() -> None:
    """Kubernetes counts them, though not their memory; which GPU one is of shows only once its pod runs."""
    got = {
        names.ANNOTATION_PLACEMENT: Record(node="gpu-a", memory_bytes=30 * GIB, placed_at=at(NOW)).to_json()
    }
    asked = Demand(((REPLICA, 1),))
    pods = [promised(name, annotations=got, demand=asked) for name in ("a", "b")]

    entries = placement.reserved(pods)

    assert [(each.resource, each.uuids, each.memory_bytes) for each in entries] == [
        (REPLICA, (), 30 * GIB)
    ] * 2
    assert not undone(*pods)


def test_sentence_names_what_the_earlier_ones_have() -> None:
    [why] = overbooked.late([promised("a"), promised("b")], SIZES).values()
    assert why == (
        "default/b is replaced before it starts: earlier promises have 30Gi of GPU-1, 40Gi in all, "
        "which another operator made at the same moment"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"phase": "Running"},
        {"owner": None},
        {"gates": (names.GATE,)},
        {"terminating": True},
        {"phase": "Failed"},
    ],
)
def test_pod_that_runs_or_has_none_to_follow_it_stays(change: dict[str, Any]) -> None:
    assert "b" not in undone(promised("a"), promised("b", second=5, **change))


def test_pod_that_starts_beside_one_that_runs_yields_although_it_was_earlier() -> None:
    assert undone(promised("a"), promised("b", second=5, phase="Running")) == {"a"}


def test_pod_that_ends_takes_nothing_or_two_would_be_undone_for_each_other() -> None:
    assert not undone(promised("a", terminating=True), promised("b", second=5))


def test_pods_on_demand_take_turns() -> None:
    turns = [promised(name, on_demand=True) for name in "abc"]
    assert not undone(*turns, promised("firm", 10, second=-1))
    assert undone(*turns, promised("firm", 20, second=9)) == {"firm"}


def test_size_that_does_not_take_a_pod_alone_says_nothing_of_others() -> None:
    assert not undone(promised("a", 50), promised("b"))
    assert not overbooked.late([promised("a"), promised("b")], {})


@dataclass
class Operator:
    """Sees pods late, and one at a time; deletes those of its own that it finds late."""

    name: str
    view: dict[str, Pod]

    def act(self, truth: dict[str, Pod], owners: dict[str, str]) -> None:
        for uid in overbooked.late(self.view.values(), SIZES):
            if owners[uid] != self.name:
                continue
            if uid in truth and truth[uid] == self.view[uid]:  # only as it was read
                assert truth[uid].phase == "Pending"
                del truth[uid]
            if uid not in truth:
                del self.view[uid]


@given(
    memory=st.lists(st.tuples(st.integers(1, 40), st.booleans(), st.integers(0, 2)), min_size=2, max_size=6),
    seed=st.integers(0, 2**32),
    starts=st.floats(0, 0.5),
)
def test_operators_undo_what_is_too_much_and_never_all_of_it(
    memory: list[tuple[int, bool, int]], seed: int, starts: float
) -> None:
    """In whatever order they hear of each other's promises and of starts."""
    dice = random.Random(seed)
    pods = [promised(f"p{n}", size, second, on_demand=turn) for n, (size, turn, second) in enumerate(memory)]
    truth = {pod.uid: pod for pod in pods}
    operators = [Operator(name, {}) for name in ("first", "second")]
    owners = {pod.uid: dice.choice(operators).name for pod in pods}
    for each in operators:  # its own writes are answered
        each.view = {uid: pod for uid, pod in truth.items() if owners[uid] == each.name}

    def settled() -> bool:
        return all(each.view == truth for each in operators)

    turn = 0
    while turn < 20 or not settled() or any(overbooked.late(each.view.values(), SIZES) for each in operators):
        turn += 1
        if dice.random() < starts and turn < 20:
            uid = dice.choice(sorted(truth))
            truth[uid] = replace(truth[uid], phase="Running")
        one = dice.choice(operators)
        uid = dice.choice([pod.uid for pod in pods])
        if uid in truth:
            one.view[uid] = truth[uid]
        else:
            one.view.pop(uid, None)
        one.act(truth, owners)

    assert truth
    taken = [pod for pod in truth.values() if pod.phase == "Pending"]
    assert not overbooked.late(truth.values(), SIZES)
    if not any(pod.phase == "Running" for pod in truth.values()):
        firm = sum(m for n, (m, turns, _) in enumerate(memory) if f"uid-p{n}" in truth and not turns)
        most = max((m for n, (m, turns, _) in enumerate(memory) if f"uid-p{n}" in truth and turns), default=0)
        assert firm + most <= 40, taken
    first = min(pods, key=lambda pod: (memory[pods.index(pod)][2], pod.uid))
    if not starts:
        assert first.uid in truth, "the earliest promise is kept"


def test_others_that_begin_on_a_gpu_are_told_when_a_pod_comes_there_or_starts() -> None:
    beginners = Beginners()
    a, b, elsewhere = promised("a"), promised("b"), promised("c", uuid="GPU-2")
    gated = promised("b", gates=(names.GATE,))
    assert not beginners.changed(None, a)
    assert not beginners.changed(None, elsewhere)
    assert not beginners.changed(None, gated)
    assert set(beginners.changed(gated, b)) == {("default", "a")}
    assert not beginners.changed(b, replace(b, node="gpu-a")), "no news for others"
    assert set(beginners.changed(b, replace(b, phase="Running"))) == {("default", "a")}
    assert not beginners.changed(a, None)
    assert not beginners.changed(replace(b, phase="Running"), replace(b, phase="Running", terminating=True))
    assert not beginners.changed(None, promised("late")), "none is left there"
