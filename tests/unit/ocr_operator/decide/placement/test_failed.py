"""What follows from pods that their kubelets refused or stopped: doubtful nodes, and replacements that keep a pace."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.decide.placement import NoFitReason, failed
from ocr_operator.decide.placement.failed import FIRST_SECONDS, REMEMBERED_SECONDS, FailureHistory
from ocr_operator.resources.observed import Owner, Pod

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
GATED = Pod(name="new", namespace="default", uid="new", owner=Owner(kind="ReplicaSet", name="rs", uid="rs"))


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def make_failed(
    name: str, ended: float, *, lived: float = 0.0, node: str = "gpu-a", owner: str = "rs"
) -> Pod:
    return Pod(
        name=name,
        namespace="default",
        uid=name,
        phase="Failed",
        reason="UnexpectedAdmissionError",
        message="Pod was rejected: no devices",
        node=node,
        started=at(ended - lived),
        ended=at(ended),
        owner=Owner(kind="ReplicaSet", name=owner, uid=owner),
    )


def remember(pods: list[Pod], time: float, history: FailureHistory | None = None) -> FailureHistory:
    """Both clocks show the same."""
    return failed.remember(history or {}, pods, time, at(time))


def wait(pods: list[Pod], time: float, replicas: int = 1) -> failed.Wait | None:
    return failed.wait(remember(pods, time), pods, GATED, replicas, time)


def test_the_first_is_replaced_at_once_elsewhere() -> None:
    pods = [make_failed("a", 0)]
    assert wait(pods, 1) is None
    assert failed.refused(remember(pods, 1), pods, 1) == {"gpu-a": 1}
    later = REMEMBERED_SECONDS + 1
    assert failed.refused(remember(pods, later), pods, later) == {}


@pytest.mark.parametrize(("count", "seconds"), [(2, 10), (3, 20), (5, 80), (7, 320), (30, 320)])
def test_each_in_a_row_waits_twice_as_long(count: int, seconds: float) -> None:
    pods = [make_failed(f"p{n:02}", n) for n in range(count)]
    last = count - 1
    pause = wait(pods, last)
    assert pause is not None
    assert (pause.seconds, pause.until, pause.count) == (seconds, at(last + seconds), count)
    assert wait(pods, last + seconds - 1) is not None
    assert wait(pods, last + seconds) is None


def test_pods_that_are_refused_together_are_one_round() -> None:
    pods = [make_failed(f"p{n}", 0) for n in range(10)]
    assert wait(pods, 1, replicas=10) is None
    assert wait([*pods, make_failed("q", 1)], 1, replicas=10) is not None


def test_a_pod_that_worked_delays_none() -> None:
    """A node that is shut down ends pods that ran for hours."""
    pods = [make_failed(f"p{n}", n, lived=3600) for n in range(5)]
    assert wait(pods, 5) is None
    assert failed.refused(remember(pods, 5), pods, 5) == {"gpu-a": 5}


def test_a_new_template_starts_anew() -> None:
    pods = [make_failed(f"p{n}", n, owner="old") for n in range(5)]
    assert wait(pods, 5) is None


def test_why_it_waits_does_not_tick() -> None:
    pods = [make_failed("a", 0), make_failed("b", 1)]
    pauses = [wait(pods, time) for time in (1.0, 3.5, 10.9)]
    [nofit] = {failed.nofit(each) for each in pauses if each is not None}
    assert nofit.reason is NoFitReason.BACK_OFF
    assert nofit.message == (
        "not placed before 2026-11-23T08:00:11Z: 2 pods in a row ended soon, the last one, b, failed on gpu-a: "
        "UnexpectedAdmissionError: Pod was rejected: no devices"
    )


def test_the_clock_of_a_node_that_is_ahead_delays_nothing_more() -> None:
    pods = [make_failed("a", 86400), make_failed("b", 86400)]
    history = remember(pods, 0)
    pause = failed.wait(history, pods, GATED, 1, 0)
    assert pause is not None
    assert pause.seconds == FIRST_SECONDS
    assert failed.wait(remember(pods, FIRST_SECONDS, history), pods, GATED, 1, FIRST_SECONDS) is None


def test_a_pod_without_any_time_ended_when_it_was_first_seen() -> None:
    pod = Pod(name="a", namespace="default", uid="a", phase="Failed", node="gpu-a")
    history = remember([pod], 50)
    assert failed.recent(remember([pod], 60, history), [pod], 60) == [pod]
    assert failed.fades(history, 60) == REMEMBERED_SECONDS - 10


def test_a_pod_that_ended_well_is_told_too() -> None:
    """A kubelet that restarts stops pods whose node no longer fits their affinity: they end as Succeeded."""
    pod = Pod(name="a", namespace="default", uid="a", phase="Succeeded", node="gpu-a")
    assert failed.recent(remember([pod], 0), [pod], 0) == [pod]
    assert "its kubelet stopped it" in failed.sentence(pod)


@given(st.integers(1, 40), st.floats(0, 3), st.integers(1, 4))
def test_whatever_a_kubelet_refuses_the_pace_slows_down(tries: int, life: float, replicas: int) -> None:
    """Each new pod is placed as soon as it may be, and refused again."""
    pods: list[Pod] = []
    history: FailureHistory = {}
    time = 0.0
    for number in range(tries):
        if pause := failed.wait(history, pods, GATED, replicas, time):
            time += pause.seconds
        time += life
        pods.append(make_failed(f"p{number}", time))
        history = remember(pods, time, history)
    assert len([pod for pod in pods if (pod.ended or NOW) < at(60)]) <= 5 * replicas
