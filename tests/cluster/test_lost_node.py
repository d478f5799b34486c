"""A node dies with the operator's replica that works and with an inference pod on it, and comes back.

The nodes and the operator are processes, installed by the chart; that the node is lost is found out, and its pods are
ended, by Kubernetes' own controllers.
"""

import asyncio
import contextlib
import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from devcluster.cluster import Cluster
from devcluster.machine import processes
from devcluster.machine.layout import Layout
from devcluster.supervisor import helm
from ocr_wire import names
from tests.support import cluster as support
from tests.support import pages
from tests.support.operators import PORT
from tests.support.realpods import read
from tests.support.relaunch import Program
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]

GRACE_SECONDS = 20
"""Silence after which Kubernetes takes a node as lost; its default is 50."""
TOLERATED_SECONDS = 20
"""So long inference pods stay on a lost node; the default is 300."""
PLACED_SECONDS = 40
"""From the death of the replica that works to the next pod's placement: 17 s for the Lease, then a first look at the
load of all GPUs, of which those of the dead node don't answer.
"""
NAMESPACE = "lost"
LABELLED = f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector={names.LABEL_DEPLOYMENT}%3D"


@dataclass
class Scene:
    """Three nodes of one GPU each, and two replicas of the operator."""

    cluster: Cluster
    place: support.Place
    started: list["Popen[bytes]"] = field(default_factory=list)

    def apply(self, name: str, replicas: int) -> None:
        """Pods of which each takes a whole GPU."""
        lost = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATED_SECONDS}
        tolerations = [{"key": f"node.kubernetes.io/{key}", **lost} for key in ("not-ready", "unreachable")]
        spec = {
            "replicas": replicas,
            "models": [{"name": "pp-ocr", "engine": "rapidocr", "gpuMemory": "1Gi"}],
            "gpu": {"sharing": "exclusive"},
            "server": {"port": PORT},
            "template": {"spec": {"terminationGracePeriodSeconds": 2, "tolerations": tolerations}},
        }
        body = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": name}, "spec": spec}
        self.place.kubectl("-n", NAMESPACE, "apply", "-f", "-", stdin=json.dumps(body))

    def status(self, name: str) -> dict[str, Any]:
        path = f"/apis/{names.API_VERSION}/namespaces/{NAMESPACE}/{names.PLURAL}/{name}"
        found: dict[str, Any] = self.place.ask(path).get("status", {})
        return found

    def condition(self, name: str, type_: str) -> tuple[str, str]:
        listed = self.status(name).get("conditions", [])
        return next(((each["status"], each["reason"]) for each in listed if each["type"] == type_), ("", ""))

    def pods(self, name: str) -> list[dict[str, Any]]:
        """Those of a resource that run or wait."""
        found = self.place.ask(f"{LABELLED}{name}")["items"]
        return [each for each in found if "deletionTimestamp" not in each["metadata"]]

    def placed(self, name: str, *, without: str = "") -> str:
        """The node of the one pod that is bound, if it isn't the one of the name `without`; else nothing."""
        bound = [each for each in self.pods(name) if each["spec"].get("nodeName")]
        return next((str(e["spec"]["nodeName"]) for e in bound if e["metadata"]["name"] != without), "")

    def operators(self) -> dict[str, str]:
        """Ready pods of the operator, and the node of each."""
        found = self.place.ask(f"/api/v1/namespaces/{helm.NAMESPACE}/pods")["items"]
        return {
            each["metadata"]["name"]: each["spec"]["nodeName"]
            for each in found
            if "deletionTimestamp" not in each["metadata"]
            and any(
                one["type"] == "Ready" and one["status"] == "True"
                for one in each["status"].get("conditions", ())
            )
        }

    def leader(self) -> str:
        """The pod of the operator that works."""
        path = "/apis/coordination.k8s.io/v1/namespaces/ocr-system/leases/ocr-operator-leader"
        return str(self.place.ask(path)["spec"].get("holderIdentity", ""))

    def kill(self, node: str) -> Program:
        """A node dies: its agent and all processes of its pods; returns how it was started."""
        [record] = [each for each in self.cluster.state.processes if each.name == node]
        program = Program.of(record.identity)
        processes.send(record.identity, signal.SIGKILL)
        return program

    def start(self, node: str, program: Program) -> None:
        self.started.append(program.start(Layout(self.cluster.directory).log(node)))


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    directory = tmp_path / "cluster"
    with support.started(
        directory, nodes=3, gpus=1, operator=True, node_grace_seconds=GRACE_SECONDS
    ) as cluster:
        here = Scene(cluster, support.of(cluster))
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        here.place.ask("/api/v1/namespaces", body)
        try:
            yield here
        finally:
            for each in here.started:
                each.terminate()
                each.wait()


