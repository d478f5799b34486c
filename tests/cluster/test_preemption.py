"""Two resources of two namespaces on the GPUs of one node: what they hold changes hands."""

import asyncio
import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devcluster.tools.kubectl import environment
from ocr_wire import names
from tests.support import cluster as support
from tests.support import pages
from tests.support.operators import PORT, Local
from tests.support.realpods import read
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


class Team:
    """A namespace with one resource, whose model fills a GPU."""

    def __init__(self, cluster: support.Place, namespace: str) -> None:
        self._cluster, self.namespace = cluster, namespace

    def apply(self, node: str, replicas: int) -> None:
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": "invoices"},
            "spec": {
                "replicas": replicas,
                "models": [{"name": "pp-ocr", "engine": "rapidocr", "gpuMemory": "30Gi"}],
                "gpu": {"sharing": "shared", "memoryPolicy": "onDemand"},
                "queue": {"patienceSeconds": 60},
                "server": {"port": PORT},
                "template": {
                    "spec": {
                        "terminationGracePeriodSeconds": 2,
                        "nodeSelector": {"kubernetes.io/hostname": node},
                    }
                },
            },
        }
        self._cluster.kubectl("-n", self.namespace, "apply", "-f", "-", stdin=json.dumps(body))

    def get(self, what: str) -> list[dict[str, Any]]:
        group = f"/apis/{names.API_VERSION}" if what == names.PLURAL else "/api/v1"
        items: list[dict[str, Any]] = self._cluster.ask(f"{group}/namespaces/{self.namespace}/{what}")[
            "items"
        ]
        return items

    def ready(self) -> bool:
        return any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for each in self.get(names.PLURAL)
            for condition in each.get("status", {}).get("conditions", [])
        )

    def locations(self) -> dict[str, int]:
        """How many of its models are where, by the status."""
        [resource] = self.get(names.PLURAL)
        return {where: count for where, count in resource["status"]["locations"].items() if count}

    def told(self, reason: str) -> bool:
        return any(each["reason"] == reason for each in self.get("events"))

    def whys(self) -> list[str]:
        """What `kubectl ocr why` says of each pod."""
        return [
            subprocess.run(
                ["kubectl", "ocr", "why", pod["metadata"]["name"], "-n", self.namespace],
                env=environment(self._cluster.kubeconfig),
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            ).stdout
            for pod in self.get("pods")
        ]

    def read_page(self) -> None:
        """Every pod reads one."""
        for pod in self.get("pods"):
            status, body = asyncio.run(read(f"http://{pod['status']['podIP']}:{PORT}", pages.blank()))
            assert status == 200, body


@pytest.fixture
def teams(cluster: support.Place, tmp_path: Path) -> Iterator[tuple[Team, Team]]:
    """Both under one operator, which lets a model stay no longer than it is used."""
    if cluster.operator is not None:
        pytest.skip(f"the operator {cluster.operator} watches all namespaces of this cluster")
    with contextlib.ExitStack() as stack:
        both = [stack.enter_context(cluster.namespace("team")) for _ in "ab"]
        log = tmp_path / "operator.log"
        operator = Local(cluster, ",".join(both), log, arbitration_resident_seconds="0")
        stack.callback(operator.close)
        operator.start()
        first, second = (Team(cluster, each) for each in both)
        yield first, second
        for team in (first, second):
            cluster.kubectl("-n", team.namespace, "delete", "ocr", "--all", "--wait=false")
        until(lambda: not (first.get("pods") or second.get("pods")), what="pods go with their resources")


def test_memory_of_an_idle_resource_goes_to_one_of_another_namespace(
    cluster: support.Place, teams: tuple[Team, Team]
) -> None:
    """The first team fills both GPUs of a node, the second needs one of them."""
    node = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"][0]["metadata"]["name"]
    first, second = teams
    first.apply(node, replicas=2)
    until(first.ready, 120, what="the first has both GPUs")
    second.apply(node, replicas=1)
    until(second.ready, 120, what="the second fits, in turn")

    first.read_page()
    second.read_page()
    until(lambda: first.locations() == {"cpu": 1, "gpu": 1}, what="the status says who made way")
    until(lambda: second.locations() == {"gpu": 1}, what="the status says who got it")
    until(lambda: first.told("GpuMemoryYielded"), what="who made way is told")
    until(lambda: second.told("GpuMemoryFreed"), what="who got it is told")
    [why] = [each for each in first.whys() if "  made way " in each]
    assert f" ago for pp-ocr of {second.namespace}/invoices-" in why
    assert any("gets 30Gi of GPU-" in each for each in second.whys())
    first.read_page()
    until(lambda: first.locations() == {"gpu": 2}, what="and back")
    until(lambda: second.locations() == {"cpu": 1}, what="and back")
