from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.decide.status import starting
from ocr_operator.resources import observed
from ocr_operator.resources.observed import stamp
from tests.support.observations import T0, raw_pod

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
CREATING: dict[str, Any] = {"ready": False, "state": {"waiting": {"reason": "ContainerCreating"}}}


def pod(container: dict[str, Any] = CREATING, sandboxed: bool | None = False, **spec: Any) -> observed.Pod:
    raw = raw_pod(ready=False, container=container, **spec)
    raw["status"] |= {"phase": "Pending", "startTime": T0}
    if sandboxed is not None:
        kind = "PodReadyToStartContainers"
        raw["status"]["conditions"].append({"type": kind, "status": str(sandboxed)})
    return observed.pod(raw)


def test_a_pod_is_prepared_from_its_start_until_its_sandbox_is_there() -> None:
    assert starting.since(pod()) == NOW
    assert starting.since(pod(sandboxed=None)) == NOW, "older kubelets don't say it"
    assert starting.since(pod(sandboxed=True)) is None, "an image is pulled, which takes its time"


@pytest.mark.parametrize(
    "container",
    [
        {"state": {"running": {"startedAt": T0}}},
        {"state": {"waiting": {"reason": "ImagePullBackOff"}}},
        CREATING | {"restartCount": 1},
    ],
)
def test_a_pod_whose_containers_have_begun_is_not_prepared(container: dict[str, Any]) -> None:
    assert starting.since(pod(container)) is None


def test_a_pod_without_a_node_is_not_prepared() -> None:
    assert starting.since(pod(node="")) is None


def event(ago: float, message: object = "why", type_: str = "Warning", **change: Any) -> dict[str, Any]:
    at = stamp(NOW - timedelta(seconds=ago))
    return {"type": type_, "reason": "FailedMount", "message": message, "lastTimestamp": at} | change


def test_the_newest_warning_counts_that_is_not_over() -> None:
    old, new = event(100, "old"), event(5, "new")
    assert starting.warning([old, new, event(1, "pulling", "Normal")], NOW) == "FailedMount: new"
    assert starting.warning([event(200)], NOW) == ""
    assert starting.warning([], NOW) == ""


def test_an_event_of_either_version_says_when_it_was() -> None:
    at = "2026-11-23T07:59:50.123456Z"
    for said in (
        {"eventTime": at},
        {"series": {"count": 3, "lastObservedTime": at}, "eventTime": "2026-11-23T07:00:00Z"},
    ):
        assert starting.warning([event(0, lastTimestamp=None, **said)], NOW) == "FailedMount: why"
    assert starting.warning([event(0, lastTimestamp=7, message=["x"])], NOW) == ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "reason", "message", "lastTimestamp", "series", "metadata"]), inner
        )
    ),
)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["type", "reason", "message", "lastTimestamp", "series", "metadata"]),
            JSON | st.just("Warning"),
        )
    )
)
def test_any_events_are_read(events: list[dict[str, Any]]) -> None:
    assert len(starting.warning(events, NOW)) <= 512
