"""Placement against a real scheduler: devices by Dynamic Resource Allocation, and a gate that is removed by hand."""

import json
import re
import shlex
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devcluster.node.decide import devices
from devcluster.supervisor import helm
from ocr_operator.gpuload import dcgm
from ocr_wire import names
from tests.support import cluster as support
from tests.support.cluster import until
from tests.support.operators import Operator, run_helm, running
from tests.support.paths import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

DRIVER = "gpu.nvidia.com"


@pytest.fixture
def ours(cluster: support.Place, tmp_path: Path) -> Iterator[Operator]:
    with running(cluster, tmp_path, "placement") as operator:
        yield operator


@pytest.fixture
def gpus(cluster: support.Place) -> Iterator[dict[str, str]]:
    """UUID → device, on two nodes. As a DRA driver would publish them: a class, and a slice a node."""
    found: dict[str, str] = {}
    made = [_device_class()]
    for node in cluster.kubectl("get", "nodes", "-o", "name").split()[:2]:
        name = node.removeprefix("node/")
        here = devices.simulated(name, 2, "NVIDIA-L40S", 46068)
        found |= {gpu.uuid: f"gpu-{index}" for index, gpu in enumerate(here)}
        made.append(_slice(name, [gpu.uuid for gpu in here]))
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": made})
    cluster.kubectl("apply", "-f", "-", stdin=text)
    yield found
    cluster.kubectl("delete", "--wait=false", "-f", "-", stdin=text)


def _device_class() -> dict[str, Any]:
    expression = f"device.driver == '{DRIVER}' && device.attributes['{DRIVER}'].type == 'gpu'"
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": DRIVER},
        "spec": {"selectors": [{"cel": {"expression": expression}}]},
    }


def _slice(node: str, uuids: list[str]) -> dict[str, Any]:
    def device(index: int, uuid_: str) -> dict[str, Any]:
        attributes = {"type": {"string": "gpu"}, "uuid": {"string": uuid_}}
        return {
            "name": f"gpu-{index}",
            "attributes": attributes,
            "capacity": {"memory": {"value": "46068Mi"}},
        }

    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": f"{node}-gpus"},
        "spec": {
            "driver": DRIVER,
            "nodeName": node,
            "pool": {"name": node, "generation": 1, "resourceSliceCount": 1},
            "devices": [device(index, each) for index, each in enumerate(uuids)],
        },
    }


def test_pods_get_the_device_that_the_operator_picked(ours: Operator, gpus: dict[str, str]) -> None:
    """Four pods, four GPUs: Kubernetes adopts the operator's claims, and its scheduler allocates these devices."""
    memory = "device.capacity['gpu.nvidia.com'].memory.compareTo(quantity('40Gi')) >= 0"
    ours.apply(replicas=4, gpu={"sharing": "claim", "claim": {"selectors": [memory]}})

    def bound() -> dict[str, dict[str, Any]]:
        pods = ours.pods()
        there = len(pods) == 4 and all(pod["spec"].get("nodeName") for pod in pods.values())
        return pods if there else {}

    pods = until(bound, 90, what="all pods are scheduled")
    claims = {
        each["metadata"]["name"]: each
        for each in json.loads(ours.kubectl("get", "resourceclaims", "-o", "json"))["items"]
    }
    promised = {}
    for name, pod in pods.items():
        [reported] = pod["status"]["resourceClaimStatuses"]
        assert reported == {"name": "gpu", "resourceClaimName": f"{name}-gpu"}, (
            "ours was adopted, no other was made"
        )
        claim = claims.pop(f"{name}-gpu")
        [device] = claim["status"]["allocation"]["devices"]["results"]
        [promised[name]] = pod["metadata"]["annotations"][names.ANNOTATION_GPU_UUIDS].split(",")
        assert device["device"] == gpus[promised[name]]
        assert device["pool"] == pod["spec"]["nodeName"]
        assert [each["uid"] for each in claim["status"]["reservedFor"]] == [pod["metadata"]["uid"]]
    assert not claims
    assert set(promised.values()) == set(gpus), "each has a GPU of its own"

    gone, pod = next(iter(pods.items()))
    ours.kubectl("delete", "pod", gone, "--wait=false")

    def successor() -> dict[str, Any] | None:
        now = bound()
        return None if gone in now else next((now[name] for name in now if name not in pods), None)

    replaced = until(successor, 90, what="a new pod takes its place")
    assert replaced["metadata"]["annotations"][names.ANNOTATION_GPU_UUIDS] == promised[gone]


