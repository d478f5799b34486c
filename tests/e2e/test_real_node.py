"""The main job with real containers: kubelet, containerd, runc and CNI, and the images as they are released.

Needs root and what `devcluster.container.requirements` names; the images are built first, which takes minutes.
`make test-node` and CI run those marked `node`; the others measure.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from devcluster.cluster import Cluster
from devcluster.container import host, traces
from devcluster.errors import DevclusterError
from ocr_wire import live_settings, names
from tests.support.realnode import CHART, NAMESPACE, PAGE, RELEASE, Node, holds, identity, until

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def node(archives: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    directory = tmp_path_factory.mktemp("node") / "cluster"
    before = time.monotonic()
    with Cluster.start(directory, nodes=1, gpus=0, containers=True, images=archives) as cluster:
        node = Node(cluster)
        began = time.monotonic()
        print(f"cluster, images in it: {time.monotonic() - before:.1f} s")
        node.helm("install", RELEASE, CHART, "--create-namespace", "--wait")
        print(f"helm install --wait: {time.monotonic() - began:.1f} s")
        yield node


@pytest.mark.node
def test_operator_runs_in_containers_that_may_do_nothing(node: Node) -> None:
    pods = node.get("pods", f"--namespace={NAMESPACE}")["items"]
    assert len(pods) == 2
    for pod in pods:
        [container] = pod["status"]["containerStatuses"]
        assert container["ready"]
        assert container["containerID"].startswith("containerd://")
        pids = node.processes(pod)
        assert pids
        for pid in pids:
            status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
            assert set(status["Uid"].split()) == {"65532"}
            assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
            assert status["NoNewPrivs"].strip() == "1"
            assert status["Seccomp"].strip() == "2"
            assert " / ro," in Path(f"/proc/{pid}/mountinfo").read_text().split("\n")[0]


def test_operator_takes_no_more_than_the_chart_asks_for(node: Node) -> None:
    [deployment] = node.get("deployments", f"--namespace={NAMESPACE}")["items"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["requests"] == {"cpu": "50m", "memory": "128Mi"}
    for pod in node.get("pods", f"--namespace={NAMESPACE}")["items"]:
        memory, cpu = node.taken(pod)
        print(f"operator: {memory / 2**20:.0f} MiB, {cpu * 1000:.0f}m")
        assert memory < 128 * 2**20
        assert cpu < 0.05


@pytest.mark.node
def test_helm_test_passes_and_leaves_nothing(node: Node) -> None:
    assert "Phase:          Succeeded" in node.helm("test", RELEASE)
    assert node.get(names.RESOURCE)["items"] == []
    kinds = "pods,roles,rolebindings,serviceaccounts"

    def all_gone() -> bool:
        return "selftest" not in node.kubectl("get", kinds, f"--namespace={NAMESPACE}", "--output=name")

    until(all_gone)  # pods of a resource that is gone end by and by


@pytest.mark.node
def test_timeout_counts_in_the_same_container(node: Node) -> None:
    began = time.monotonic()
    node.resource("pages")
    assert "Harbour Paper" in node.read("pages")
    print(f"resource → first page read: {time.monotonic() - began:.1f} s")
    [pod] = node.pods("pages")
    before = identity(pod), node.processes(pod)[0]
    began = time.monotonic()
    node.kubectl("patch", names.RESOURCE, "pages", "--type=merge", f"--patch={idle(77)}")
    node.ready("pages")
    print(f"patch → ConfigApplied: {time.monotonic() - began:.1f} s")
    assert node.timeout("pages") == 77
    [pod] = node.pods("pages")
    assert (identity(pod), node.processes(pod)[0]) == before


def test_idle_pod_whose_model_has_left_takes_little(node: Node) -> None:
    node.resource("pages")
    assert "Harbour Paper" in node.read("pages")
    print("with the model: {:.0f} MiB, {:.3f} cores".format(*mebibytes(node.taken(node.pods("pages")[0]))))
    leave = {"offloadAfterSeconds": 0, "exitAfterSeconds": 1, "releaseAfterSeconds": 2}
    node.resource("pages", idle=leave)
    until(lambda: node.ask("pages", "/v1/state")[1]["models"][0]["location"] == "unloaded" or None)
    until(lambda: len(node.processes(node.pods("pages")[0])) <= 2 or None)
    memory, cores = mebibytes(node.taken(node.pods("pages")[0]))
    print(f"idle, the model left: {memory:.0f} MiB, {cores:.3f} cores")
    assert memory < 300
    assert cores < 0.05


def mebibytes(taken: tuple[int, float]) -> tuple[float, float]:
    return taken[0] / 2**20, taken[1]


def idle(seconds: int) -> str:
    return json.dumps({"spec": {"idle": {"offloadAfterSeconds": seconds}}})


@pytest.mark.node
def test_killed_container_comes_back_with_the_settings_that_counted(node: Node) -> None:
    node.resource("pages", idle={"offloadAfterSeconds": 78})
    [pod] = node.pods("pages")
    uid, restarts = identity(pod)
    os.kill(node.processes(pod)[0], signal.SIGKILL)

    until(lambda: started_again(node, uid, restarts + 1))
    assert "Harbour Paper" in node.read("pages")
    assert node.timeout("pages") == 78


@pytest.mark.node
def test_settings_that_arrive_while_no_operator_runs_count_when_the_container_starts(node: Node) -> None:
    """An operator that goes between its two writes leaves the annotation alone; its volume is what a start reads."""
    node.resource("pages", idle={"offloadAfterSeconds": 79})
    [pod] = node.pods("pages")
    uid, restarts = identity(pod)
    operator = ("deployment", RELEASE, f"--namespace={NAMESPACE}")
    node.kubectl("scale", *operator, "--replicas=0")
    try:
        until(lambda: not node.get("pods", f"--namespace={NAMESPACE}")["items"] or None)
        stamped = live_settings.read(pod["metadata"]["annotations"][names.ANNOTATION_LIVE_SETTINGS])
        assert isinstance(stamped, live_settings.Envelope)
        values = json.loads(json.dumps(stamped.values).replace(": 79", ": 80"))
        newer = live_settings.envelope(stamped.generation, stamped.revision + 1, values).to_json()
        annotations = {"metadata": {"annotations": {names.ANNOTATION_LIVE_SETTINGS: newer}}}
        began = time.monotonic()
        node.kubectl(
            "patch", "pod", pod["metadata"]["name"], "--type=merge", f"--patch={json.dumps(annotations)}"
        )
        file = Path(f"/proc/{node.processes(pod)[0]}/root/etc/ocr-inference/live-settings")
        until(lambda: file.read_text() == newer or None)
        print(f"annotation → file in the container: {time.monotonic() - began:.1f} s")
        os.kill(node.processes(pod)[0], signal.SIGKILL)
        until(lambda: started_again(node, uid, restarts + 1))
        assert node.timeout("pages") == 80
        assert "Harbour Paper" in node.read("pages")
    finally:
        node.kubectl("scale", *operator, "--replicas=2")
    node.kubectl("rollout", "status", *operator, "--timeout=300s")
    node.resource("pages", idle={"offloadAfterSeconds": 82})
    assert node.timeout("pages") == 82
    assert [identity(pod) for pod in node.pods("pages")] == [(uid, restarts + 1)]


def started_again(node: Node, uid: str, restarts: int) -> bool:
    [pod] = node.pods("pages")
    [container] = pod["status"]["containerStatuses"]
    return identity(pod) == (uid, restarts) and bool(container["ready"])


@pytest.mark.node
def test_page_too_large_for_the_container_is_refused_before_the_kernel_ends_anything(
    node: Node, tmp_path: Path
) -> None:
    node.resource("pages", idle={"offloadAfterSeconds": 83})
    assert "Harbour Paper" in node.read("pages")
    [pod] = node.pods("pages")
    before = identity(pod), node.processes(pod), node.killed(pod)
    big = tmp_path / "big.png"
    Image.new("RGB", (7000, 7000), "white").save(big)
    with node.little_memory(pod, 16 * 2**20):
        status, answer = node.post("pages", big)
    assert (status, answer["type"]) == (507, "insufficient_memory_error")
    [pod] = node.pods("pages")
    assert (identity(pod), node.processes(pod), node.killed(pod)) == before


@pytest.mark.node
def test_worker_that_the_kernel_ends_for_its_memory_costs_a_page_and_no_pod(node: Node) -> None:
    """With cgroups of version 1 the kernel ends the worker alone, with version 2 the whole container."""
    leave = {"offloadAfterSeconds": 0, "exitAfterSeconds": 1, "releaseAfterSeconds": 2}
    node.resource("pages", idle=leave)
    until(lambda: node.ask("pages", "/v1/state")[1]["models"][0]["location"] == "unloaded" or None)
    until(lambda: len(node.processes(node.pods("pages")[0])) <= 2 or None)
    [pod] = node.pods("pages")
    uid, restarts = identity(pod)
    killed = node.killed(pod)

    with node.little_memory(pod, 48 * 2**20):
        status, answer = node.post("pages", PAGE)
        print(f"a page while its worker can't have memory: {status} {answer}")
        assert status == 0 or status >= 500, answer
        together = (host.CGROUPS / "cgroup.controllers").is_file()
        assert together or node.killed(pod) > killed

    node.ready("pages")
    assert "Harbour Paper" in until(lambda: node.post("pages", PAGE)[1].get("text"))
    [pod] = node.pods("pages")
    assert identity(pod) == (uid, restarts + together)


@pytest.mark.node
def test_drained_pod_comes_back_when_the_node_does(node: Node) -> None:
    node.resource("pages")
    [pod] = node.pods("pages")
    [name] = [each["metadata"]["name"] for each in node.get("nodes")["items"]]
    try:
        # Only what the node's user can lose: the operator's budget lets none of its two pods go from the only node.
        only = f"--pod-selector={names.LABEL_DEPLOYMENT}=pages"
        node.kubectl("drain", name, only, "--delete-emptydir-data", "--timeout=120s")
        until(lambda: not holds(node.get(names.RESOURCE, "pages"), "Ready") or None)
    finally:
        node.kubectl("uncordon", name)
    node.ready("pages")
    [new] = node.pods("pages")
    assert new["metadata"]["uid"] != pod["metadata"]["uid"]
    assert "Harbour Paper" in node.read("pages")


@pytest.mark.node
def test_upgrade_and_rollback_leave_inference_pods_alone(node: Node) -> None:
    node.resource("pages")
    before = [identity(pod) for pod in node.pods("pages")]
    node.helm("upgrade", RELEASE, CHART, "--reuse-values", "--set=logLevel=debug", "--wait")
    node.ready("pages")
    assert [identity(pod) for pod in node.pods("pages")] == before
    node.helm("rollback", RELEASE, "--wait")
    node.ready("pages")
    assert [identity(pod) for pod in node.pods("pages")] == before


@pytest.mark.node
def test_uninstall_leaves_pods_that_serve_and_a_new_installation_takes_them_over(node: Node) -> None:
    node.resource("pages")
    before = [identity(pod) for pod in node.pods("pages")]
    node.helm("uninstall", RELEASE, "--wait")
    assert "Harbour Paper" in node.read("pages")
    node.helm("install", RELEASE, CHART, "--wait")
    node.resource("pages", idle={"offloadAfterSeconds": 81})
    assert [identity(pod) for pod in node.pods("pages")] == before
    node.kubectl("delete", names.RESOURCE, "pages", "--wait")
    until(lambda: not node.pods("pages") or None)


@pytest.mark.node
def test_node_gives_back_what_it_took(archives: list[Path], tmp_path: Path) -> None:
    rules = firewall()
    with Cluster.start(tmp_path / "cluster", nodes=1, gpus=0, containers=True) as cluster:
        network = Node(cluster).network
        assert network.folder.is_dir()
        assert firewall() == rules
    assert not network.folder.exists()
    assert not list(host.mounts(network.folder))
    assert not list(host.groups(network.cgroup))
    links = subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True).stdout
    assert network.bridge not in links.split()
    assert traces.files(network) == []
    assert firewall() == rules


def firewall() -> list[str]:
    """Return the rules and chains of this machine."""
    program = shutil.which("iptables")
    return [
        subprocess.run([program, "-t", table, "-S"], capture_output=True, text=True, check=True).stdout
        for table in ("filter", "nat", "mangle")
        if program is not None
    ]


def test_one_machine_is_one_node(tmp_path: Path) -> None:
    with pytest.raises(DevclusterError, match="one node"):
        Cluster.start(tmp_path / "cluster", nodes=2, gpus=0, containers=True)
