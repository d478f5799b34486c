"""What else a node needs to have: CPU, memory, pods, devices, ports; and the books of all pods."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from ocr_operator.decide import placement
from ocr_operator.decide.placement import NoFit, NoFitReason, Placement, predicates
from ocr_operator.decide.placement.predicates import Usage
from ocr_operator.resources.demand import Demand, Port
from ocr_operator.resources.tenant import Tenant
from tests.unit.ocr_operator.decide.placement.test_placement import (
    FOUR_GPUS,
    GPUS,
    NOW,
    chosen,
    make_node,
    make_request,
)

GIB = 2**30
EVERYWHERE = Port("0.0.0.0", "TCP", 8080)


def asks(priority: int = 0, *, ports: Iterable[Port] = (), preempts: bool = True, **amounts: int) -> Demand:
    named = {name.replace("__", "/").replace("_", "."): amount for name, amount in amounts.items()}
    return Demand(tuple(sorted(named.items())), frozenset(ports), priority, preempts)


def books(**nodes: Iterable[Demand | Tenant]) -> Callable[[str], Usage]:
    kept = {
        name.replace("_", "-"): predicates.usage(
            each if isinstance(each, Tenant) else Tenant("", each) for each in there
        )
        for name, there in nodes.items()
    }
    return lambda node: kept.get(node, predicates.EMPTY)


def node(name: str, **change: Any) -> Any:
    allocatable = {GPUS: 2, "cpu": 8000, "memory": 32 * GIB, "pods": 10, **change}
    return make_node(name, allocatable=allocatable)


NODES = [node("gpu-a"), node("gpu-b")]
CLUSTER: Any = (NODES, FOUR_GPUS, [], NOW)
"""GPU-2 of gpu-a is the least loaded, then GPU-4 of gpu-b."""


@pytest.mark.parametrize(
    ("asked", "there", "word"),
    [
        (asks(cpu=4001), [asks(cpu=1000), asks(cpu=3000)], "short of cpu"),
        (asks(memory=20 * GIB), [asks(memory=13 * GIB)], "short of memory"),
        (asks(), [asks()] * 10, "full of pods"),
        (asks(rdma__hca=1), [], "short of rdma/hca"),
        (asks(ports=[EVERYWHERE]), [asks(ports=[Port("10.0.0.1", "TCP", 8080)])], "using its host ports"),
    ],
)
def test_a_node_that_lacks_something_is_no_candidate(asked: Demand, there: list[Demand], word: str) -> None:
    rdma = [NODES[0], node("gpu-b", **{"rdma/hca": 1})]
    answer = placement.choose(make_request(demand=asked), rdma, FOUR_GPUS, [], NOW, usage=books(gpu_a=there))
    assert isinstance(answer, Placement)
    assert chosen(answer) == "gpu-b/GPU-4"
    nowhere = placement.choose(
        make_request(demand=asked), NODES, FOUR_GPUS, [], NOW, usage=books(gpu_a=there, gpu_b=there)
    )
    assert nowhere == NoFit(
        reason=NoFitReason.NO_ELIGIBLE_NODE, message=f"no GPU fits 12Gi: 2 nodes are {word}"
    )


@pytest.mark.parametrize(
    ("asked", "there"),
    [
        (asks(cpu=4000), [asks(cpu=1000), asks(cpu=3000)]),
        (asks(), [asks(cpu=9000)]),
        (asks(), [asks()] * 9),
        (asks(ports=[EVERYWHERE]), [asks(ports=[Port("0.0.0.0", "UDP", 8080)])]),
        (asks(swap=5), [asks(swap=5)]),
    ],
    ids=["exactly", "nothing-of-what-is-short", "the-last-place", "another-protocol", "unknown-size"],
)
def test_a_node_that_has_it_is_one(asked: Demand, there: list[Demand]) -> None:
    answer = placement.choose(make_request(demand=asked), *CLUSTER, usage=books(gpu_a=there))
    assert isinstance(answer, Placement)
    assert chosen(answer) == "gpu-a/GPU-2"


class TestPriority:
    FULL = books(gpu_a=[asks(cpu=8000)], gpu_b=[])

    def choose(self, asked: Demand, usage: Callable[[str], Usage] = FULL) -> Placement | NoFit:
        return placement.choose(make_request(demand=asked), *CLUSTER, usage=usage)

    def test_a_node_where_pods_of_lower_priority_would_end_comes_last(self) -> None:
        answer = self.choose(asks(10, cpu=1000))
        assert isinstance(answer, Placement)
        assert answer.node == "gpu-b"

    def test_and_is_better_than_none(self) -> None:
        both = books(gpu_a=[asks(cpu=8000)], gpu_b=[asks(20, cpu=8000)])
        answer = self.choose(asks(10, cpu=1000), both)
        assert isinstance(answer, Placement)
        assert answer.node == "gpu-a"
        assert isinstance(self.choose(asks(10, cpu=1000, preempts=False), both), NoFit)
        assert isinstance(self.choose(asks(0, cpu=1000), both), NoFit), "equals aren't ended"

    @pytest.mark.parametrize("cheaper", [{"kept": True}, {"coming": True}, {"leaving": True}])
    def test_a_place_for_which_no_more_pods_end_comes_before_one_for_which_some_do(
        self, cheaper: dict[str, Any]
    ) -> None:
        """gpu-a has the less loaded GPU, and a pod that would have to end for it."""
        both = books(gpu_a=[asks(cpu=8000)], gpu_b=[Tenant("gpu-b", asks(cpu=8000), **cheaper)])
        answer = self.choose(asks(10, cpu=1000), both)
        assert isinstance(answer, Placement)
        assert answer.node == "gpu-b"

    def test_what_is_promised_to_a_lower_priority_is_free_for_who_never_ends_others(self) -> None:
        asked = asks(10, cpu=1000, preempts=False)
        cases: list[tuple[dict[str, Any], bool]] = [
            ({"kept": True}, True),
            ({"leaving": True}, False),
            ({}, False),
        ]
        for change, placed in cases:
            there = [Tenant("", asks(cpu=8000), **change)]
            answer = self.choose(asked, books(gpu_a=there, gpu_b=there))
            assert isinstance(answer, Placement) is placed

    def test_a_pod_that_ends_may_be_what_the_new_one_wants_to_be_near(self) -> None:
        """It counts as long as it is there; a lower one's promise doesn't."""
        guest, ends = Tenant("", asks(cpu=8000), kept=True), Tenant("", asks(), leaving=True)

        class NearToWhatEnds:
            def bars(self, _node: Any, gone: Any) -> str:
                return "far" if gone is not None and gone(ends) else ""

        found = predicates.lacks(
            make_request(demand=asks(10, cpu=1000)),
            NODES[0],
            predicates.usage([guest, ends]),
            NearToWhatEnds(),
        )
        assert found == ("", predicates.Price.PROMISES)

    def test_who_takes_the_place_of_pods_that_end_counts_against_its_equals(self) -> None:
        """6 of 8 CPUs are promised to a preemptor, whose victims still hold them: nobody's place is promised twice."""
        there = [Tenant("", asks(10, cpu=6000), kept=True), Tenant("", asks(cpu=8000), leaving=True)]
        both = books(gpu_a=there, gpu_b=there)
        assert isinstance(self.choose(asks(10, cpu=3000), both), NoFit)
        assert isinstance(self.choose(asks(10, cpu=2000), both), Placement), "once they have ended"


