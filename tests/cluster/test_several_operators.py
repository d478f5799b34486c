"""Two operators' processes on a real API server that watch one namespace: its owner works in it, the other waits."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ocr_operator.decide.ownership import LEASE_NAME
from tests.support import cluster as support
from tests.support.operators import Local, Operator
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

Pair = tuple[Operator, Operator, Local]


@pytest.fixture
def pair(control_plane: support.Place, tmp_path: Path) -> Iterator[Pair]:
    """Two operators that would write different children; only the first one runs."""
    if control_plane.operator is not None:
        pytest.skip(f"the operator {control_plane.operator} watches all namespaces of this cluster")
    with control_plane.namespace("owned") as namespace:
        first, second = (
            Local(
                control_plane,
                namespace,
                tmp_path / f"{name}.log",
                identity=f"{namespace}/{name}",
                inference_image=f"{name}:1",
            )
            for name in ("first", "second")
        )
        try:
            first.start()
            places = (Operator(control_plane, namespace, each) for each in (first, second))
            yield next(places), next(places), second
        finally:
            first.close()
            second.close()


def _child(ours: Operator) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        ours.kubectl("get", "deployment", "invoices", "-o", "json", "--ignore-not-found") or "{}"
    )
    return found


def _holder(ours: Operator) -> str:
    return ours.kubectl(
        "get", "lease", LEASE_NAME, "-o", "jsonpath={.spec.holderIdentity}", "--ignore-not-found"
    )


def test_one_of_two_operators_writes_and_a_restart_of_it_changes_nothing(pair: Pair) -> None:
    ours, others, second = pair
    ours.apply(replicas=1)
    until(lambda: bool(_child(ours)), what="the first one makes children")
    second.start()
    until(lambda: "writes nothing there" in second.log.read_text(), what="the second one says that it waits")
    until(lambda: "NamespaceTaken" in ours.kubectl("get", "events"), what="and has an Event")
    generation = _child(ours)["metadata"]["generation"]

    ours.end(signal.SIGTERM)
    ours.start()
    ours.apply(replicas=2)
    until(lambda: _child(ours)["spec"]["replicas"] == 2, what="the restarted one goes on")

    child = _child(ours)
    assert child["metadata"]["generation"] == generation + 1
    assert child["spec"]["template"]["spec"]["containers"][0]["image"] == "first:1"
    assert _holder(ours) == f"{ours.namespace}/first"

    ours.end(signal.SIGTERM)
    ours.kubectl("patch", "lease", LEASE_NAME, "--type=merge", "-p", '{"spec":{"holderIdentity":""}}')
    until(lambda: _holder(others).endswith("/second"), what="the other one takes it over")
    until(lambda: _child(ours)["spec"]["template"]["spec"]["containers"][0]["image"] == "second:1")
