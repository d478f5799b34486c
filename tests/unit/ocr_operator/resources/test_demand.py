"""What the scheduler counts of a pod: its own rules, example by example, and whatever else somebody writes there."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.resources import demand
from ocr_operator.resources.demand import Demand, Port


def container(cpu: str = "", memory: str = "", **more: Any) -> dict[str, Any]:
    asked = {name: amount for name, amount in (("cpu", cpu), ("memory", memory)) if amount}
    return {"resources": {"requests": asked}, **more}


def amounts(spec: dict[str, Any]) -> dict[str, int]:
    return dict(demand.of_pod(spec).amounts)


MIB = 2**20


@pytest.mark.parametrize(
    ("spec", "asked"),
    [
        ({"containers": [container("250m"), container("1", "1Mi")]}, {"cpu": 1250, "memory": MIB}),
        ({"containers": [container("0.5m")]}, {"cpu": 1}),
        (
            {
                "containers": [container("1")],
                "initContainers": [container("3", "2Mi"), container("2", "3Mi")],
            },
            {"cpu": 3000, "memory": 3 * MIB},
        ),
        (
            {"containers": [container("1")], "initContainers": [container("1", restartPolicy="Always")]},
            {"cpu": 2000},
        ),
        (
            {
                "containers": [container("1")],
                "initContainers": [
                    container("5"),
                    container("2", restartPolicy="Always"),
                    container("4"),
                    container("1", restartPolicy="Always"),
                ],
            },
            {"cpu": 6000},
        ),
        ({"containers": [container("1")], "overhead": {"cpu": "100m"}}, {"cpu": 1100}),
        (
            {
                "containers": [container("1", "1Mi")],
                "resources": {"requests": {"cpu": "2", "hugepages-2Mi": "4Mi", "nvidia.com/gpu": "9"}},
            },
            {"cpu": 2000, "memory": MIB, "hugepages-2Mi": 4 * MIB},
        ),
        (
            {"containers": [{"resources": {"limits": {"nvidia.com/gpu": "2"}, "requests": {"cpu": "0"}}}]},
            {"nvidia.com/gpu": 2},
        ),
        ({"containers": [{"resources": {"requests": {"cpu": "-1", "memory": "x", "a/b": None}}}]}, {}),
    ],
    ids=["sum", "up", "init", "sidecar", "sidecars-before", "overhead", "of-the-pod", "limits", "odd"],
)
def test_what_is_asked_for(spec: dict[str, Any], asked: dict[str, int]) -> None:
    assert amounts(spec) == asked


def resized(
    asked: str, granted: str, has: str, infeasible: bool = False, **container_: Any
) -> dict[str, int]:
    """A pod of two containers of one CPU, one of which is being resized, as the kubelet tells it."""
    one = {**container(asked), "name": "one", **container_}
    kind = "initContainers" if container_ else "containers"
    spec = {"containers": [{**container("1"), "name": "other"}]}
    spec[kind] = [*spec.get(kind, []), one]
    reported = {
        "name": "one",
        "resources": {"requests": {"cpu": has}},
        "allocatedResources": {"cpu": granted},
    }
    status: dict[str, Any] = {"initContainerStatuses" if container_ else "containerStatuses": [reported]}
    if infeasible:
        status["conditions"] = [{"type": "PodResizePending", "reason": "Infeasible"}]
    return dict(demand.of_pod(spec, status).amounts)


@pytest.mark.parametrize(
    ("asked", "granted", "has", "counted"),
    [("4", "1", "1", 4000), ("1", "1", "4", 4000), ("1", "4", "1", 4000), ("500m", "500m", "500m", 500)],
    ids=["grows", "shrinks", "granted", "done"],
)
def test_a_pod_that_is_resized_counts_with_the_most_of_it(
    asked: str, granted: str, has: str, counted: int
) -> None:
    assert resized(asked, granted, has) == {"cpu": 1000 + counted}
    assert resized(asked, granted, has, restartPolicy="Always") == {"cpu": 1000 + counted}


def test_what_the_kubelet_can_never_grant_does_not_count() -> None:
    assert resized("64", "2", "1", infeasible=True) == {"cpu": 3000}


def test_a_pod_that_is_resized_as_a_whole() -> None:
    spec = {"containers": [container("1")], "resources": {"requests": {"cpu": "2"}}}
    status = {"resources": {"requests": {"cpu": "3"}}, "allocatedResources": {"cpu": "2"}}
    assert dict(demand.of_pod(spec, status).amounts) == {"cpu": 3000}


def test_ports_of_the_node() -> None:
    ports = [
        {"hostPort": 80},
        {"hostPort": 81, "hostIP": "10.0.0.1", "protocol": "UDP"},
        {"containerPort": 5},
    ]
    found = demand.of_pod({"containers": [{"ports": ports}]}).ports
    assert found == {Port("0.0.0.0", "TCP", 80), Port("10.0.0.1", "UDP", 81)}


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        (Port("0.0.0.0", "TCP", 80), Port("10.0.0.1", "TCP", 80), True),
        (Port("10.0.0.1", "TCP", 80), Port("10.0.0.1", "TCP", 80), True),
        (Port("10.0.0.1", "TCP", 80), Port("10.0.0.2", "TCP", 80), False),
        (Port("0.0.0.0", "TCP", 80), Port("0.0.0.0", "UDP", 80), False),
        (Port("0.0.0.0", "TCP", 80), Port("0.0.0.0", "TCP", 81), False),
    ],
)
def test_ports_that_clash(one: Port, other: Port, clash: bool) -> None:
    assert one.clashes(other) is other.clashes(one) is clash


def test_priority() -> None:
    assert demand.of_pod({"priority": 1000, "preemptionPolicy": "Never"}) == Demand(
        priority=1000, preempts=False
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=5), each, max_size=3),
    max_leaves=8,
)
LISTS = ["containers", "initContainers", "ports"]
MAPS = ["resources", "requests", "limits", "overhead"]
FIELDS = st.sampled_from([*LISTS, *MAPS, "cpu", "memory", "hostPort", "hostIP", "priority"])
ODD = st.recursive(JSON, lambda each: st.lists(each) | st.dictionaries(FIELDS, each), max_leaves=20)


@given(st.dictionaries(FIELDS, ODD))
def test_odd_pods_ask_for_something_bounded(spec: dict[str, Any]) -> None:
    found = demand.of_pod(spec)
    assert all(0 < amount < 2**80 for _, amount in found.amounts)