class TestDevices:
    """Devices that other people's pods request, on a node of which no exporter tells who holds what."""

    def request(self) -> Any:
        return make_request("exclusive", demand=asks(nvidia_com__gpu=1))

    def test_they_are_taken(self) -> None:
        full = asks(nvidia_com__gpu=2)
        answer = placement.choose(self.request(), *CLUSTER, usage=books(gpu_a=[full]))
        assert isinstance(answer, Placement)
        assert answer.node == "gpu-b"
        refused = placement.choose(self.request(), *CLUSTER, usage=books(gpu_a=[full], gpu_b=[full]))
        assert isinstance(refused, NoFit)
        assert refused.reason is NoFitReason.INSUFFICIENT_GPUS
        assert "gpu-a: 2 of 2 taken" in refused.message

    @pytest.mark.parametrize(
        ("asked", "placed"),
        [
            (asks(10, nvidia_com__gpu=1), True),
            (asks(10, preempts=False, nvidia_com__gpu=1), False),
            (asks(5, nvidia_com__gpu=1), False),
        ],
        ids=["higher", "never-preempts", "equal"],
    )
    def test_those_of_a_lower_priority_are_a_place_if_a_dear_one(self, asked: Demand, placed: bool) -> None:
        full = asks(5, nvidia_com__gpu=2)
        request = make_request("exclusive", demand=asked)
        answer = placement.choose(request, *CLUSTER, usage=books(gpu_a=[full], gpu_b=[full]))
        assert isinstance(answer, Placement) is placed
        free = placement.choose(request, *CLUSTER, usage=books(gpu_a=[full], gpu_b=[]))
        assert isinstance(free, Placement)
        assert free.node == "gpu-b", "a free one comes first"

    def test_a_gpu_that_may_be_one_of_them_is_pinned_last(self) -> None:
        answer = placement.choose(make_request(), *CLUSTER, usage=books(gpu_a=[asks(nvidia_com__gpu=1)]))
        assert isinstance(answer, Placement)
        assert chosen(answer) == "gpu-b/GPU-4"
