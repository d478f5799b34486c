"""When pods that hang on their node are replaced: soon, and ever more rarely where that doesn't help."""

from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.decide.placement import unschedulable
from ocr_operator.decide.placement.unschedulable import SECONDS, Hanging, Memory
from ocr_operator.resources.observed import Pod


def hanging(name: str = "a", node: str = "gpu-a", *, lost: bool = False) -> Hanging:
    return Hanging(Pod(name=name, namespace="default", uid=f"uid-{name}"), node, lost)


def test_a_pod_gets_some_time() -> None:
    memory, due = unschedulable.decide(Memory(), [hanging()], 100)
    assert due == []
    memory, due = unschedulable.decide(memory, [hanging()], 100 + SECONDS - 1)
    assert due == []
    memory, due = unschedulable.decide(memory, [hanging()], 100 + SECONDS)
    assert due == [hanging()]
    assert unschedulable.refused(memory, 100 + SECONDS) == {"gpu-a"}


def test_time_starts_again_when_it_was_not_stuck_in_between() -> None:
    memory, _ = unschedulable.decide(Memory(), [hanging()], 0)
    memory, _ = unschedulable.decide(memory, [], 10)
    _, due = unschedulable.decide(memory, [hanging()], SECONDS + 5)
    assert due == []


def test_a_lost_node_is_no_refusal_and_never_waits_longer() -> None:
    memory = Memory(refusals=tuple((float(n), "gpu-a") for n in range(5)))
    memory, _ = unschedulable.decide(memory, [hanging(lost=True)], 10)
    memory, due = unschedulable.decide(memory, [hanging(lost=True)], 10 + SECONDS)
    assert due
    assert len(memory.refusals) == 5


def test_pods_that_are_refused_together_are_one_refusal() -> None:
    both = [hanging("a"), hanging("b")]
    memory, _ = unschedulable.decide(Memory(), both, 0)
    memory, due = unschedulable.decide(memory, both, SECONDS)
    assert len(due) == 2
    memory, _ = unschedulable.decide(memory, [hanging("c")], SECONDS)
    _, due = unschedulable.decide(memory, [hanging("c")], 3 * SECONDS)
    assert due, "twice as long, not four times"


@given(st.lists(st.floats(0.1, 30), min_size=1, max_size=300), st.booleans())
def test_replacements_are_few_whatever_happens(gaps: list[float], lost: bool) -> None:
    """A pod that finds no node anywhere: a new one is stuck as soon as the last one went."""
    memory, now, number, replaced = Memory(), 0.0, 0, 0
    for gap in gaps:
        now += gap
        memory, due = unschedulable.decide(memory, [hanging(f"p{number}", lost=lost)], now)
        replaced += len(due)
        number += len(due)
        assert len(memory.since) == 1
    assert replaced <= now / SECONDS
    if not lost:
        assert replaced <= 5 + now / 150
