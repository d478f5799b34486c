"""The main job with real containers: kubelet, containerd, runc and CNI, and the images as they are released.

Needs root and what `devcluster.container.requirements` names; the images are built first, which takes minutes.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest

from devcluster.cluster import Cluster
from devcluster.container import host, requirements
from devcluster.errors import DevclusterError
from devcluster.machine.network import NodeNetwork
from devcluster.progress import Progress
from devcluster.supervisor import helm
from devcluster.tools.toolbox import Toolbox
from ocr_wire import names
from tests.support.paths import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(3600)]

SECONDS = 300.0
"""For each wait: a page on a busy machine of two cores takes half a minute."""
RELEASE, NAMESPACE = "ocr-operator", "ocr-system"
PAGE = ROOT / "examples" / "invoice.png"


class Node:
    """A cluster with one real node and the chart installed."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.network = NodeNetwork(int(cluster.state.network.split(".")[1]))

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        return self.cluster.kubectl(*arguments, stdin=stdin)

    def helm(self, *arguments: str) -> str:
        program = Toolbox(os.environ, Progress(sys.stderr)).helm()
        home = self.cluster.directory / "helm"
        done = subprocess.run(
            [program, *arguments, f"--namespace={NAMESPACE}", f"--kubeconfig={self.cluster.kubeconfig}"],
            env=helm.environment(os.environ, home),
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "--output=json"))

    def pods(self, name: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.get("pods", f"--selector={names.LABEL_DEPLOYMENT}={name}")["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]

    def resource(self, name: str, **spec: Any) -> dict[str, Any]:
        """Apply a resource on the CPU, wait until it is ready, and return it."""
        manifest = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": name},
            "spec": {"models": [{"name": "pages", "engine": "rapidocr"}], "gpu": {"sharing": "none"}, **spec},
        }
        self.kubectl("apply", "--filename=-", stdin=json.dumps(manifest))
        return self.ready(name)

    def ready(self, name: str) -> dict[str, Any]:
        def told() -> dict[str, Any] | None:
            found: dict[str, Any] = self.get(names.RESOURCE, name)
            return found if holds(found, "Ready") and holds(found, "ConfigApplied") else None

        return until(told)

    def ask(self, name: str, path: str, body: bytes | None = None, kind: str = "") -> tuple[int, Any]:
        """Ask a resource's Service, at its cluster IP."""
        service = self.get("service", name)["spec"]
        address = f"http://{service['clusterIP']}:{service['ports'][0]['port']}{path}"
        request = urllib.request.Request(address, body, {"Content-Type": kind} if kind else {})
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")

    def read(self, name: str) -> str:
        """Read a page through the Service."""
        head = 'Content-Disposition: form-data; name="file"; filename="page.png"\r\nContent-Type: image/png'
        body = f"--page\r\n{head}\r\n\r\n".encode() + PAGE.read_bytes() + b"\r\n--page--\r\n"
        status, answer = self.ask(name, "/ocr", body, "multipart/form-data; boundary=page")
        assert status == 200, answer
        return str(answer["text"])

    def timeout(self, name: str) -> float:
        """Return the idle time that counts in a resource's only pod, by its own words."""
        [model] = self.ask(name, "/v1/state")[1]["models"]
        return float(model["idle"]["offload_after_seconds"])

    def taken(self, pod: Mapping[str, Any], seconds: float = 20.0) -> tuple[int, float]:
        """Return the memory of a pod's processes that no file gives back, in bytes, and the cores that they use."""

        def used() -> tuple[int, int]:
            memory = ticks = 0
            for pid in self.processes(pod):
                status = Path(f"/proc/{pid}/status").read_text()
                memory += sum(
                    int(each) for each in re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+)", status, re.MULTILINE)
                )
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
                ticks += int(fields[11]) + int(fields[12])
            return memory * 1024, ticks

        _, before = used()
        time.sleep(seconds)
        memory, after = used()
        return memory, (after - before) / os.sysconf("SC_CLK_TCK") / seconds

    def processes(self, pod: Mapping[str, Any]) -> list[int]:
        """Return the processes of a pod's only container by this machine's numbers, first its first."""
        [container] = pod["status"]["containerStatuses"]
        name = container["containerID"].split("//")[1]
        groups = [found for top in host.groups(self.network.cgroup) for found in top.rglob(name)]
        return sorted({int(pid) for group in groups for pid in (group / "cgroup.procs").read_text().split()})


def holds(found: Mapping[str, Any], condition: str) -> bool:
    """Whether the status is about the newest spec and has the condition."""
    status = found.get("status") or {}
    return status.get("observedGeneration") == found["metadata"]["generation"] and any(
        each["type"] == condition and each["status"] == "True" for each in status.get("conditions", ())
    )


