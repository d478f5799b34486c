"""Placement against a real scheduler: devices by Dynamic Resource Allocation, and a gate that is removed by hand."""

import json
import re
import shlex
import signal
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devcluster.node.decide import devices, images
from devcluster.supervisor import helm
from ocr_operator.decide import rollouts
from ocr_operator.decide.placement import unschedulable
from ocr_operator.gpuload import dcgm
from ocr_wire import names
from tests.support import cluster as support
from tests.support import dra
from tests.support.operators import Operator, priority_class, run_helm, running
from tests.support.paths import ROOT
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]


@pytest.fixture
def ours(cluster: support.Place, tmp_path: Path) -> Iterator[Operator]:
    with running(cluster, tmp_path, "placement") as operator:
        yield operator


@pytest.fixture
def gpus(cluster: support.Place) -> Iterator[dict[str, str]]:
    """UUID → device, on two nodes."""
    with dra.published(cluster) as found:
        yield found


def test_pods_get_the_device_that_the_operator_picked(ours: Operator, gpus: dict[str, str]) -> None:
    """Four pods, four GPUs: Kubernetes adopts the operator's claims, and its scheduler allocates these devices."""
    memory = "device.capacity['gpu.nvidia.com'].memory.compareTo(quantity('40Gi')) >= 0"
    ours.apply(replicas=4, gpu={"sharing": "claim", "claim": {"selectors": [memory]}})

    def bound() -> dict[str, dict[str, Any]]:
        pods = ours.pods()
        there = len(pods) == 4 and all(pod["spec"].get("nodeName") for pod in pods.values())
        confirmed = all("," not in _gpus(pod) for pod in pods.values())
        return pods if there and confirmed else {}

    pods = until(bound, 90, what="all pods are scheduled, and say which GPU they got")
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
        promised[name] = _gpus(pod)
        [chosen] = json.loads(pod["metadata"]["annotations"][names.ANNOTATION_PLACEMENT])["gpus"]
        assert promised[name] == chosen["uuid"], "the first choice"
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
    assert _gpus(replaced) == promised[gone]


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


def _away_from_guards(*more: str) -> dict[str, Any]:
    requirement = {"key": "app", "operator": "In", "values": ["guard", *more]}
    term = {"labelSelector": {"matchExpressions": [requirement]}, "topologyKey": "kubernetes.io/hostname"}
    return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


UNSEEN = _away_from_guards(*(f"app-{n}" for n in range(64)))
"""What only the scheduler knows of: a selector of more values than placement reads."""


def test_shared_pod_finds_the_node_that_works_behind_one_that_does_not(ours: Operator) -> None:
    """The scheduler refuses the first choice, for a reason that placement doesn't see: it is replaced once."""
    first, second = _nodes(ours)
    _guard(ours, first)
    ours.apply(replicas=1, gpu={"sharing": "shared"}, template={"spec": {"affinity": UNSEEN}})
    refused = until(lambda: next(iter(ours.pods()), ""), what="the first pod")

    pods = until(lambda: _bound(ours), 150, what="a pod runs on the node that works")

    assert [pod["spec"]["nodeName"] for pod in pods.values()] == [second]
    assert refused not in pods


@pytest.mark.parametrize("gpu", [{}, {"products": ["NVIDIA-L40S"]}], ids=["any", "products"])
def test_exclusive_pod_goes_elsewhere_at_once(ours: Operator, gpu: dict[str, Any]) -> None:
    """The same with `exclusive`, where the scheduler may pick another node: no pod is replaced."""
    first, second = _nodes(ours)
    _guard(ours, first)
    ours.apply(replicas=1, gpu={"sharing": "exclusive", **gpu}, template={"spec": {"affinity": UNSEEN}})
    asked = until(lambda: next(iter(ours.pods()), ""), what="the first pod")

    pods = until(lambda: _bound(ours), 90, what="it is bound")

    assert {name: pod["spec"]["nodeName"] for name, pod in pods.items()} == {asked: second}
    assert json.loads(pods[asked]["metadata"]["annotations"][names.ANNOTATION_PLACEMENT])["node"] == first


def test_claiming_pod_goes_elsewhere_at_once(ours: Operator, gpus: dict[str, str]) -> None:
    """Its claim lists the GPUs of the other node, too, and the operator reads there which one it got."""
    first, second = _nodes(ours)
    _guard(ours, first)
    ours.apply(replicas=1, gpu={"sharing": "claim"}, template={"spec": {"affinity": UNSEEN}})
    asked = until(lambda: next(iter(ours.pods()), ""), what="the first pod")

    pods = until(lambda: _bound(ours), 90, what="it is bound")

    assert {name: pod["spec"]["nodeName"] for name, pod in pods.items()} == {asked: second}
    record = json.loads(pods[asked]["metadata"]["annotations"][names.ANNOTATION_PLACEMENT])
    assert record["node"] == first
    until(lambda: _gpus(ours.pods()[asked]) in gpus, what="it says which GPU it got")
    got = _gpus(ours.pods()[asked])
    assert got == next(each["uuid"] for each in record["alternatives"] if each["node"] == second)
    claim = json.loads(ours.kubectl("get", "resourceclaim", f"{asked}-gpu", "-o", "json"))
    [device] = claim["status"]["allocation"]["devices"]["results"]
    assert (device["pool"], device["device"]) == (second, gpus[got])


