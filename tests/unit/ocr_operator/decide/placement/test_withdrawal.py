"""Which pods lose their promises to one of a higher priority."""

import itertools
import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.decide import placement
from ocr_operator.decide.placement import POLICIES, NodeIndex, NoFit, Placement, Request, withdrawal
from ocr_operator.decide.placement.candidate import Candidate
from ocr_operator.decide.placement.withdrawal import Promise, Withdrawal
from ocr_operator.gpuload.dcgm import GpuReading
from ocr_operator.resources.demand import Demand
from ocr_operator.resources.observed import Node, Owner, Pod
from ocr_wire import names
from ocr_wire.placement import Gpu, Record
from tests.unit.ocr_operator.decide.placement.test_placement import (
    GIB,
    L40S,
    NOW,
    make_gpu,
    make_node,
    make_request,
)

POLICY = POLICIES["leastLoaded"]
NODES = (make_node("gpu-a"), make_node("gpu-b"))
GPUS = {"GPU-1": "gpu-a", "GPU-2": "gpu-a", "GPU-3": "gpu-b"}
READINGS = tuple(make_gpu(node, uuid) for uuid, node in GPUS.items())
OWNER = Owner(kind="ReplicaSet", name="other-5d4", uid="rs")


def promised(name: str, priority: int = 0, memory: float = 30, uuid: str = "GPU-1", **change: Any) -> Pod:
    """A pod that was placed, and isn't bound yet."""
    record = Record(node=GPUS[uuid], gpus=(Gpu(uuid=uuid),), memory_bytes=int(memory * GIB))
    reported: dict[str, Any] = {
        "name": name,
        "namespace": "default",
        "uid": f"uid-{name}",
        "owner": OWNER,
        "labels": {names.LABEL_DEPLOYMENT: "other"},
        "annotations": {
            names.ANNOTATION_GPU_UUIDS: uuid,
            names.ANNOTATION_PLACEMENT: record.to_json(),
        },
        "demand": Demand(priority=priority),
    }
    return Pod(**(reported | change))


def asking(memory: float = 30, priority: int = 10, **change: Any) -> Request:
    return make_request(memory=memory, demand=Demand(priority=priority), **change)


def index(pods: Iterable[Pod], nodes: Sequence[Node], readings: Sequence[GpuReading]) -> NodeIndex:
    return NodeIndex.of(nodes, readings, placement.reserved(pods))


def withdraw(
    request: Request,
    pods: Sequence[Pod],
    nodes: Sequence[Node] = NODES[:1],
    readings: Sequence[GpuReading] = READINGS[:1],
) -> Withdrawal | None:
    known = index(pods, nodes, readings)
    assert isinstance(known.choose(request, NOW), NoFit)
    return withdrawal.decide(request, withdrawal.promises(request, pods), known.fitting(request, NOW), POLICY)


def victims(found: Withdrawal | None) -> set[str]:
    return {each.name for each in found.victims} if found is not None else set()


def test_the_decision_and_its_sentences() -> None:
    low = promised("low")
    found = withdraw(asking(), [low])

    assert found is not None
    assert (found.node, found.gpu.uuid, found.victims) == ("gpu-a", "GPU-1", (low,))
    assert found.why == (
        "default/new (priority 10) takes 30Gi of gpu-a/GPU-1, which was promised to default/low (priority 0), "
        "that isn't bound yet"
    )
    assert found.why_of(low) == (
        "default/low (priority 0) isn't bound yet and is replaced: "
        "default/new (priority 10) takes 30Gi of gpu-a/GPU-1"
    )


def test_sentence_is_no_longer_for_many() -> None:
    found = withdraw(asking(memory=44), [promised(f"p{number}", memory=9) for number in range(5)])
    assert found is not None
    assert len(found.victims) == 5
    assert found.why.endswith("to default/p0 (priority 0), default/p1 (priority 0), default/p2 (priority 0), 2 more, "
                              "that aren't bound yet")  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"node": "gpu-a"},
        {"demand": Demand(priority=10)},
        {"demand": Demand(priority=11)},
        {"terminating": True},
        {"owner": None},
        {"nominated": "gpu-a"},
        {"annotations": {**(promised("low").annotations or {}), names.ANNOTATION_GPU_UUIDS: "GPU-1,GPU-2"}},
    ],
    ids=["bound", "equal", "higher", "ends", "not-made-anew", "others-end-for-it", "of-several-gpus"],
)
def test_pod_that_keeps_its_promise(change: dict[str, Any]) -> None:
    assert withdraw(asking(), [promised("low", **change)]) is None


