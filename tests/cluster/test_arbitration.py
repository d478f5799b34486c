"""Two resources of two namespaces on the one GPU of a real cluster: what they hold changes hands."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from devcluster.cluster import Cluster
from ocr_operator.resources import names
from tests.cluster.test_operator import PORT, Operator, until
from tests.support import cluster as support
from tests.support import pages
from tests.support.realpods import read

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

TEAMS = ("team-a", "team-b")


def apply(cluster: Cluster, team: str) -> None:
    body = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": "invoices"},
        "spec": {
            "models": [{"name": "pp-ocr", "engine": "rapidocr", "gpuMemory": "30Gi"}],
            "gpu": {"sharing": "shared", "memoryPolicy": "onDemand"},
            "queue": {"patienceSeconds": 60},
            "server": {"port": PORT},
            "template": {"spec": {"terminationGracePeriodSeconds": 2}},
        },
    }
    cluster.kubectl("-n", team, "apply", "-f", "-", stdin=json.dumps(body))


def get(cluster: Cluster, team: str, what: str) -> list[dict[str, Any]]:
    group = f"/apis/{names.API_VERSION}" if what == names.PLURAL else "/api/v1"
    items: list[dict[str, Any]] = support.ask(cluster, f"{group}/namespaces/{team}/{what}")["items"]
    return items


def ready(cluster: Cluster, team: str) -> bool:
    return any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for each in get(cluster, team, names.PLURAL)
        for condition in each.get("status", {}).get("conditions", [])
    )


def locations(cluster: Cluster) -> list[str]:
    return [
        where
        for team in TEAMS
        for each in get(cluster, team, names.PLURAL)
        for where, count in each["status"]["locations"].items()
        if count
    ]


def reasons(cluster: Cluster, team: str) -> set[str]:
    return {each["reason"] for each in get(cluster, team, "events")}


def read_page(cluster: Cluster, team: str) -> None:
    [pod] = get(cluster, team, "pods")
    status, body = asyncio.run(read(f"http://{pod['status']['podIP']}:{PORT}", pages.blank()))
    assert status == 200, body


def test_memory_of_an_idle_resource_goes_to_one_of_another_namespace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCR_OPERATOR_ARBITRATION_RESIDENT_SECONDS", "0")
    with support.started(tmp_path / "one", nodes=1, gpus=1, defined=True) as cluster:
        for team in TEAMS:
            cluster.kubectl("create", "namespace", team)
        operator = Operator(cluster, ",".join(TEAMS), tmp_path / "operator.log")
        operator.start()
        try:
            for team in TEAMS:
                apply(cluster, team)
            until(
                lambda: all(ready(cluster, team) for team in TEAMS), 120, what="both fit on the GPU, in turn"
            )
            read_page(cluster, "team-a")
            read_page(cluster, "team-b")
            until(lambda: locations(cluster) == ["cpu", "gpu"], what="the status says who has it")
            until(lambda: "GpuMemoryYielded" in reasons(cluster, "team-a"), what="who made way is told")
            until(lambda: "GpuMemoryFreed" in reasons(cluster, "team-b"), what="who got it is told")
            read_page(cluster, "team-a")
            until(lambda: locations(cluster) == ["gpu", "cpu"], what="and back")
        finally:
            log = operator.log.read_text(errors="replace")
            if operator.process is not None and operator.process.poll() is None:
                operator.process.kill()
                operator.process.wait()
            print(log)