def test_exclusive_pod_goes_to_the_node_that_was_chosen(ours: Operator) -> None:
    """The scheduler by itself would take the other node: it has more CPU left, and the template prefers it."""
    first, second = _nodes(ours)
    _guard(ours, first, {"cpu": "1500m"})
    prefers = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [second]}]}
    terms = [{"weight": 100, "preference": prefers}]
    affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": terms}}
    ours.apply(replicas=1, gpu={"sharing": "exclusive"}, template={"spec": {"affinity": affinity}})

    pods = until(lambda: _bound(ours), 90, what="it is bound")

    assert [pod["spec"]["nodeName"] for pod in pods.values()] == [first]


@pytest.mark.parametrize("what", ["cpu", "affinity"])
def test_pod_avoids_a_node_by_what_others_are_there(ours: Operator, what: str) -> None:
    """Placement sees it: the first pod goes to the other node, and none is replaced."""
    first, second = _nodes(ours)
    _guard(ours, first, {"cpu": _cpus(ours, first)} if what == "cpu" else {})
    asked = {"resources": {"requests": {"cpu": "100m"}}}
    template = {"spec": asked if what == "cpu" else {"affinity": _away_from_guards()}}
    ours.apply(replicas=1, gpu={"sharing": "shared"}, template=template)
    pod = until(lambda: next(iter(ours.pods()), ""), what="the first pod")

    pods = until(lambda: _bound(ours), 90, what="it is bound")

    assert {name: each["spec"]["nodeName"] for name, each in pods.items()} == {pod: second}


def test_pod_that_preempts_costs_its_own_victims_only(ours: Operator) -> None:
    """Others hold the CPU of both nodes, and take longer to end than an unschedulable pod is left alone."""
    nodes, higher = _nodes(ours), f"higher-{ours.namespace}"
    for name in nodes:
        _guard(
            ours, name, {"cpu": _cpus(ours, name)}, name=f"guard-{name}", grace=int(unschedulable.SECONDS) + 8
        )
    running = until(lambda: set(_phases(ours).values()) == {"Running"}, 60, what="others run")
    assert running
    with priority_class(ours.place, higher):
        asked = {"priorityClassName": higher, "resources": {"requests": {"cpu": "100m"}}}
        ours.apply(replicas=1, gpu={"sharing": "shared"}, template={"spec": asked})
        pod = until(lambda: next(iter(ours.pods()), ""), what="the first pod")

        pods = until(lambda: _bound(ours), 150, what="it is bound")

    assert {name: each["spec"]["nodeName"] for name, each in pods.items()} == {pod: nodes[0]}
    assert _phases(ours) == {f"guard-{nodes[1]}": "Running"}
    left = ours.kubectl("get", "pod", f"guard-{nodes[1]}", "-o", "jsonpath={.metadata.deletionTimestamp}")
    assert not left, "nobody else was asked to end"


def test_pod_takes_memory_that_is_promised_to_a_lower_priority_and_no_more(ours: Operator) -> None:
    """Two pods that a gate of somebody else keeps from being bound hold both GPUs of a node by their promise."""
    node, higher = _nodes(ours)[0], f"higher-{ours.namespace}"
    here = {"nodeSelector": {"kubernetes.io/hostname": node}}
    models = [{"name": "pp-ocr", "engine": "rapidocr", "gpuMemory": "30Gi"}]
    gate = {"schedulingGates": [{"name": "example.com/later"}]}
    ours.apply("letters", replicas=2, models=models, template={"spec": here | gate})

    def held() -> dict[str, bool]:
        """Pod → whether it is promised a GPU."""
        return {name: bool(_gpus(pod)) for name, pod in ours.pods("letters").items()}

    before = until(lambda: held() if sum(held().values()) == 2 else {}, 60, what="both are promised a GPU")
    with priority_class(ours.place, higher):
        ours.apply(replicas=1, models=models, template={"spec": here | {"priorityClassName": higher}})
        until(lambda: _bound(ours), 90, what="it is bound")

    after = until(lambda: held() if len(held()) == 2 else {}, what="another was made")
    assert sorted(after.values()) == [False, True], "it waits at its gate"
    assert len(before.keys() & after.keys()) == 1, "one was replaced"
    wanted = {("PromiseTaken", "invoices"), ("PromiseYielded", "letters")}
    until(lambda: wanted <= _events(ours), what="both are told")


