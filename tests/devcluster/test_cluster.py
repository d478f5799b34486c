"""devcluster itself: real processes, started, killed and ended."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest

from devcluster.cluster import Cluster, down, running
from devcluster.errors import DevclusterError, StartFailed
from devcluster.machine import processes
from devcluster.machine.layout import CHECKOUT, Identity, Layout, State
from devcluster.progress import Progress
from devcluster.tools.toolbox import Toolbox
from tests.support import cluster as support
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster]


def devcluster(*arguments: str, directory: Path, environ: Mapping[str, str] = {}) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "devcluster", *arguments, "--dir", str(directory)],
        cwd=CHECKOUT,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # A shell that runs the tests in its background has them ignore Ctrl-C, and programs inherit that.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )


def record(directory: Path) -> State:
    state = State.load(Layout(directory))
    assert state is not None
    return state


def program(file: Path, script: str) -> None:
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def members(state: State) -> list[Identity]:
    return [state.supervisor, *(process.identity for process in state.processes)]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    if (reason := support.unavailable()) is not None:
        pytest.skip(f"{support.NO_CONTROL_PLANE}{reason}")
    yield tmp_path / "cluster"
    down(tmp_path / "cluster")


def test_nodes_are_ready_and_have_gpus(cluster: Cluster) -> None:
    nodes = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    assert [node["metadata"]["name"] for node in nodes] == ["gpu-a", "gpu-b"]
    assert {node["status"]["allocatable"]["nvidia.com/gpu"] for node in nodes} == {"2"}


def test_a_pod_runs_where_the_scheduler_put_it_and_its_log_can_be_read(cluster: Cluster) -> None:
    pods = json.loads(cluster.kubectl("get", "pods", "-n", "gpu-operator", "-o", "json"))["items"]
    assert {pod["spec"]["nodeName"] for pod in pods} == {"gpu-a", "gpu-b"}
    for pod in pods:
        address = pod["status"]["podIP"]
        assert address.startswith(".".join(cluster.state.network.split(".")[:2]) + ".")
        # The API server fetches it from the node: an unreachable node would be an error.
        cluster.kubectl("logs", "-n", "gpu-operator", pod["metadata"]["name"])


def test_memory_taken_on_a_gpu_shows_in_the_nodes_metrics(cluster: Cluster) -> None:
    taken = cluster.occupy("gpu-a", 3 * 2**30)
    try:
        assert len({entry.parent.name for entry in taken}) == 2
        pods = json.loads(cluster.kubectl("get", "pods", "-n", "gpu-operator", "-o", "json"))["items"]
        address = next(pod["status"]["podIP"] for pod in pods if pod["spec"]["nodeName"] == "gpu-a")
        metrics = subprocess.run(
            [
                sys.executable,
                "-c",
                f"import urllib.request as r; print(r.urlopen('http://{address}:9400/metrics').read().decode())",
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        used = [line.split()[-1] for line in metrics.splitlines() if line.startswith("DCGM_FI_DEV_FB_USED{")]
        assert [float(value) for value in used] == [3072.0, 3072.0]
    finally:
        for entry in taken:
            entry.unlink()


def test_a_node_may_not_touch_another_node(cluster: Cluster) -> None:
    as_node = f"--kubeconfig={cluster.node_kubeconfig('gpu-a')}"
    with pytest.raises(DevclusterError, match="only its own Node object"):
        cluster.kubectl("label", "node", "gpu-b", "taken=true", as_node)


def test_two_clusters_live_side_by_side(control_plane: Cluster, cluster: Cluster) -> None:
    assert control_plane.state.network != cluster.state.network
    assert control_plane.kubectl("get", "nodes", "-o", "name") == ""


def test_up_returns_and_leaves_a_cluster_that_down_ends(directory: Path) -> None:
    """Also after one of its nodes has died, which the record says."""
    up = devcluster("up", "--nodes", "1", "--no-operator", directory=directory)
    output, _ = up.communicate(timeout=100)
    assert up.returncode == 0, output
    state = record(directory)
    assert all(processes.runs(member) for member in members(state))
    again = devcluster("up", "--nodes", "1", "--no-operator", directory=directory)
    assert "already" in again.communicate(timeout=100)[0]
    assert members(record(directory)) == members(state)
    node = next(process for process in state.processes if process.name == "gpu-a")
    processes.send(node.identity, signal.SIGKILL)
    until(lambda: any(each.name == "gpu-a" and each.exit_code == -9 for each in record(directory).processes))
    ended = devcluster("down", directory=directory)
    assert "Ended" in ended.communicate(timeout=100)[0]
    assert not any(processes.runs(member) for member in members(state))
    assert processes.marked([f"DEVCLUSTER_ID={state.id}"]) == []
    assert not directory.exists()


def test_a_killed_supervisor_takes_all_with_it_and_the_next_up_starts_afresh(directory: Path) -> None:
    """Processes that have lost their parents end with it, too: they bear the cluster's mark."""
    first = Cluster.up(directory, nodes=1, operator=False)
    orphan = subprocess.Popen(["sleep", "600"], env={**os.environ, "DEVCLUSTER_ID": first.state.id})
    processes.send(first.state.supervisor, signal.SIGKILL)
    until(lambda: not any(processes.runs(member) for member in members(first.state)))
    assert running(directory) is None
    second = Cluster.up(directory, nodes=0, operator=False)
    assert orphan.wait(timeout=10) < 0
    assert second.state.id != first.state.id
    assert second.kubectl("get", "nodes", "-o", "name") == ""


