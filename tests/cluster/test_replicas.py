"""Two replicas of one operator on a real API server: one works, and another follows it, whatever becomes of it."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ocr_wire import names
from tests.support import cluster as support
from tests.support.operators import Local, Operator
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

LEASE = "operator-leader"


class Replicas:
    """Both processes, and the namespace that they watch."""

    def __init__(self, place: support.Place, namespace: str, folder: Path) -> None:
        self.running = [
            Local(
                place,
                namespace,
                folder / f"{name}.log",
                identity=f"{namespace}/operator",
                lease=f"{namespace}/{LEASE}",
                pod_name=name,
            )
            for name in ("first", "second")
        ]
        self.ours = Operator(place, namespace, self.running[0])

    def holder(self) -> str:
        return str(self.spec().get("holderIdentity", ""))

    def spec(self) -> dict[str, Any]:
        found = self.ours.kubectl("get", "lease", LEASE, "-o", "json", "--ignore-not-found")
        spec: dict[str, Any] = json.loads(found or '{"spec": {}}')["spec"]
        return spec

    def placed(self, replicas: int) -> bool:
        pods = self.ours.pods().values()
        return sum(not each["spec"].get("schedulingGates") for each in pods) == replicas


@pytest.fixture
def replicas(cluster: support.Place, tmp_path: Path) -> Iterator[Replicas]:
    if cluster.operator is not None:
        pytest.skip(f"the operator {cluster.operator} watches all namespaces of this cluster")
    with cluster.namespace("replicas") as namespace:
        both = Replicas(cluster, namespace, tmp_path)
        try:
            both.running[0].start()
            until(lambda: both.holder() == "first", what="the first one works")
            both.running[1].start()
            until(lambda: "stands by: first works" in both.running[1].log.read_text(), what="the other waits")
            yield both
        finally:
            for each in both.running:
                each.close()


def test_work_goes_on_when_the_replica_that_works_ends_or_stands_still(replicas: Replicas) -> None:
    ours, (first, second) = replicas.ours, replicas.running
    ours.apply(replicas=1)
    until(lambda: replicas.placed(1), what="the first pod is placed")

    began = time.monotonic()
    assert first.end(signal.SIGTERM) == 0
    ended = time.monotonic()
    until(lambda: replicas.holder() == "second", what="the second one works")
    assert time.monotonic() - ended < 2.5, "the Lease is given back"
    ours.apply(replicas=2)
    until(lambda: replicas.placed(2), what="it places")
    assert time.monotonic() - began < 20

    first.start()
    until(lambda: "stands by: second works" in first.log.read_text(), what="the first one waits now")
    second.pause()  # as a killed one, to all others
    paused = time.monotonic()
    ours.apply(replicas=3)
    until(lambda: replicas.placed(3), what="the first one places again")
    assert time.monotonic() - paused <= 20
    assert replicas.spec()["leaseTransitions"] == 2
    second.go_on()
    assert second.wait() == 1, "it begins afresh, which is Kubernetes' part"
    assert "first has worked meanwhile" in second.log.read_text()
    assert replicas.holder() == "first"
    revisions = {
        each["metadata"]["annotations"][names.ANNOTATION_LIVE_SETTINGS] for each in ours.pods().values()
    }
    assert len(revisions) == 1