def _events(ours: Operator) -> set[tuple[str, str]]:
    """Reason, and name of the object."""
    found = json.loads(ours.kubectl("get", "events", "-o", "json"))["items"]
    return {(each["reason"], each["involvedObject"]["name"]) for each in found}


def test_spread_over_at_least_so_many_domains_goes_on_when_each_has_a_pod(ours: Operator) -> None:
    """The scheduler sees one domain of a pod that is pinned to its node, and takes the one that lacks for empty."""
    spread = {
        "maxSkew": 1,
        "minDomains": 2,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {names.LABEL_DEPLOYMENT: "invoices"}},
    }
    template = {"spec": {"topologySpreadConstraints": [spread]}}
    ours.apply(replicas=4, gpu={"sharing": "shared"}, template=template)

    until(lambda: len(_bound(ours)) == 4, 90, what="all are bound")
    pods = _bound(ours)

    assert Counter(pod["spec"]["nodeName"] for pod in pods.values()) == dict.fromkeys(_nodes(ours), 2)


def _nodes(ours: Operator) -> list[str]:
    """Two nodes with equal GPUs: the first by name is chosen."""
    names_ = ours.kubectl("get", "nodes", "-o", "name").split()
    return sorted(each.removeprefix("node/") for each in names_)[:2]


def _bound(ours: Operator) -> dict[str, dict[str, Any]]:
    pods = {name: pod for name, pod in ours.pods().items() if not pod["metadata"].get("deletionTimestamp")}
    return pods if pods and all(pod["spec"].get("nodeName") for pod in pods.values()) else {}


def _gpus(pod: dict[str, Any]) -> str:
    found: str = pod["metadata"]["annotations"].get(names.ANNOTATION_GPU_UUIDS, "")
    return found


def _cpus(ours: Operator, node: str) -> str:
    return ours.kubectl("get", "node", node, "-o", "jsonpath={.status.allocatable.cpu}")


def _guard(
    ours: Operator, node: str, requests: dict[str, str] | None = None, *, name: str = "guard", grace: int = 0
) -> None:
    """Somebody else's pod on that node; with a grace it runs, and takes all of it to end."""
    resources = {"requests": requests or {}, "limits": requests or {}}
    container = {"name": "guard", "image": images.SHELL if grace else "guard", "resources": resources}
    container["command"] = ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "guard"}},
        "spec": {"nodeName": node, "containers": [container], "terminationGracePeriodSeconds": grace},
    }
    ours.kubectl("create", "-f", "-", stdin=json.dumps(pod))


def _phases(ours: Operator) -> dict[str, str]:
    """Others' pods."""
    found = ours.place.ask(f"/api/v1/namespaces/{ours.namespace}/pods?labelSelector=app%3Dguard")["items"]
    return {each["metadata"]["name"]: each["status"]["phase"] for each in found}


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


def test_roll_out_makes_the_new_pod_first_where_there_is_room_and_ends_where_there_is_none(
    ours: Operator,
) -> None:
    def release(number: int, replicas: int, **server: Any) -> None:
        template = {
            "spec": {"terminationGracePeriodSeconds": 2},
            "metadata": {"annotations": {"of": str(number)}},
        }
        ours.apply(gpu={"sharing": "exclusive"}, replicas=replicas, template=template, server=server)

    def of(number: int) -> list[dict[str, Any]]:
        pods = ours.pods().values()
        return [each for each in pods if each["metadata"]["annotations"].get("of") == str(number)]

    def ready(pods: list[dict[str, Any]]) -> int:
        conditions = [each for pod in pods for each in pod["status"].get("conditions", ())]
        return sum(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    def strategy() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(ours.kubectl("get", "deployment", "invoices", "-o", "json"))
        rolling: dict[str, Any] = found["spec"]["strategy"]["rollingUpdate"]
        return rolling

    release(1, 1)
    until(lambda: ready(of(1)) == 1, what="one pod of four GPUs")
    release(2, 1)

    def rolled() -> bool:
        assert ready(list(ours.pods().values())) >= 1, "the old pod stays until the new one is ready"
        return ready(of(2)) == 1 and not of(1)

    until(rolled, what="the new pod replaces it")
    assert strategy() == rollouts.NEW_FIRST

    release(3, 1, image="registry.example/none:1")
    until(lambda: any("ImagePull" in json.dumps(each["status"]) for each in of(3)), what="a bad image")
    assert ready(of(2)) == 1, "it costs nobody a pod"
    release(2, 1)
    until(lambda: not of(3) and ready(of(2)) == 1, what="it is taken back")

    release(2, 4)
    until(lambda: ready(of(2)) == 4, what="all GPUs are taken")
    release(3, 4)
    until(lambda: ready(of(3)) == 4 and not of(2), seconds=120, what="the roll-out goes on without room")
    assert strategy() == rollouts.OLD_FIRST
