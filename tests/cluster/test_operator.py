"""The operator's own process against a real control plane, with real inference servers on process nodes."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devcluster.cluster import Cluster
from ocr_operator.resources import names
from tests.support import cluster as support
from tests.support import fakepod

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

PORT = fakepod.free_port()


def until(look: Callable[[], Any], seconds: float = 60, what: str = "") -> Any:
    deadline = time.monotonic() + seconds
    while not (answer := look()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or look}"
        time.sleep(0.1)
    return answer


class Operator:
    """One process, and the namespace that it watches."""

    def __init__(self, cluster: Cluster, namespace: str, log: Path) -> None:
        self.cluster, self.namespace, self.log = cluster, namespace, log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environ = os.environ | {
            "KUBECONFIG": str(self.cluster.kubeconfig),
            "OCR_OPERATOR_WATCH_NAMESPACES": self.namespace,
            "OCR_OPERATOR_EXPORTER_NAMESPACE": "gpu-operator",
            "OCR_OPERATOR_SCRAPE_SECONDS": "1",
            "OCR_OPERATOR_HOST": "127.0.0.1",
            "OCR_OPERATOR_PORT": "0",
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ocr_operator"], env=environ, stdout=log, stderr=log
            )

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=15)

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        return self.cluster.kubectl("-n", self.namespace, *arguments, stdin=stdin)

    def apply(self, **spec: Any) -> None:
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": "invoices"},
            "spec": {
                "models": [{"name": "pp-ocr", "engine": "rapidocr", "gpuMemory": "1Gi"}],
                "gpu": {"sharing": "shared"},
                "server": {"port": PORT},
                "template": {"spec": {"terminationGracePeriodSeconds": 2}},
                **spec,
            },
        }
        self.kubectl("apply", "-f", "-", stdin=json.dumps(body))

    def resource(self) -> dict[str, Any]:
        path = f"/apis/{names.API_VERSION}/namespaces/{self.namespace}/{names.PLURAL}/invoices"
        found: dict[str, Any] = support.ask(self.cluster, path)
        return found

    def holds(self, type_: str, status: str = "True") -> bool:
        body = self.resource()
        return any(
            each["type"] == type_
            and each["status"] == status
            and each["observedGeneration"] == body["metadata"]["generation"]
            for each in body.get("status", {}).get("conditions", [])
        )

    def pods(self) -> dict[str, dict[str, Any]]:
        items = support.ask(self.cluster, f"/api/v1/namespaces/{self.namespace}/pods")["items"]
        return {each["metadata"]["name"]: each for each in items}

    def server(self, pod: dict[str, Any]) -> int:
        """The id of the pod's server process: the parent of the others that bear its UID."""
        mark = f"POD_UID={pod['metadata']['uid']}".encode()
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        found[int(entry.name)] = int(
                            (entry / "stat").read_text().rpartition(")")[2].split()[1]
                        )
                except OSError:
                    continue
        return next(each for each, parent in found.items() if parent not in found)


@pytest.fixture
def operator(cluster: Cluster, tmp_path: Path) -> Iterator[Operator]:
    namespace = f"operator-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", namespace)
    ours = Operator(cluster, namespace, tmp_path / "operator.log")
    ours.start()
    try:
        yield ours
        ours.kubectl("delete", "ocr", "--all", "--wait=false")
        until(lambda: not ours.pods(), what="pods go with their resource, without the operator's help")
    finally:
        if ours.process is not None and ours.process.poll() is None:
            ours.process.kill()
            ours.process.wait()
        sys.stdout.write(ours.log.read_text(errors="replace"))
        cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def test_life_of_a_resource(operator: Operator) -> None:
    """Placed and ready; changed live; the operator killed and started again; ended within 5 s."""
    operator.apply(replicas=2)
    until(lambda: operator.holds("Ready") and operator.holds("ConfigApplied"), what="ready")
    before = operator.pods()
    assert len(before) == 2
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
    children = operator.kubectl("get", "deployments,services,secrets", "-o", "name").split()
    assert sorted(children) == [
        "deployment.apps/invoices",
        "secret/invoices-ocr-admin",
        "service/invoices",
        "service/invoices-all",
    ]

    began = time.monotonic()
    assert operator.end(signal.SIGTERM) == 0
    assert time.monotonic() - began < 5


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
        told = operator.resource().get("status", {}).get("liveSettings", {}).get("sources", [])
        return next((each for each in told if each["field"] == "idle.offloadAfterSeconds"), {})

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
        [told] = status(office)["conditions"]
        assert told["reason"] == "UnknownTimeZone"
        assert "'Mars/Base'" in told["message"]
        said = json.loads(operator.kubectl("get", "events", "-o", "json"))["items"]
        assert any(each["reason"] == "PolicyChangedSettings" and office in each["message"] for each in said)
    finally:
        operator.kubectl("delete", "ocridle", *filter(None, (saver, office)))
    until(lambda: works_by(60, "default"), what="it is as it was")
    assert set(operator.pods()) == before


def test_pod_that_stops_answering_is_unknown_within_15_seconds(operator: Operator) -> None:
    operator.apply(replicas=1)
    until(lambda: operator.holds("Ready"), what="ready")
    [pod] = operator.pods().values()
    process = operator.server(pod)

    os.kill(process, signal.SIGSTOP)
    try:
        until(
            lambda: operator.resource()["status"]["locations"].get("unknown") == 1,
            seconds=15,
            what="the status says unknown",
        )
    finally:
        os.kill(process, signal.SIGCONT)
    until(lambda: operator.resource()["status"]["locations"].get("unknown") == 0, what="it is known again")


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


def test_operator_that_is_there_before_the_definition_waits_for_it(tmp_path: Path) -> None:
    with support.started(tmp_path / "bare", nodes=0) as bare:
        bare.kubectl("create", "namespace", "early")
        early = Operator(bare, "early", tmp_path / "operator.log")
        early.start()
        try:
            until(
                lambda: "waiting for the definition" in early.log.read_text(),
                what="it says what it waits for",
            )
            support.apply_crds(bare)
            early.apply(replicas=1)
            until(lambda: early.resource().get("status", {}).get("observedGeneration") == 1, what="it serves")
        finally:
            assert early.end(signal.SIGTERM) == 0, early.log.read_text()
