"""Quotas, and a namespace that is being deleted: what a real API server refuses then, and what the operator says."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devcluster.cluster import Cluster
from devcluster.machine import processes
from ocr_operator.decide import rollouts
from ocr_wire import names
from tests.support import cluster as support
from tests.support.nodeless import Scene
from tests.support.operators import Local
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

OURS = (names.PLURAL, "services", "secrets")
"""Kinds that nobody else writes here."""
QUIET_SECONDS = 12.0
SETTLED_SECONDS = 3.0
"""Without a write for so long, what was known has been written: the status, some writes of which wait for others."""


def quiet(written: Callable[[], int], most: int) -> None:
    """Writes end, and nothing is tried more than `most` times for a while then: a storm would be tens a second."""
    last, since = written(), time.monotonic()

    def settled() -> bool:
        nonlocal last, since
        if (now := written()) != last:
            last, since = now, time.monotonic()
        return time.monotonic() - since >= SETTLED_SECONDS

    until(settled, what=f"nobody writes for {SETTLED_SECONDS} s")
    before, began = written(), time.monotonic()
    while time.monotonic() - began < QUIET_SECONDS:
        assert written() - before <= most
        time.sleep(0.5)


def test_quota_that_refuses_pods_is_told_in_its_words_until_there_is_room(
    scene: Scene, nodes: list[str]
) -> None:
    scene.quota(pods=0)
    scene.apply("crowded")
    until(lambda: scene.condition("crowded", "Degraded").get("reason") == "FailedCreate", what="it is told")
    words = "exceeded quota: few, requested: pods=1, used: pods=0, limited: pods=0"
    for condition in ("Ready", "Degraded", "Progressing"):
        assert words in scene.condition("crowded", condition)["message"]
    assert rollouts.over_quota(scene.get("deployment", "crowded"))
    quiet(lambda: scene.written(*OURS), most=2)

    scene.quota(pods=1)
    until(lambda: scene.run("crowded"), what="Kubernetes makes the pod")
    until(lambda: scene.condition("crowded", "Ready")["status"] == "True", what="it is ready")
    assert scene.condition("crowded", "Degraded")["status"] == "False"


def test_old_pod_goes_first_where_a_quota_has_no_room_for_a_new_one_beside_it(
    scene: Scene, nodes: list[str]
) -> None:
    scene.apply("full")
    until(lambda: scene.run("full"), what="a pod is bound")
    until(lambda: scene.condition("full", "Ready")["status"] == "True", what="it is ready")
    [old] = scene.bound("full")
    scene.quota(pods=1)
    scene.apply("full", {"terminationGracePeriodSeconds": 3})

    def rolled() -> bool:
        scene.stop("full")
        scene.run("full")
        return scene.condition("full", "Ready")["status"] == "True" and old["metadata"]["name"] not in [
            each["metadata"]["name"] for each in scene.pods("full")
        ]

    until(rolled, 120, what="the new one takes its place")
    [new] = scene.bound("full")
    assert new["spec"]["terminationGracePeriodSeconds"] == 3


def test_quota_that_refuses_a_child_is_told_in_its_words_and_its_end_is_noticed(
    scene: Scene, nodes: list[str]
) -> None:
    scene.quota(services=1)
    scene.apply("counted")
    until(lambda: scene.condition("counted", "Degraded").get("status") == "True", what="it is told")
    words = "exceeded quota: few, requested: services=1, used: services=1, limited: services=1"
    for condition in ("Ready", "Degraded"):
        assert words in scene.condition("counted", condition)["message"]
    assert scene.condition("counted", "Stalled")["status"] == "False", "nobody has to change the resource"
    told = until(lambda: scene.events("counted", "NotWritten"), what="an Event")
    assert words in told[0]["message"]
    quiet(lambda: scene.written(*OURS), most=5)

    scene.quota(services=2)
    until(
        lambda: scene.condition("counted", "Degraded")["status"] == "False", what="the other one is written"
    )
    scene.get("service", "counted-all")


@contextmanager
def paused(cluster: Cluster, name: str) -> Iterator[None]:
    """A process of the control plane stands still within the block."""
    [record] = [each for each in cluster.state.processes if each.name == name]
    processes.send(record.identity, signal.SIGSTOP)
    try:
        yield
    finally:
        processes.send(record.identity, signal.SIGCONT)


def observed(scene: Scene) -> int:
    return int(scene.get("ocr", "invoices")["status"]["observedGeneration"])


@pytest.fixture
def ending(tmp_path: Path) -> Iterator[tuple[Cluster, Scene, Scene]]:
    """A cluster, with a namespace that will end, another one, and an operator of both that runs all the time."""
    with support.started(tmp_path / "cluster", defined=True) as cluster:
        place = support.of(cluster)
        for name in ("ending", "staying"):
            meta = {"name": name}
            place.ask("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
        log = tmp_path / "operator.log"
        identity = {"identity": "staying/operator", "lease": "staying/leader"}
        operator = Local(place, "ending,staying", log, **identity)
        operator.start()
        try:
            yield cluster, Scene(place, "ending"), Scene(place, "staying")
            assert operator.end(signal.SIGTERM) == 0, "it has run all the time"
            assert "Traceback" not in log.read_text()
        finally:
            operator.close()


@pytest.mark.slow
def test_namespace_that_is_being_deleted_is_told_and_costs_a_few_writes(
    ending: tuple[Cluster, Scene, Scene],
) -> None:
    """Its controllers stand still meanwhile, as if they had much to delete; another namespace doesn't notice."""
    cluster, left, staying = ending
    for each in (left, staying):
        each.apply("invoices")
    until(lambda: observed(left) == observed(staying) == 1, what="both have their children")
    with paused(cluster, "kube-controller-manager"):
        left.place.kubectl("delete", "namespace", left.namespace, "--wait=false")
        left.kubectl("delete", "service", "invoices-all")
        until(lambda: left.condition("invoices", "Degraded").get("status") == "True", what="it is told")
        words = f"create new content in namespace {left.namespace} because it is being terminated"
        for condition in ("Ready", "Degraded"):
            assert words in left.condition("invoices", condition)["message"]
        quiet(lambda: left.written(*OURS, "events"), most=4)

    until(
        lambda: not left.place.kubectl("get", "namespace", left.namespace, "--ignore-not-found"),
        what="it is gone",
    )
    staying.apply("invoices", {"terminationGracePeriodSeconds": 3})
    until(lambda: observed(staying) == 2, what="the other one goes on")
