"""A process node against a real API server: what a pod may expect of it."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from devcluster.cluster import Cluster
from devcluster.errors import DevclusterError
from devcluster.machine import processes
from devcluster.machine.layout import CHECKOUT, NODE_MARK
from devcluster.progress import Progress
from devcluster.tools.toolbox import Toolbox
from tests.support import cluster as support
from tests.support.apiserver import Refused
from tests.support.waiting import until

pytestmark = pytest.mark.cluster

SHELL = "localhost/devcluster/shell:1"


def find(cluster: Cluster, path: str) -> dict | None:
    """An object; None when there is none."""
    try:
        found: dict = support.of(cluster).ask(path)
    except Refused as error:
        if error.status == 404:
            return None
        raise
    return found


class NodeProcess:
    """A node that a test may kill."""

    def __init__(self, cluster: Cluster, name: str, position: int, root: Path) -> None:
        self.cluster, self.name, self.root = cluster, name, root
        self._prefix = cluster.address_prefix(position)
        self._boot = ""

    def start(self) -> None:
        arguments = {
            "kubeconfig": self.cluster.node_kubeconfig(self.name),
            "name": self.name,
            "ip-prefix": self._prefix,
            "root": self.root,
            "gpus": 2,
            "stop-seconds": 2,
        }
        with self.root.with_suffix(".log").open("ab") as log:
            self.popen = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "devcluster.node",
                    *(f"--{key}={value}" for key, value in arguments.items()),
                ],
                cwd=CHECKOUT,
                stdout=log,
                stderr=log,
            )
        before = self._boot
        until(lambda: self.ready() == "True" and self._boot != before)

    def ready(self) -> str | None:
        """The status of the Node's Ready condition; None while there is no Node."""
        found = find(self.cluster, f"/api/v1/nodes/{self.name}")
        if found is None:
            return None
        status = found["status"]
        self._boot = status["nodeInfo"]["bootID"]
        conditions = {condition["type"]: condition["status"] for condition in status.get("conditions", [])}
        return conditions.get("Ready")

    def end(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)
        self.popen.wait(20)

    def processes(self) -> list[int]:
        """What runs in the name of this node."""
        return [each.pid for each in processes.marked([f"{NODE_MARK}={self.root}"])]


def started(cluster: Cluster, name: str, position: int, root: Path) -> Iterator[NodeProcess]:
    node = NodeProcess(cluster, name, position, root)
    try:
        node.start()
        yield node
    finally:
        if node.popen.poll() is None:
            cluster.kubectl("delete", "pods", "--grace-period=1", f"--field-selector=spec.nodeName={name}")
            node.end(signal.SIGTERM)
        cluster.kubectl("delete", "node", name)


@pytest.fixture(scope="module")
def node(control_plane: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    yield from started(control_plane, "gpu-y", 25, tmp_path_factory.mktemp("node") / "gpu-y")


@pytest.fixture
def mortal(control_plane: Cluster, tmp_path: Path) -> Iterator[NodeProcess]:
    """A node of a test's own."""
    yield from started(control_plane, "gpu-z", 26, tmp_path / "gpu-z")


class Pods:
    """Makes pods on one node and reads them."""

    def __init__(self, node: NodeProcess) -> None:
        self._node, self._cluster = node, node.cluster

    def create(
        self,
        name: str,
        script: str,
        *,
        annotations: dict | None = None,
        spec: dict | None = None,
        **container: object,
    ) -> None:
        main = {"name": "main", "image": SHELL, "command": ["sh", "-c", script], **container}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "annotations": annotations or {}},
            "spec": {
                "nodeName": self._node.name,
                "terminationGracePeriodSeconds": 2,
                "containers": [main],
                **(spec or {}),
            },
        }
        self._cluster.kubectl("create", "-f", "-", stdin=json.dumps(pod))

    def get(self, name: str) -> dict:
        found: dict = support.of(self._cluster).ask(f"/api/v1/namespaces/default/pods/{name}")
        return found

    def container(self, name: str) -> dict:
        """The status of the main container; empty before there is one."""
        statuses = self.get(name)["status"].get("containerStatuses", [{}])
        found: dict = statuses[0]
        return found

    def waits_for(self, name: str, reason: str) -> dict:
        """The container's status once it waits for `reason`."""
        return until(
            lambda: (
                found
                if (found := self.container(name)).get("state", {}).get("waiting", {}).get("reason") == reason
                else None
            )
        )

    def ready(self, name: str) -> dict:
        return until(lambda: found if (found := self.container(name)).get("ready") else None)

    def logs(self, name: str, *options: str) -> str:
        return self._cluster.kubectl("logs", name, *options)

    def phase(self, name: str, *wanted: str) -> dict:
        return until(lambda: found if (found := self.get(name))["status"]["phase"] in wanted else None)

    def events(self, name: str) -> set[str]:
        path = f"/api/v1/namespaces/default/events?fieldSelector=involvedObject.name={name}"
        return {event["reason"] for event in support.of(self._cluster).ask(path)["items"]}