T = TypeVar("T")


def until(probe: Callable[[], T | None]) -> T:
    """Ask until there is an answer."""
    deadline = time.monotonic() + SECONDS
    while True:
        if found := probe():
            return found
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)


def identity(pod: Mapping[str, Any]) -> tuple[str, int]:
    """A pod's UID, and how often its container was started again."""
    [container] = pod["status"]["containerStatuses"]
    return pod["metadata"]["uid"], container["restartCount"]


@pytest.fixture(scope="module")
def node(archives: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    directory = tmp_path_factory.mktemp("node") / "cluster"
    with Cluster.start(directory, nodes=1, gpus=0, containers=True, images=archives) as cluster:
        node = Node(cluster)
        began = time.monotonic()
        node.helm("install", RELEASE, str(ROOT / "charts" / RELEASE), "--create-namespace", "--wait")
        print(f"helm install --wait: {time.monotonic() - began:.1f} s")
        yield node


@pytest.fixture(scope="module", autouse=True)
def _able() -> None:
    if (why := requirements.missing()) is not None:
        pytest.skip(why)


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


def test_helm_test_passes_and_leaves_nothing(node: Node) -> None:
    assert "Phase:          Succeeded" in node.helm("test", RELEASE)
    assert node.get(names.RESOURCE)["items"] == []
    kinds = "pods,roles,rolebindings,serviceaccounts"
    left = node.kubectl("get", kinds, f"--namespace={NAMESPACE}", "--output=name")
    assert "selftest" not in left


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


def test_killed_container_comes_back_with_the_settings_that_counted(node: Node) -> None:
    node.resource("pages", idle={"offloadAfterSeconds": 78})
    [pod] = node.pods("pages")
    uid, restarts = identity(pod)
    os.kill(node.processes(pod)[0], signal.SIGKILL)

    def again() -> bool:
        [pod] = node.pods("pages")
        [container] = pod["status"]["containerStatuses"]
        return identity(pod) == (uid, restarts + 1) and bool(container["ready"])

    until(again)
    assert "Harbour Paper" in node.read("pages")
    assert node.timeout("pages") == 78


def test_drained_pod_comes_back_when_the_node_does(node: Node) -> None:
    node.resource("pages")
    [pod] = node.pods("pages")
    [name] = [each["metadata"]["name"] for each in node.get("nodes")["items"]]
    node.kubectl("cordon", name)
    try:
        node.kubectl("delete", "pod", pod["metadata"]["name"])
        until(lambda: not holds(node.get(names.RESOURCE, "pages"), "Ready") or None)
    finally:
        node.kubectl("uncordon", name)
    node.ready("pages")
    [new] = node.pods("pages")
    assert new["metadata"]["uid"] != pod["metadata"]["uid"]
    assert "Harbour Paper" in node.read("pages")


def test_upgrade_and_rollback_leave_inference_pods_alone(node: Node) -> None:
    node.resource("pages")
    before = [identity(pod) for pod in node.pods("pages")]
    chart = str(ROOT / "charts" / RELEASE)
    node.helm("upgrade", RELEASE, chart, "--reuse-values", "--set=logLevel=debug", "--wait")
    node.ready("pages")
    assert [identity(pod) for pod in node.pods("pages")] == before
    node.helm("rollback", RELEASE, "--wait")
    node.ready("pages")
    assert [identity(pod) for pod in node.pods("pages")] == before


def test_uninstall_leaves_pods_that_serve_and_a_new_installation_takes_them_over(node: Node) -> None:
    node.resource("pages")
    before = [identity(pod) for pod in node.pods("pages")]
    node.helm("uninstall", RELEASE, "--wait")
    assert "Harbour Paper" in node.read("pages")
    node.helm("install", RELEASE, str(ROOT / "charts" / RELEASE), "--wait")
    node.resource("pages", idle={"offloadAfterSeconds": 81})
    assert [identity(pod) for pod in node.pods("pages")] == before
    node.kubectl("delete", names.RESOURCE, "pages", "--wait")
    until(lambda: not node.pods("pages") or None)


def test_node_gives_back_what_it_took(archives: list[Path], tmp_path: Path) -> None:
    with Cluster.start(tmp_path / "cluster", nodes=1, gpus=0, containers=True) as cluster:
        network = Node(cluster).network
        assert network.folder.is_dir()
    assert not network.folder.exists()
    assert not list(host.mounts(network.folder))
    assert not list(host.groups(network.cgroup))
    links = subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True).stdout
    assert network.bridge not in links.split()


def test_one_machine_is_one_node(tmp_path: Path) -> None:
    with pytest.raises(DevclusterError, match="one node"):
        Cluster.start(tmp_path / "cluster", nodes=2, gpus=0, containers=True)