def test_nothing_is_lost_for_a_pod_that_would_not_fit_all_the_same() -> None:
    assert (
        withdraw(asking(), [promised("low", memory=10), promised("bound", memory=30, node="gpu-a")]) is None
    )
    assert withdraw(asking(memory=50), [promised("low")]) is None


def test_only_pods_that_share_a_gpu_take_promises_of_its_memory() -> None:
    low = [promised("low")]
    assert not withdrawal.promises(make_request("exclusive", demand=Demand(priority=10)), low)
    assert not withdrawal.promises(make_request("claim", demand=Demand(priority=10)), low)
    assert withdrawal.promises(asking(), low)


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        ([("a", 0, 20), ("b", 0, 10), ("c", 0, 10)], {"a"}),
        ([("a", 5, 20), ("b", 0, 10), ("c", 0, 10)], {"b", "c"}),
        ([("a", 5, 30), ("b", 0, 10)], {"a"}),
        ([("a", 5, 14), ("b", 5, 16), ("c", 0, 4)], {"b"}),
    ],
    ids=["fewest", "lowest-priority", "none-that-does-not-help", "the-one-that-suffices"],
)
def test_what_is_lost_on_a_gpu(pods: list[tuple[str, int, float]], expected: set[str]) -> None:
    """20 GiB of 45 are asked for, whatever is free."""
    there = [promised(name, priority, memory) for name, priority, memory in pods]
    assert victims(withdraw(asking(memory=20), there)) == expected


def test_gpu_is_the_one_where_the_least_is_lost() -> None:
    there = [
        *(promised("a", 5, 40, "GPU-1"), promised("b", 0, 20, "GPU-2"), promised("c", 0, 20, "GPU-2")),
        promised("d", 0, 40, "GPU-3"),
    ]
    assert victims(withdraw(asking(memory=44), there, NODES, READINGS)) == {"d"}
    assert victims(withdraw(asking(memory=44), there[:3], NODES[:1], READINGS[:2])) == {"b", "c"}
    both = [*there[:1], promised("e", 5, 25, "GPU-2"), promised("f", 0, 15, "GPU-2")]
    assert victims(withdraw(asking(memory=44), both, NODES[:1], READINGS[:2])) == {"a"}


def test_node_that_the_scheduler_refused_is_not_taken_in_this_way() -> None:
    """Or pods there would lose their promises again and again, for one that can't go there."""
    there = [promised("a", 0, 40, "GPU-1"), promised("b", 5, 40, "GPU-3")]
    request = asking(refused={"gpu-a": 1})
    assert victims(withdraw(request, there, NODES, [READINGS[0], READINGS[2]])) == {"b"}
    assert withdraw(request, there[:1]) is None


def test_only_so_many_nodes_are_looked_at() -> None:
    """Those where the lowest priorities are, and not for long where thousands of pods wait for a scheduler."""
    looked: list[str] = []

    def fitting(node: str, _gone: Collection[str]) -> Sequence[Candidate]:
        looked.append(node)
        return ()

    pods = [promised(f"p{number}", 5 if number else 0) for number in range(100)]
    there = [
        Promise(pod, replace(each, node=f"node-{99 - number:02}"))
        for number, (pod, each) in enumerate(withdrawal.promises(asking(), pods))
    ]

    assert withdrawal.decide(asking(), there, fitting, POLICY) is None
    assert looked == ["node-99", *(f"node-{number:02}" for number in range(withdrawal.NODES - 1))]


def test_pod_on_demand_takes_turns_with_what_is_promised_on_demand() -> None:
    """So only what is kept for others is in its way."""
    there = [
        promised("turns", 0, 40, annotations={**(promised("turns", 0, 40).annotations or {}),
                                               names.ANNOTATION_MEMORY_POLICY: "onDemand"}),
        promised("kept", 0, 20),
    ]  # fmt: skip
    assert victims(withdraw(asking(memory=30, on_demand=True), there)) == {"kept"}


def test_what_was_taken_is_kept_for_the_pod_until_it_is_placed() -> None:
    """For no other, and for it also where another GPU would come first by now."""
    low = promised("low", memory=40)
    request = asking(memory=40)
    found = withdraw(request, [low])
    assert found is not None
    known = index([], NODES, [READINGS[0], READINGS[2]])
    known.set_node("gpu-b", None)
    known.reserve(request.uid, [found.reservation(NOW)])

    assert isinstance(known.choose(asking(memory=10, pod="default/other", uid="uid-other"), NOW), NoFit)
    known.set_node("gpu-b", NODES[1])
    placed = known.choose(request, NOW)
    assert isinstance(placed, Placement)
    assert placed.gpus[0].uuid == "GPU-1"


