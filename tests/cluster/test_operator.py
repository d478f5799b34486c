"""The operator's own process against a real control plane, with real inference servers on process nodes."""

import json
import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devcluster.errors import DevclusterError
from ocr_wire import names
from tests.support import cluster as support
from tests.support.operators import PORT, Operator, running
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]


@pytest.fixture
def operator(pod_cluster: support.Place, tmp_path: Path) -> Iterator[Operator]:
    with running(pod_cluster, tmp_path) as ours:
        yield ours


@pytest.fixture
def processes(cluster: support.Place) -> None:
    """Pods whose processes a test can signal: asked for before the operator."""


def test_life_of_a_resource(operator: Operator) -> None:
    """Placed and ready; changed live; the operator killed and started again; ended within 5 s."""
    operator.apply(replicas=2)
    until(lambda: operator.holds("Ready") and operator.holds("ConfigApplied"), what="ready")
    before = operator.pods()
    assert len(before) == 2
    if operator.place.images is None:
        assert all(names.ANNOTATION_GPU_UUIDS in pod["metadata"]["annotations"] for pod in before.values())

    operator.apply(replicas=2, idle={"offloadAfterSeconds": 7})
    until(lambda: operator.holds("ConfigApplied"), 15, what="a change is applied")
    revision = operator.resource()["status"]["liveSettings"]["revision"]
    assert revision == 2

    operator.end(signal.SIGKILL)
    operator.apply(replicas=2, idle={"offloadAfterSeconds": 8})
    operator.start()
    until(lambda: operator.holds("ConfigApplied"), what="a change made meanwhile is applied")
    after = operator.pods()

    assert {name: pod["metadata"]["uid"] for name, pod in after.items()} == {
        name: pod["metadata"]["uid"] for name, pod in before.items()
    }
    assert [
        each["restartCount"] for pod in after.values() for each in pod["status"]["containerStatuses"]
    ] == [
        0,
        0,
    ]
    label = f"--selector={names.LABEL_DEPLOYMENT}=invoices"
    kinds = "deployments,services,secrets,poddisruptionbudgets"
    children = operator.kubectl("get", kinds, label, "-o", "name").split()
    assert sorted(children) == [
        "deployment.apps/invoices",
        "poddisruptionbudget.policy/invoices-ocr",
        "secret/invoices-ocr-admin",
        "service/invoices",
        "service/invoices-all",
    ]

    began = time.monotonic()
    assert operator.end(signal.SIGTERM) == 0
    assert operator.place.images is not None or time.monotonic() - began < 5


def test_drain_takes_one_of_two_replicas_at_a_time(operator: Operator) -> None:
    operator.apply(replicas=2)
    until(lambda: operator.holds("Ready"), what="ready")

    def allowed() -> int:
        found = operator.kubectl("get", "pdb", "invoices-ocr", "-o", "jsonpath={.status.disruptionsAllowed}")
        return int(found or 0)

    until(lambda: allowed() == 1, what="Kubernetes counts the pods")
    first, second = operator.pods()
    evict(operator, first)
    with pytest.raises(DevclusterError, match="violate the pod's disruption budget"):
        evict(operator, second)


def evict(operator: Operator, pod: str) -> None:
    """Evict a pod as `kubectl drain` does."""
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": operator.namespace},
    }
    path = f"/api/v1/namespaces/{operator.namespace}/pods/{pod}/eviction"
    operator.kubectl("create", f"--raw={path}", "-f", "-", stdin=json.dumps(eviction))


def test_policy_reaches_the_pods_that_it_selects(operator: Operator) -> None:
    """Set, contradicted by a stronger one, and taken back: the same pods work by each in turn."""

    def policy(name: str, seconds: int, **spec: Any) -> str:
        own = {"matchLabels": {"kubernetes.io/metadata.name": operator.namespace}}
        idle = {"offloadAfterSeconds": seconds}
        metadata = {"name": f"{name}-{operator.namespace}"}
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.POLICY_KIND,
            "metadata": metadata,
            "spec": {"namespaceSelector": own, "idle": idle, **spec},
        }
        operator.kubectl("apply", "-f", "-", stdin=json.dumps(body))
        return metadata["name"]

    def source() -> dict[str, str]:
        reported = operator.resource().get("status", {}).get("liveSettings", {}).get("sources", [])
        return next((each for each in reported if each["field"] == "idle.offloadAfterSeconds"), {})

    def works_by(seconds: int, origin: str) -> bool:
        return (
            source().get("from") == origin
            and source()["value"] == str(seconds)
            and operator.holds("ConfigApplied")
        )

    def status(name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(operator.kubectl("get", "ocridle", name, "-o", "json")).get(
            "status", {}
        )
        return found

    operator.apply(replicas=1)
    until(lambda: operator.holds("Ready") and works_by(60, "default"), what="ready by the defaults")
    before = set(operator.pods())
    saver, office = policy("saver", 30), ""
    try:
        until(lambda: works_by(30, f"OcrIdlePolicy/{saver}"), what="the policy counts")
        office = policy("office", 900, priority=1, windows=[{"start": "00:00", "end": "24:00"}])
        until(lambda: works_by(900, f"OcrIdlePolicy/{office}"), what="the stronger one counts")
        until(lambda: status(saver).get("overridden") == 1, what="the weaker one says so")
        until(
            lambda: status(office).get("effective") == 1 and status(office)["active"], what="and the stronger"
        )
        policy(
            "office", 900, priority=1, windows=[{"start": "00:00", "end": "24:00", "timeZone": "Mars/Base"}]
        )
        until(
            lambda: works_by(30, f"OcrIdlePolicy/{saver}"), what="a policy that makes no sense has no effect"
        )
        until(lambda: status(office)["conditions"][0]["status"] == "False", what="and says why")
        [reported] = status(office)["conditions"]
        assert reported["reason"] == "UnknownTimeZone"
        assert "'Mars/Base'" in reported["message"]
        said = json.loads(operator.kubectl("get", "events", "-o", "json"))["items"]
        assert any(each["reason"] == "PolicyChangedSettings" and office in each["message"] for each in said)
    finally:
        operator.kubectl("delete", "ocridle", *filter(None, (saver, office)))
    until(lambda: works_by(60, "default"), what="it is as it was")
    assert set(operator.pods()) == before


@pytest.mark.usefixtures("processes")
def test_killed_server_comes_back_with_the_newest_settings_while_the_operator_is_down(
    operator: Operator,
) -> None:
    operator.apply(replicas=1)
    until(lambda: operator.holds("Ready") and operator.holds("ConfigApplied"), what="ready")
    operator.apply(replicas=1, idle={"offloadAfterSeconds": 9})
    until(lambda: operator.holds("ConfigApplied"), 15, what="applied")
    assert operator.end(signal.SIGTERM) == 0
    [pod] = operator.pods().values()

    os.kill(operator.server(pod), signal.SIGKILL)

    def restarted() -> bool:
        [now] = operator.pods().values()
        [container] = now["status"]["containerStatuses"]
        return bool(container["restartCount"] == 1 and container["ready"])

    until(restarted, what="the node restarts the server")
    [now] = operator.pods().values()
    stamped = json.loads(now["metadata"]["annotations"][names.ANNOTATION_LIVE_SETTINGS])
    with urllib.request.urlopen(f"http://{now['status']['podIP']}:{PORT}/v1/state", timeout=5) as answer:
        state = json.load(answer)
    assert state["settings"] == stamped
    assert stamped["values"]["idle"]["offloadAfterSeconds"] == 9
