"""When pods that hang on their node are replaced: soon, and ever more rarely where that doesn't help."""

from collections import Counter
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.decide import placement
from ocr_operator.decide.placement import Placement, Request, unschedulable
from ocr_operator.decide.placement.unschedulable import (
    REMEMBERED_SECONDS,
    SECONDS,
    Unschedulable,
    UnschedulableHistory,
)
from ocr_operator.gpuload.dcgm import GpuReading
from ocr_operator.resources.observed import Node, Pod

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)


def unschedulable_pods(name: str = "a", node: str = "gpu-a", *, lost: bool = False) -> Unschedulable:
    return Unschedulable(Pod(name=name, namespace="default", uid=f"uid-{name}"), node, lost)


def decide(
    history: UnschedulableHistory, pods: list[Unschedulable], now: float, *, waits: bool = False
) -> tuple[UnschedulableHistory, list[Unschedulable]]:
    return unschedulable.decide(history, pods, now, waits=waits)


def test_a_pod_gets_some_time() -> None:
    history, due = decide(UnschedulableHistory(), [unschedulable_pods()], 100)
    assert due == []
    history, due = decide(history, [unschedulable_pods()], 100 + SECONDS - 1)
    assert due == []
    history, due = decide(history, [unschedulable_pods()], 100 + SECONDS)
    assert due == [unschedulable_pods()]
    assert unschedulable.refused(history) == {"gpu-a": 1}


def test_time_starts_again_when_it_was_not_stuck_in_between() -> None:
    history, _ = decide(UnschedulableHistory(), [unschedulable_pods()], 0)
    history, _ = decide(history, [], 10)
    _, due = decide(history, [unschedulable_pods()], SECONDS + 5)
    assert due == []


def test_a_lost_node_is_no_refusal_and_never_waits_longer() -> None:
    history = UnschedulableHistory(refusals={"gpu-a": 5}, waited=0)
    history, _ = decide(history, [unschedulable_pods(lost=True)], 10)
    history, due = decide(history, [unschedulable_pods(lost=True)], 10 + SECONDS)
    assert due
    assert history.refusals == {"gpu-a": 5}


def test_pods_that_are_refused_together_are_one_refusal() -> None:
    both = [unschedulable_pods("a"), unschedulable_pods("b")]
    history, _ = decide(UnschedulableHistory(), both, 0)
    history, due = decide(history, both, SECONDS)
    assert len(due) == 2
    assert history.refusals == {"gpu-a": 1}


def test_refusals_live_as_long_as_a_pod_waits() -> None:
    history, _ = decide(UnschedulableHistory(), [unschedulable_pods()], 0)
    history, _ = decide(history, [unschedulable_pods()], SECONDS)
    day = 86_400.0
    for hour in range(1, 25):
        history, _ = decide(history, [], day * hour / 24, waits=True)
    assert unschedulable.refused(history) == {"gpu-a": 1}
    history, _ = decide(history, [], day + REMEMBERED_SECONDS - 1)
    assert unschedulable.refused(history), "its replacement may not be there yet"
    history, _ = decide(history, [], day + REMEMBERED_SECONDS)
    assert not unschedulable.refused(history)


def _until_it_runs(works: list[bool]) -> tuple[Counter[str], float]:
    """How often each node is tried, and the seconds until the pod runs, or an hour per node has passed. Node 0 is the
    emptiest; the scheduler refuses those that don't work for a reason that nobody sees.
    """
    nodes = [Node(name=f"n{n:02}", ready=True) for n in range(len(works))]
    gpus = [
        GpuReading(
            node=node.name, uuid=f"GPU-{node.name}", memory_used_bytes=n, memory_total_bytes=100, read_at=NOW
        )
        for n, node in enumerate(nodes)
    ]
    history, tried, now = UnschedulableHistory(), Counter[str](), 0.0
    while now < 3600 * len(nodes):
        pod = Pod(name=f"p{tried.total()}", namespace="default", uid=f"uid-{tried.total()}")
        request = Request(
            pod=pod.key, uid=pod.uid, deployment="default/d", sharing="shared", memory_bytes=1,
            refused=unschedulable.refused(history),
        )  # fmt: skip
        placed = placement.choose(request, nodes, gpus, [], NOW)
        assert isinstance(placed, Placement)
        tried[placed.node] += 1
        if works[int(placed.node[1:])]:
            break
        while True:
            history, due = decide(history, [Unschedulable(pod, placed.node, lost=False)], now, waits=True)
            if due:
                break
            now += 1
    return tried, now


def test_the_one_node_that_works_is_found_behind_any_number_of_emptier_ones() -> None:
    tried, seconds = _until_it_runs([False] * 40 + [True])
    assert set(tried.values()) == {1}
    assert seconds <= 40 * (SECONDS + 1)


@given(st.lists(st.booleans(), min_size=1, max_size=9))
def test_every_node_is_tried_before_one_is_tried_twice(works: list[bool]) -> None:
    tried, _ = _until_it_runs(works)
    counts = [tried[f"n{n:02}"] for n in range(len(works))]
    assert max(counts) - min(counts) <= 1
    if any(works):
        assert max(counts) == 1


@given(st.lists(st.floats(0.1, 30), min_size=1, max_size=300), st.booleans())
def test_replacements_are_few_whatever_happens(gaps: list[float], lost: bool) -> None:
    """A pod that finds no node anywhere: a new one is stuck as soon as the last one went."""
    history, now, number, replaced = UnschedulableHistory(), 0.0, 0, 0
    for gap in gaps:
        now += gap
        history, due = decide(history, [unschedulable_pods(f"p{number}", lost=lost)], now)
        replaced += len(due)
        number += len(due)
        assert len(history.since) == 1
    assert replaced <= now / SECONDS
    if not lost:
        assert replaced <= 6 + now / 600, "with one node each try is a round, which doubles the patience"