@pytest.fixture
def pods(node: NodeProcess) -> Pods:
    return Pods(node)


def test_node_announces_its_gpus(node: NodeProcess) -> None:
    found = json.loads(node.cluster.kubectl("get", "node", node.name, "-o", "json"))
    assert found["status"]["capacity"]["nvidia.com/gpu"] == "2"
    labels = found["metadata"]["labels"]
    assert {key: value for key, value in labels.items() if key.startswith("nvidia.com/")} == {
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.product": "NVIDIA-L40S",
        "nvidia.com/gpu.count": "2",
        "nvidia.com/gpu.memory": "46068",
    }


ENVIRONMENT = """
set -e
echo "pod=$POD_NAME ip=$POD_IP host=$OCR_HOST node=$NODE_NAME"
echo "secret=$SECRET map=$MAP_colour gpus=$GPUS device=$OCR_DEVICE"
echo "file=$(cat /etc/app/config) secret-file=$(cat /etc/secret/deep/key)"
echo kept > /tmp/x; cat /tmp/x
test "$TMPDIR" = /tmp
exec sleep 600
"""


def test_pod_gets_what_it_refers_to(node: NodeProcess, pods: Pods) -> None:
    node.cluster.kubectl("create", "secret", "generic", "words", "--from-literal=key=hush")
    node.cluster.kubectl("create", "configmap", "colours", "--from-literal=colour=green")

    def field(name: str, path: str) -> dict:
        return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}

    pods.create(
        "refers",
        ENVIRONMENT,
        annotations={"example.com/config": "a: 1"},
        env=[
            field("POD_NAME", "metadata.name"),
            field("POD_IP", "status.podIP"),
            field("NODE_NAME", "spec.nodeName"),
            {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "words", "key": "key"}}},
            {"name": "GPUS", "value": "[$(NVIDIA_VISIBLE_DEVICES)]"},
        ],
        envFrom=[{"prefix": "MAP_", "configMapRef": {"name": "colours"}}],
        volumeMounts=[
            {"name": "podinfo", "mountPath": "/etc/app"},
            {"name": "words", "mountPath": "/etc/secret"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
        spec={
            "volumes": [
                {
                    "name": "podinfo",
                    "downwardAPI": {
                        "items": [
                            {
                                "path": "config",
                                "fieldRef": {"fieldPath": "metadata.annotations['example.com/config']"},
                            }
                        ]
                    },
                },
                {
                    "name": "words",
                    "secret": {"secretName": "words", "items": [{"key": "key", "path": "deep/key"}]},
                },
                {"name": "tmp", "emptyDir": {}},
            ]
        },
    )
    pods.ready("refers")
    ip = pods.get("refers")["status"]["podIP"]
    lines = until(lambda: lines if len(lines := pods.logs("refers").splitlines()) >= 4 else None)
    assert lines == [
        f"pod=refers ip={ip} host={ip} node={node.name}",
        "secret=hush map=green gpus=[$(NVIDIA_VISIBLE_DEVICES)] device=cpu",
        "file=a: 1 secret-file=hush",
        "kept",
    ]


WHO_AM_I = """
import json, os, ssl, urllib.request, yaml
config = yaml.safe_load(open(os.environ["KUBECONFIG"]))
cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
request = urllib.request.Request(
    cluster["server"] + "/apis/authentication.k8s.io/v1/selfsubjectreviews",
    json.dumps(review).encode(),
    {"Authorization": "Bearer " + open(user["tokenFile"]).read(), "Content-Type": "application/json"},
)
trust = ssl.create_default_context(cafile=cluster["certificate-authority"])
print(json.load(urllib.request.urlopen(request, context=trust))["status"]["userInfo"]["username"])
"""


def test_service_account_reaches_the_api_server_by_kubeconfig(pods: Pods) -> None:
    pods.create("account", "", command=["python", "-c", WHO_AM_I], spec={"restartPolicy": "Never"})
    pods.phase("account", "Succeeded", "Failed")
    assert pods.logs("account") == "system:serviceaccount:default:default\n"


def test_patched_annotation_reaches_its_volume_within_a_second(node: NodeProcess, pods: Pods) -> None:
    item = {"path": "live", "fieldRef": {"fieldPath": "metadata.annotations['live']"}}
    pods.create(
        "live",
        "cat /podinfo/live; exec sleep 600",
        annotations={"live": "one"},
        volumeMounts=[{"name": "podinfo", "mountPath": "/podinfo"}],
        spec={"volumes": [{"name": "podinfo", "downwardAPI": {"items": [item]}}]},
    )
    pods.ready("live")
    file = node.root / "pods" / pods.get("live")["metadata"]["uid"] / "volumes" / "podinfo" / "live"
    assert file.read_text() == "one"
    node.cluster.kubectl("annotate", "--overwrite", "pod/live", "live=two")
    until(lambda: file.read_text() == "two", seconds=1)
    assert pods.container("live")["restartCount"] == 0


def test_changed_secret_reaches_its_volume(node: NodeProcess, pods: Pods) -> None:
    node.cluster.kubectl("create", "secret", "generic", "turning", "--from-literal=key=old")
    pods.create(
        "turning",
        "exec sleep 600",
        volumeMounts=[{"name": "s", "mountPath": "/s"}],
        spec={"volumes": [{"name": "s", "secret": {"secretName": "turning"}}]},
    )
    pods.ready("turning")
    file = node.root / "pods" / pods.get("turning")["metadata"]["uid"] / "volumes" / "s" / "key"
    node.cluster.kubectl("patch", "secret", "turning", "-p", '{"stringData": {"key": "new"}}')
    until(lambda: file.read_text() == "new", seconds=8)


def test_pod_waits_for_a_secret_that_comes_later(node: NodeProcess, pods: Pods) -> None:
    source = {"secretKeyRef": {"name": "late", "key": "key"}}
    pods.create("late", "echo $KEY; exec sleep 600", env=[{"name": "KEY", "valueFrom": source}])
    waiting = pods.waits_for("late", "CreateContainerConfigError")["state"]["waiting"]
    assert waiting["message"] == 'secret "late" not found'
    node.cluster.kubectl("create", "secret", "generic", "late", "--from-literal=key=here")
    pods.ready("late")
    until(lambda: pods.logs("late") == "here\n")


def test_failed_liveness_restarts_the_container(pods: Pods) -> None:
    pods.create(
        "sickly",
        'if [ -e sick ]; then rm sick; else touch sick; fi; trap "exit 7" TERM; while true; do sleep 0.1; done',
        livenessProbe={
            "exec": {"command": ["sh", "-c", "test ! -e sick"]},
            "periodSeconds": 1,
            "failureThreshold": 2,
        },
    )
    status = until(lambda: found if (found := pods.container("sickly")).get("restartCount") == 1 else None)
    assert status["lastState"]["terminated"]["exitCode"] == 7
    assert {"Started", "Unhealthy", "Killing"} <= until(
        lambda: found if "Killing" in (found := pods.events("sickly")) else None
    )


def test_readiness_follows_the_probe_at_the_pods_address(pods: Pods) -> None:
    pods.create(
        "web",
        "while [ ! -e go ]; do sleep 0.05; done; exec python -m http.server 8001 --bind $OCR_HOST",
        ports=[{"name": "http", "containerPort": 8001}],
        readinessProbe={"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 600},
        lifecycle={"preStop": {"sleep": {"seconds": 0}}},
        env=[{"name": "GO", "value": "1"}],
    )
    until(lambda: "running" in pods.container("web").get("state", {}))
    assert pods.container("web")["ready"] is False
    uid = pods.get("web")["metadata"]["uid"]
    (pods._node.root / "pods" / uid / "homes" / "main" / "go").touch()
    pods.ready("web")  # long before the second period


def test_crash_loop_backs_off_and_keeps_the_previous_log(pods: Pods) -> None:
    pods.create("loop", "echo run >> runs; wc -l < runs; exit 3")
    status = pods.waits_for("loop", "CrashLoopBackOff")
    assert status["lastState"]["terminated"]["exitCode"] == 3
    status = until(
        lambda: found if (found := pods.waits_for("loop", "CrashLoopBackOff"))["restartCount"] == 2 else None
    )
    assert status["state"]["waiting"]["message"] == "back-off 4s restarting failed container=main"
    assert pods.logs("loop", "--previous").strip() == "3"
    assert pods.get("loop")["status"]["phase"] == "Running"


def test_foreign_image_cant_be_pulled(pods: Pods) -> None:
    pods.create("foreign", "true", image="nginx:1.27")
    message = pods.waits_for("foreign", "ErrImagePull")["state"]["waiting"]["message"]
    assert "nginx:1.27" in message
    pods.waits_for("foreign", "ImagePullBackOff")


def test_persistent_volume_is_refused_by_an_event(node: NodeProcess, pods: Pods) -> None:
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "claim"}}
    claim["spec"] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    node.cluster.kubectl("create", "-f", "-", stdin=json.dumps(claim))
    pods.create(
        "claims", "true", spec={"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "claim"}}]}
    )
    until(lambda: "FailedMount" in pods.events("claims"))
    assert pods.get("claims")["status"]["phase"] == "Pending"


def test_deletion_is_graceful_and_frees_everything(node: NodeProcess, pods: Pods) -> None:
    pods.create(
        "polite",
        'trap "echo bye > $NOTE; exit 0" TERM; echo up; while true; do sleep 0.1; done',
        env=[{"name": "NOTE", "value": str(node.root / "note")}],
    )
    until(lambda: pods.logs("polite") == "up\n" if pods.ready("polite") else None)
    folder = node.root / "pods" / pods.get("polite")["metadata"]["uid"]
    node.cluster.kubectl("delete", "pod", "polite")  # waits until it is gone
    assert (node.root / "note").read_text() == "bye\n"
    until(lambda: not folder.exists())


def test_a_deaf_container_is_killed_after_its_grace(node: NodeProcess, pods: Pods) -> None:
    pods.create("deaf", 'trap "" TERM; echo $$$$; while true; do sleep 0.1; done')
    pid = int(until(lambda: pods.logs("deaf") if pods.ready("deaf") else None))
    began = time.monotonic()
    node.cluster.kubectl("delete", "pod", "deaf", "--grace-period=1")
    assert 1 <= time.monotonic() - began < 8
    assert pid not in node.processes()


def test_containers_run_in_order(pods: Pods) -> None:
    mounts = [{"name": "v", "mountPath": "/v"}]

    def container(name: str, script: str, **more: object) -> dict:
        return {"name": name, "image": SHELL, "command": ["sh", "-c", script], "volumeMounts": mounts, **more}

    pods.create(
        "ordered",
        "echo main >> /v/order; cat /v/order",
        volumeMounts=mounts,
        spec={
            "restartPolicy": "Never",
            "volumes": [{"name": "v", "emptyDir": {}}],
            "initContainers": [
                container("first", "echo first >> /v/order"),
                container(
                    "side",
                    "echo side >> /v/order; touch /v/up; exec sleep 600",
                    restartPolicy="Always",
                    startupProbe={"exec": {"command": ["test", "-e", "/v/up"]}, "periodSeconds": 1},
                ),
                container("third", "echo third >> /v/order"),
            ],
        },
    )
    found = pods.phase("ordered", "Succeeded", "Failed")
    assert found["status"]["phase"] == "Succeeded"
    assert pods.logs("ordered", "-c", "main").split() == ["first", "side", "third", "main"]


def test_failed_pod_of_a_job_stays_with_its_exit_code(pods: Pods) -> None:
    pods.create("once", "exit 5", spec={"restartPolicy": "Never"})
    status = pods.phase("once", "Failed")["status"]["containerStatuses"][0]
    assert status["state"]["terminated"]["exitCode"] == 5
    assert status["restartCount"] == 0


def test_gpus_have_one_holder_each(mortal: NodeProcess) -> None:
    pods, gpu = Pods(mortal), {"limits": {"nvidia.com/gpu": "1"}}
    script = "echo $NVIDIA_VISIBLE_DEVICES $OCR_DEVICE; exec sleep 600"
    for name in ("one", "two"):
        pods.create(name, script, resources=gpu)
        pods.ready(name)
    held = [until(lambda name=name: pods.logs(name).split()) for name in ("one", "two")]  # type: ignore[misc]
    known = json.loads((mortal.root / "gpus" / "gpus.json").read_text())
    assert {uuid for uuid, _ in held} == {entry["uuid"] for entry in known}
    assert {device for _, device in held} == {"simulated"}

    pods.create("three", script, resources=gpu)
    refused = pods.phase("three", "Failed")["status"]
    assert refused["reason"] == "UnexpectedAdmissionError"

    mortal.cluster.kubectl("delete", "pod", "one")
    pods.create("four", script, resources=gpu)
    pods.ready("four")
    assert until(lambda: pods.logs("four").split()) == held[0]

    pods.create("pinned", script, env=[{"name": "NVIDIA_VISIBLE_DEVICES", "value": known[1]["uuid"]}])
    pods.ready("pinned")
    assert until(lambda: pods.logs("pinned").split()) == [known[1]["uuid"], "simulated"]
    pods.create("strange", script, env=[{"name": "NVIDIA_VISIBLE_DEVICES", "value": "GPU-strange"}])
    assert (
        "GPU-strange"
        in pods.waits_for("strange", "CreateContainerConfigError")["state"]["waiting"]["message"]
    )


def test_a_killed_node_leaves_nothing_and_comes_back(mortal: NodeProcess) -> None:
    pods = Pods(mortal)
    pods.create(
        "stays", "sleep 600 & setsid sleep 600 & echo up; wait", resources={"limits": {"nvidia.com/gpu": "2"}}
    )
    pods.ready("stays")
    until(lambda: len(mortal.processes()) == 3)
    mortal.end(signal.SIGKILL)
    until(lambda: mortal.processes() == [], seconds=5)

    mortal.start()
    status = until(
        lambda: found if (found := pods.container("stays"))["restartCount"] == 1 and found["ready"] else None
    )
    assert status["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"
    until(lambda: len(mortal.processes()) == 3)
    assert pods.logs("stays") == pods.logs("stays", "--tail=1") == "up\n"


def test_a_stopped_node_ends_its_pods_and_says_so(mortal: NodeProcess) -> None:
    pods = Pods(mortal)
    pods.create("asked", 'trap "echo bye; exit 0" TERM; echo up; while true; do sleep 0.1; done')
    until(lambda: pods.logs("asked") == "up\n" if pods.ready("asked") else None)
    mortal.end(signal.SIGTERM)
    assert mortal.popen.returncode == 0
    assert mortal.processes() == []
    assert mortal.ready() == "False"
    assert pods.container("asked")["state"]["terminated"]["exitCode"] == 0
    mortal.start()
    until(
        lambda: found if (found := pods.container("asked"))["restartCount"] == 1 and found["ready"] else None
    )


def test_logs_are_followed_to_the_end(node: NodeProcess, pods: Pods) -> None:
    pods.create("talks", "for i in 1 2 3 4 5; do echo $i; sleep 0.2; done", spec={"restartPolicy": "Never"})
    until(lambda: "running" in pods.container("talks").get("state", {}))
    assert pods.logs("talks", "--follow").split() == ["1", "2", "3", "4", "5"]
    assert pods.logs("talks", "--tail=2").split() == ["4", "5"]
    with pytest.raises(DevclusterError, match="sinceSeconds"):
        pods.logs("talks", "--since=1s")


def test_own_environment_stays_with_the_node(pods: Pods) -> None:
    pods.create("env", "", command=["env"], spec={"restartPolicy": "Never"})
    pods.phase("env", "Succeeded")
    names = {line.partition("=")[0] for line in pods.logs("env").splitlines()}
    assert names.isdisjoint(
        os.environ.keys()
        - {"PATH", "HOME", "HOSTNAME", "LANG", "PYTHONPATH", "PYTHONUNBUFFERED", "KUBECONFIG", "TMPDIR"}
    )


ECHO = """
import os, socketserver
class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(self.rfile.readline() * 2)
socketserver.ThreadingTCPServer((os.environ["OCR_HOST"], 8070), Echo).serve_forever()
"""


@pytest.mark.parametrize("websockets", ["true", "false"])
def test_kubectl_forwards_ports(node: NodeProcess, pods: Pods, websockets: str) -> None:
    """Several connections at once, each with more bytes than any buffer holds; then one to a port where nobody is.

    Older kubectls speak SPDY with the API server, newer ones WebSockets. The node can't tell, and must not.
    """
    pod = f"echo-{websockets}"
    pods.create(pod, "", command=["python", "-c", ECHO])
    pods.ready(pod)
    with kubectl_forwards(node.cluster, pod, 8070, websockets) as (_, port):
        for text in (b"hello", b"x" * 3_000_000):
            with contextlib.ExitStack() as stack:
                connections = [
                    stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
                    for _ in range(3)
                ]
                for connection in connections:
                    connection.sendall(text + b"\n")
                # All at once: SPDY can't slow down one stream, so kubectl stops them all while one isn't read.
                with ThreadPoolExecutor(len(connections)) as readers:
                    assert list(readers.map(read, connections)) == [(text + b"\n") * 2] * len(connections)
    with kubectl_forwards(node.cluster, pod, 8071, websockets) as (forwarder, port):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            assert connection.recv(1) == b""
        assert forwarder.wait(30) != 0
        assert forwarder.stderr is not None
        assert "error forwarding port 8071" in forwarder.stderr.read()


def read(connection: socket.socket) -> bytes:
    """All that comes until the other side ends."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


@contextlib.contextmanager
def kubectl_forwards(
    cluster: Cluster, pod: str, port: int, websockets: str
) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """A running `kubectl port-forward`, and its local port."""
    kubectl = Toolbox(os.environ, Progress(sys.stderr)).kubectl()
    command = [str(kubectl), f"--kubeconfig={cluster.kubeconfig}", "port-forward", f"pod/{pod}", f":{port}"]
    with subprocess.Popen(
        [*command, "--address=127.0.0.1"],
        env=os.environ | {"KUBECTL_PORT_FORWARD_WEBSOCKETS": websockets},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as forwarder:
        try:
            assert forwarder.stdout is not None
            found = re.search(r"127\.0\.0\.1:(\d+) ->", forwarder.stdout.readline())
            assert found is not None, forwarder.stderr and forwarder.stderr.read()
            yield forwarder, int(found[1])
        finally:
            forwarder.terminate()