@contextlib.contextmanager
def only(scene: Scene, node: str) -> Iterator[None]:
    """New pods go to no other node within the block."""
    others = [each for each in scene.cluster.state.nodes if each != node]
    scene.place.kubectl("cordon", *others)
    yield
    scene.place.kubectl("uncordon", *others)


def test_node_that_dies_with_the_replica_that_works_costs_no_more_than_its_pods(scene: Scene) -> None:
    """The next pod is placed once another replica works, 15 s after the Lease's last renewal; what was there is
    unknown, then replaced; its GPU is promised to nobody else until Kubernetes has ended the pod that had it.
    """
    until(lambda: len(scene.operators()) == 2, what="both replicas are ready")
    leader = until(scene.leader, what="one works")
    lost = scene.operators()[leader]
    with only(scene, lost):
        scene.apply("invoices", replicas=1)
        until(lambda: scene.condition("invoices", "Ready")[0] == "True", 120, what="it is ready there")
    [pod] = scene.pods("invoices")
    assert pod["spec"]["nodeName"] == lost
    status, _ = asyncio.run(read(f"http://{pod['status']['podIP']}:{PORT}", pages.blank()))
    assert status == 200
    until(lambda: scene.status("invoices")["locations"]["gpu"] == 1, what="its model is on the GPU")

    program = scene.kill(lost)
    killed = datetime.now(UTC)
    scene.apply("letters", replicas=1)
    other = until(lambda: scene.placed("letters"), 120, what="the next pod is placed")
    [next_one] = scene.pods("letters")
    record = json.loads(next_one["metadata"]["annotations"][names.ANNOTATION_PLACEMENT])
    took = (datetime.fromisoformat(record["placedAt"]) - killed).total_seconds()
    print(f"the next pod was placed {took:.0f} s after the death of the replica that worked")
    assert took <= PLACED_SECONDS
    assert other != lost
    assert scene.leader() != leader
    unknown = {"gpu": 0, "cpu": 0, "unloaded": 0, "unknown": 1}
    until(lambda: scene.status("invoices")["locations"] == unknown, what="where its model is, is unknown")
    until(lambda: scene.condition("invoices", "Degraded") == ("True", "NodeNotReady"), what="it is told why")

    gone = pod["metadata"]["name"]
    third = until(lambda: scene.placed("invoices", without=gone), 120, what="Kubernetes replaces it")
    assert len({lost, other, third}) == 3
    until(lambda: scene.condition("invoices", "Ready")[0] == "True", 120, what="the replacement is ready")
    until(lambda: scene.status("invoices")["locations"]["unknown"] == 0, what="it says where its model is")
    until(
        lambda: len(scene.operators()) == 2 and lost not in scene.operators().values(),
        120,
        what="the operator has two replicas again",
    )

    scene.apply("letters", replicas=2)
    until(lambda: scene.condition("letters", "Placed")[0] == "False", what="there is no GPU for another one")
    there = [each["metadata"]["name"] for each in scene.place.ask(f"{LABELLED}invoices")["items"]]
    assert gone in there, "nobody has said that its processes have ended"
    scene.start(lost, program)
    until(lambda: scene.condition("letters", "Ready")[0] == "True", 120, what="its GPU is free")
    assert {each["spec"]["nodeName"] for each in scene.pods("letters")} == {lost, other}
    there = [each["metadata"]["name"] for each in scene.place.ask(f"{LABELLED}invoices")["items"]]
    assert gone not in there