def test_own_exporter_of_the_chart_tells_the_gpus_of_its_node(ours: Operator, tmp_path: Path) -> None:
    """The DaemonSet as the chart renders it, on nodes whose GPUs are simulated."""
    chart = str(helm.CHART)
    values = ("--set", "gpuExporter.enabled=true", "--show-only", "templates/gpu-exporter.yaml")
    rendered = run_helm(ours.place, tmp_path, "template", "ocr", chart, f"-n={ours.namespace}", *values)
    ours.kubectl("apply", "-f", "-", stdin=rendered)
    ours.kubectl("rollout", "status", "daemonset/ocr-ocr-operator-gpu-exporter", "--timeout=90s")
    nodes = {}
    for pod in ours.place.ask(f"/api/v1/namespaces/{ours.namespace}/pods")["items"]:
        with urllib.request.urlopen(f"http://{pod['status']['podIP']}:9400/metrics", timeout=5) as answer:
            nodes[pod["spec"]["nodeName"]] = dcgm.parse(answer.read(), "")
    ours.kubectl("delete", "daemonset", "--all")

    there = ours.kubectl("get", "nodes", "-o", "name").split()
    assert {f"node/{name}" for name in nodes} == set(there)
    for node, found in nodes.items():
        here = devices.simulated(node, 2, "NVIDIA-L40S", 46068)
        assert {each.uuid for each in found} == {gpu.uuid for gpu in here}
        assert {(each.node, each.memory_total_bytes) for each in found} == {(node, 46068 * 2**20)}


def test_claiming_pod_starts_by_hand_while_the_operator_is_down(ours: Operator, gpus: dict[str, str]) -> None:
    """The two commands of docs/placement.md: the template that isn't there otherwise, and the gate."""
    page = (ROOT / "docs" / "placement.md").read_text(encoding="utf-8")
    template = re.search(r"^(apiVersion: resource.k8s.io/v1\n.+?)^EOF$", page, re.MULTILINE | re.DOTALL)
    assert template is not None
    ours.apply(replicas=1, gpu={"sharing": "claim"})
    before = until(
        lambda: {n: p for n, p in ours.pods().items() if p["spec"].get("nodeName")}, 90, "scheduled"
    )
    assert ours.end(signal.SIGTERM) == 0
    gated = _next_pod(ours, *before)

    ours.kubectl("create", "-f", "-", stdin=template[1])
    ours.kubectl(*_gate_command(gated))

    pod = until(lambda: (now := ours.pods()[gated])["spec"].get("nodeName") and now, 90, "it is scheduled")
    [reported] = pod["status"]["resourceClaimStatuses"]
    claim = json.loads(ours.kubectl("get", "resourceclaim", reported["resourceClaimName"], "-o", "json"))
    [device] = claim["status"]["allocation"]["devices"]["results"]
    assert (device["pool"], device["device"] in gpus.values()) == (pod["spec"]["nodeName"], True)


def test_gate_is_removed_by_hand_while_the_operator_is_down(ours: Operator) -> None:
    ours.apply(replicas=1, gpu={"sharing": "exclusive"})
    until(lambda: ours.holds("Ready"), what="ready")
    assert ours.end(signal.SIGTERM) == 0
    gated = _next_pod(ours, *ours.pods())

    ours.kubectl(*_gate_command(gated))

    def serves() -> bool:
        pods = ours.pods()
        return set(pods) == {gated} and any(
            each["type"] == "Ready" and each["status"] == "True"
            for each in pods[gated]["status"]["conditions"]
        )

    until(serves, 90, what="the pod runs without the operator")
    ours.start()
    until(
        lambda: ours.holds("Ready") and ours.holds("ConfigApplied"), 90, what="the operator takes it as it is"
    )
    assert set(ours.pods()) == {gated}


def _next_pod(ours: Operator, before: str) -> str:
    """Deletes the pod; its successor, which waits at its gate since nobody places it."""
    ours.kubectl("delete", "pod", before, "--wait=false")
    found: str = until(
        lambda: next((name for name, pod in ours.pods().items() if pod["spec"].get("schedulingGates")), ""),
        what="the next pod waits at its gate",
    )
    return found


def _gate_command(pod: str) -> list[str]:
    """The command of docs/architecture.md, as it stands there."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    command = re.search(r"^kubectl (patch pod <pod> .+)$", text, re.MULTILINE)
    assert command is not None
    return shlex.split(command[1].replace("<pod>", pod))
