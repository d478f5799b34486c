"""When pods that hang on their node are replaced: soon, and ever more rarely where that doesn't help."""

from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.decide.placement import unschedulable
from ocr_operator.decide.placement.unschedulable import SECONDS, Unschedulable, UnschedulableHistory
from ocr_operator.resources.observed import Pod


def unschedulable_pods(name: str = "a", node: str = "gpu-a", *, lost: bool = False) -> Unschedulable:
    return Unschedulable(Pod(name=name, namespace="default", uid=f"uid-{name}"), node, lost)


def test_a_pod_gets_some_time() -> None:
    history, due = unschedulable.decide(UnschedulableHistory(), [unschedulable_pods()], 100)
    assert due == []
    history, due = unschedulable.decide(history, [unschedulable_pods()], 100 + SECONDS - 1)
    assert due == []
    history, due = unschedulable.decide(history, [unschedulable_pods()], 100 + SECONDS)
    assert due == [unschedulable_pods()]
    assert unschedulable.refused(history, 100 + SECONDS) == {"gpu-a"}


def test_time_starts_again_when_it_was_not_stuck_in_between() -> None:
    history, _ = unschedulable.decide(UnschedulableHistory(), [unschedulable_pods()], 0)
    history, _ = unschedulable.decide(history, [], 10)
    _, due = unschedulable.decide(history, [unschedulable_pods()], SECONDS + 5)
    assert due == []


def test_a_lost_node_is_no_refusal_and_never_waits_longer() -> None:
    history = UnschedulableHistory(refusals=tuple((float(n), "gpu-a") for n in range(5)))
    history, _ = unschedulable.decide(history, [unschedulable_pods(lost=True)], 10)
    history, due = unschedulable.decide(history, [unschedulable_pods(lost=True)], 10 + SECONDS)
    assert due
    assert len(history.refusals) == 5


def test_pods_that_are_refused_together_are_one_refusal() -> None:
    both = [unschedulable_pods("a"), unschedulable_pods("b")]
    history, _ = unschedulable.decide(UnschedulableHistory(), both, 0)
    history, due = unschedulable.decide(history, both, SECONDS)
    assert len(due) == 2
    history, _ = unschedulable.decide(history, [unschedulable_pods("c")], SECONDS)
    _, due = unschedulable.decide(history, [unschedulable_pods("c")], 3 * SECONDS)
    assert due, "twice as long, not four times"


@given(st.lists(st.floats(0.1, 30), min_size=1, max_size=300), st.booleans())
def test_replacements_are_few_whatever_happens(gaps: list[float], lost: bool) -> None:
    """A pod that finds no node anywhere: a new one is stuck as soon as the last one went."""
    history, now, number, replaced = UnschedulableHistory(), 0.0, 0, 0
    for gap in gaps:
        now += gap
        history, due = unschedulable.decide(history, [unschedulable_pods(f"p{number}", lost=lost)], now)
        replaced += len(due)
        number += len(due)
        assert len(history.since) == 1
    assert replaced <= now / SECONDS
    if not lost:
        assert replaced <= 5 + now / 150