PODS = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 5, 10]),
        st.sampled_from([3, 7, 11, 20, 40]),
        st.sampled_from([*GPUS]),
        st.booleans(),
    ),
    max_size=7,
)


def left(pods: Iterable[Pod], uuid: str) -> int:
    """Bytes of a GPU that no pod is promised."""
    return L40S - sum(
        placement.record(each).memory_bytes or 0
        for each in pods
        if not each.gated and each.annotation(names.ANNOTATION_GPU_UUIDS) == uuid
    )


@given(pods=PODS, priority=st.sampled_from([0, 5, 7, 20]), memory=st.sampled_from([5, 15, 30, 44, 50]))
def test_least_is_lost_and_nothing_else(
    pods: list[tuple[int, float, str, bool]], priority: int, memory: float
) -> None:
    """Against all sets of pods that might lose their promises, with the memory of a GPU added up by hand."""
    there = [
        promised(f"p{number}", each, size, uuid, node=GPUS[uuid] if bound else "")
        for number, (each, size, uuid, bound) in enumerate(pods)
    ]
    request = asking(memory, priority)
    known = index(there, NODES, READINGS)
    if isinstance(known.choose(request, NOW), Placement):
        return
    found = withdrawal.decide(
        request, withdrawal.promises(request, there), known.fitting(request, NOW), POLICY
    )

    takeable = [each for each in there if not each.node and each.demand.priority < priority]
    losses = [
        sorted((each.demand.priority for each in some), reverse=True)
        for size in range(len(takeable) + 1)
        for some in itertools.combinations(takeable, size)
        if any(left(set_apart(there, some), uuid) >= request.memory_bytes for uuid in GPUS)
    ]
    if found is None:
        assert not losses
        return
    assert set(victims(found)) <= {each.name for each in takeable}
    lost = sorted((each.demand.priority for each in found.victims), reverse=True)
    assert lost == min(losses), "the lowest priorities, and of these the fewest"
    after = set_apart(there, found.victims)
    assert left(after, found.gpu.uuid) >= request.memory_bytes
    for each in found.victims:
        assert left([*after, each], found.gpu.uuid) < request.memory_bytes, "none for nothing"


def set_apart(pods: Iterable[Pod], some: Iterable[Pod]) -> list[Pod]:
    names_of = {each.name for each in some}
    return [each for each in pods if each.name not in names_of]


@given(dice=st.randoms(use_true_random=False))
def test_pods_come_to_rest_and_no_gpu_is_promised_twice(dice: random.Random) -> None:
    """Pods come in whatever order, some are bound, and who fits nowhere takes promises: of lower priorities only, at
    last of none.
    """
    pods: dict[str, Pod] = {}
    numbers = itertools.count()
    for _ in range(10):
        name = f"p{next(numbers)}"
        pods[name] = promised(
            name, dice.choice([0, 5, 10]), dice.choice([5, 12, 20, 40]), gates=(names.GATE,)
        )
        settle(pods, dice, numbers)
        if waiting := [each for each in pods.values() if not each.gated and not each.node]:
            bound = dice.choice(waiting)
            pods[bound.name] = replace(bound, node=placement.record(bound).node)


def settle(pods: dict[str, Pod], dice: random.Random, numbers: Iterable[int]) -> None:
    """Place gated pods until nothing changes anymore, in any order."""
    withdrawn = 0
    again = True
    while again:
        again = False
        for pod in dice.sample(list(pods.values()), len(pods)):
            if not pod.gated or pod.name not in pods:
                continue
            size = (placement.record(pod).memory_bytes or 0) / GIB
            request = asking(size, pod.demand.priority, pod=pod.key, uid=pod.uid)
            known = index(pods.values(), NODES, READINGS)
            choice = known.choose(request, NOW)
            if isinstance(choice, Placement):
                uuid = choice.gpus[0].uuid
            else:
                promises = withdrawal.promises(request, pods.values())
                found = withdrawal.decide(request, promises, known.fitting(request, NOW), POLICY)
                if found is None:
                    continue
                uuid, withdrawn = found.gpu.uuid, withdrawn + len(found.victims)
                assert withdrawn <= 3 * len(pods), "what was lost is not taken back from who took it"
                for each in found.victims:
                    assert each.demand.priority < pod.demand.priority
                    assert not each.node
                    del pods[each.name]
                    name = f"p{next(iter(numbers))}"
                    pods[name] = replace(each, name=name, uid=f"uid-{name}", gates=(names.GATE,))
            pods[pod.name] = replace(promised(pod.name, pod.demand.priority, size, uuid))
            again = True
            assert all(left(pods.values(), each) >= 0 for each in GPUS)
