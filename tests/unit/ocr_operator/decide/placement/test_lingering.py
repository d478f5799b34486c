"""What a pod holds counts as long as its kubelet may take to end it, whatever the API server says of it."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.decide.placement import lingering
from ocr_operator.resources import observed
from ocr_operator.resources.observed import Pod
from tests.support.observations import raw_pod

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
ENDED = {"state": {"terminated": {"exitCode": 0}}}


def pod(name: str = "a", *, deleted: float | None = None, phase: str = "Running", **change: Any) -> Pod:
    """`deleted`: seconds until it has to be gone."""
    raw = raw_pod(name, **({"terminationGracePeriodSeconds": 120} | change))
    raw["status"]["phase"] = phase
    if deleted is not None:
        raw["metadata"]["deletionTimestamp"] = observed.stamp(NOW + timedelta(seconds=deleted))
    return observed.pod(raw)


def counts(gone: Pod, seconds: float) -> bool:
    """Return whether it counts so many seconds after it vanished."""
    return bool(lingering.current(lingering.add({}, gone, NOW), NOW + timedelta(seconds=seconds)))


def test_a_pod_that_is_forced_away_counts_for_what_is_left_of_its_grace() -> None:
    assert counts(pod(deleted=100), 104)
    assert not counts(pod(deleted=100), 106)


def test_a_pod_that_is_forced_away_at_once_counts_for_its_grace() -> None:
    assert counts(pod(), 124)
    assert not counts(pod(), 126)


def test_a_pod_whose_containers_have_ended_is_gone() -> None:
    assert not counts(pod(deleted=100, container=ENDED), 0)
    assert not counts(pod(phase="Failed"), 0)
    assert not counts(pod(gated=True), 0)
    assert not counts(pod(deleted=-6), 0)


def test_no_grace_keeps_a_gpu_for_ever() -> None:
    for endless in (pod(terminationGracePeriodSeconds=10**30), pod(deleted=10**9)):
        assert counts(endless, 600)
        assert not counts(endless, 606)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 900)), max_size=12))
def test_what_is_over_is_forgotten(vanished: list[tuple[str, int]]) -> None:
    known: lingering.Lingering = {}
    for name, second in sorted(vanished, key=lambda each: each[1]):
        now = NOW + timedelta(seconds=second)
        known = lingering.add(known, pod(name), now)
        assert all(now < end <= now + timedelta(seconds=125) for _, end in known.values())