@pytest.mark.parametrize("interruption", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_up_leaves_no_process(directory: Path, interruption: signal.Signals) -> None:
    # With an API server that never answers, `up` is still waiting when it is interrupted, however late that is.
    assets = directory.parent / "assets"
    assets.mkdir()
    (assets / "etcd").symlink_to(Toolbox(os.environ, Progress(sys.stderr)).control_plane().etcd)
    for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler"):
        program(assets / name, "exec sleep 3600")
    environ = {"KUBEBUILDER_ASSETS": str(assets)}
    up = devcluster("up", "--nodes", "1", "--no-operator", directory=directory, environ=environ)
    until(lambda: State.load(Layout(directory)) is not None and len(record(directory).processes) >= 2)
    state = record(directory)
    up.send_signal(interruption)
    up.communicate(timeout=60)
    until(lambda: not any(processes.runs(member) for member in members(state)))
    until(lambda: processes.marked([f"DEVCLUSTER_ID={state.id}"]) == [])


def test_a_part_that_ends_at_start_is_named_with_its_last_words(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = directory.parent / "assets"
    broken.mkdir()
    for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"):
        program(broken / name, "echo the disk is full >&2\nexit 3")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(broken))
    with pytest.raises(StartFailed, match=r"etcd ended with 3.*\n.*the disk is full"):
        Cluster.start(directory)
    assert State.load(Layout(directory)) is None


def test_a_folder_with_other_things_in_it_is_refused(directory: Path) -> None:
    directory.mkdir()
    (directory / "thesis.txt").write_text("years of work")
    with pytest.raises(StartFailed, match="isn't a devcluster folder"):
        Cluster.start(directory)
    assert not down(directory)
    assert (directory / "thesis.txt").read_text() == "years of work"


def test_the_operator_runs_as_the_chart_says_and_never_as_administrator(operator_cluster: Cluster) -> None:
    in_system = ("-n", "ocr-system")
    operator_cluster.kubectl("rollout", "status", "deployment/ocr-operator", *in_system, "--timeout=60s")
    pods = json.loads(operator_cluster.kubectl("get", "pods", *in_system, "-o", "json"))["items"]
    assert {pod["spec"]["serviceAccountName"] for pod in pods} == {"ocr-operator"}
    assert [pod["status"]["containerStatuses"][0]["ready"] for pod in pods] == [True] * 2
    account = "--as=system:serviceaccount:ocr-system:ocr-operator"
    assert (
        operator_cluster.kubectl("auth", "can-i", "list", "ocrdeployments.ocr-operator.io", "-A", account)
        == "yes\n"
    )
    for verb, resource in (("delete", "nodes"), ("create", "clusterrolebindings"), ("*", "*")):
        with pytest.raises(DevclusterError):  # kubectl's way to say no
            operator_cluster.kubectl("auth", "can-i", verb, resource, account)
