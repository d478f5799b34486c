"""A throwaway cluster as a Python object, for tests and the demo, and the ways to start, find and end one."""

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec
import yaml

from devcluster.container import host, requirements
from devcluster.errors import DevclusterError, StartFailed
from devcluster.machine import processes
from devcluster.machine.layout import CHECKOUT, Layout, State
from devcluster.progress import Progress
from devcluster.supervisor.order import NODE_NAMES, ContainerTools, Order, Report
from devcluster.tools.kubectl import Kubectl
from devcluster.tools.toolbox import CONTROL_PLANE, HELM, Toolbox

_STOP_SECONDS: Final = 180.0
"""Processes end within seconds. On a busy machine most of a minute goes by until the files of images are removed."""
_MOST_GPUS: Final = 64


def say_on_stderr(text: str) -> None:
    """Print progress on standard error, as `Cluster` does by default."""
    print(text, file=sys.stderr, flush=True)


class Cluster:
    """A running cluster.

    One that was `start`ed ends with `stop`, with its `with` block, or with its process, however that ends.
    One that was brought `up` or found stays until `down`.
    """

    def __init__(self, directory: Path, supervisor: subprocess.Popen[bytes] | None = None) -> None:
        self._layout = Layout(directory)
        self._supervisor = supervisor
        state = State.load(self._layout)
        if state is None:
            raise DevclusterError(f"no cluster runs in {directory}: start one with `python -m devcluster up`")
        self.state: Final = state
        self.token: Final[str] = json.loads(self.kubeconfig.read_bytes())["users"][0]["user"]["token"]
        """The administrator's."""

    @classmethod
    def start(
        cls,
        directory: Path,
        *,
        nodes: int = 0,
        gpus: int = 2,
        operator: bool = False,
        ipv6: bool = False,
        definitions: Path | None = None,
        node_grace_seconds: int = 0,
        containers: bool = False,
        images: Sequence[Path] = (),
        say: Callable[[str], None] = say_on_stderr,
    ) -> Self:
        """Start a cluster in the folder and return when all of it is ready; without nodes it is a control plane alone.

        With `ipv6` the pods of the last node have the address `::1`, all of them, and only pods that tolerate its taint
        come there. The CustomResourceDefinitions in the folder `definitions` are served before any controller runs.
        With `containers` there is one node, a real one, that has the images of these archives.
        Nodes are lost after `node_grace_seconds` of silence: a client that plays a thousand of them renews no Leases.
        Raises ControlPlaneUnavailable when its programs can't be had, StartFailed with the log's end when a part fails.
        """
        if containers:
            _refuse_impossible(nodes, gpus, images, ipv6=ipv6)
        order = _order(directory.resolve(), nodes, gpus, operator=operator, ipv6=ipv6, detached=False)
        if containers:
            order = _with_containers(order, images)
        order = msgspec.structs.replace(order, node_grace_seconds=node_grace_seconds)
        if definitions is not None:
            texts = (path.read_text(encoding="utf-8") for path in sorted(definitions.glob("*.yaml")))
            order = msgspec.structs.replace(order, definitions=tuple(map(yaml.safe_load, texts)))
        return cls(directory.resolve(), _launch(order, say))

    @classmethod
    def up(
        cls,
        directory: Path,
        *,
        nodes: int = 3,
        gpus: int = 2,
        operator: bool = True,
        ipv6: bool = False,
        containers: bool = False,
        images: Sequence[Path] = (),
        say: Callable[[str], None] = say_on_stderr,
    ) -> Self:
        """Start a cluster that outlives this process, or return the one that runs in the folder already."""
        directory = directory.resolve()
        state = running(directory)
        if state is not None and state.phase == "ready":
            there = (len(state.nodes), state.gpus, state.operator, state.ipv6, state.containers)
            if there != (nodes, gpus, operator, ipv6, containers):
                kind = (
                    f"{', with IPv6' if state.ipv6 else ''}{', with containers' if state.containers else ''}"
                )
                raise DevclusterError(
                    f"another cluster runs in {directory} ({len(state.nodes)} nodes of {state.gpus} GPUs, "
                    f"{'with' if state.operator else 'without'} the operator{kind}): end it with `down` first"
                )
            say(f"A cluster runs in {directory} already")
            return cls(directory)
        if containers:
            _refuse_impossible(nodes, gpus, images, ipv6=ipv6)
        order = _order(directory, nodes, gpus, operator=operator, ipv6=ipv6, detached=True)
        if containers:
            order = _with_containers(order, images)
        supervisor = _launch(order, say)
        assert supervisor.stdin is not None
        assert supervisor.stdout is not None
        supervisor.stdin.close()
        supervisor.stdout.close()
        supervisor.returncode = 0  # it is on its own now: no warning about a child that still runs
        return cls(directory)

    @property
    def directory(self) -> Path:
        return self._layout.directory

    @property
    def kubeconfig(self) -> Path:
        return self._layout.kubeconfig

    @property
    def authority(self) -> Path:
        """Certificate (PEM) with which clients verify the API server."""
        return self._layout.authority

    @property
    def url(self) -> str:
        return self.state.url

    def node_kubeconfig(self, name: str) -> Path:
        """Return credentials of the node (gpu-a to gpu-z), which need not run: user `system:node:<name>`."""
        if name not in NODE_NAMES:
            raise DevclusterError(f"{name} can't be a node: names are {NODE_NAMES[0]} to {NODE_NAMES[-1]}")
        return self._layout.credentials(name)

    def address_prefix(self, node: int) -> str:
        """Return the first three numbers of the addresses of the node with this position, counted from 1."""
        return ".".join((*self.state.network.split(".")[:2], str(node)))

    def service(self, name: str, namespace: str = "default") -> str | None:
        """Return the `address:port` of the first port of a Service; None until the proxy listens there."""
        try:
            table = json.loads(self._layout.services.read_bytes())
        except FileNotFoundError:
            return None
        found: list[str] = table.get(f"{namespace}/{name}") or []
        return found[0] if found else None

    def log(self, name: str) -> Path:
        """Return the log of a component, a node or the supervisor."""
        return self._layout.log(name)

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """Run kubectl as administrator and return its output; a failure raises DevclusterError with what it printed."""
        return Kubectl(self.kubeconfig).run(*arguments, stdin=stdin)

    def plugin(self, *arguments: str) -> str:
        """Run `kubectl ocr` as administrator and return its output; fails as `kubectl` does."""
        return Kubectl(self.kubeconfig).plugin(*arguments)

    def occupy(self, node: str, memory_bytes: int) -> list[Path]:
        """Take memory of each simulated GPU of a node in this process's name; to free it, delete the entries.

        They lie in folders that are called by the GPUs' UUIDs, and no longer count when this process ends.
        """
        folder = self._layout.node(node) / "gpus"
        written = []
        for gpu in json.loads((folder / "gpus.json").read_bytes()):
            entry = folder / "usage" / gpu["uuid"] / f"{os.getpid()}.json"
            draft = entry.with_suffix(".new")
            draft.write_text(json.dumps({"memory_bytes": memory_bytes, "utilization": 1.0}))
            os.replace(draft, entry)
            written.append(entry)
        return written

    def stop(self) -> None:
        """End all processes and remove the folder; nothing happens the second time."""
        if self._supervisor is not None:
            _end(self._supervisor)
            self._supervisor = None
        down(self.directory)

    down = stop

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def running(directory: Path) -> State | None:
    """Return the record of the cluster whose supervisor runs in the folder."""
    state = State.load(Layout(directory))
    return state if state is not None and processes.runs(state.supervisor) else None


def down(directory: Path) -> bool:
    """End the cluster in the folder, or what is left of a killed one, and remove the folder; False if there is none."""
    layout = Layout(directory)
    if not layout.is_cluster():
        return False
    state = State.load(layout)
    if state is not None:
        processes.end([state.supervisor], grace_seconds=_STOP_SECONDS)
        processes.sweep(state.marks(layout), grace_seconds=1.0)
        if state.node_network is not None:
            host.clear(state.node_network)
    layout.remove()
    return state is not None


def _order(directory: Path, nodes: int, gpus: int, *, operator: bool, ipv6: bool, detached: bool) -> Order:
    if not 0 <= nodes <= len(NODE_NAMES):
        raise DevclusterError(f"{nodes} nodes: a cluster has 0 to {len(NODE_NAMES)}")
    if not 0 <= gpus <= _MOST_GPUS:
        raise DevclusterError(f"{gpus} GPUs: a node has 0 to {_MOST_GPUS}")
    if ipv6 and nodes < 2:
        raise DevclusterError(
            "the node of IPv6 takes one kind of pods only: have a second one for the others"
        )
    if operator and not nodes:
        raise DevclusterError("the operator is a pod and needs a node to run on")
    tools = Toolbox(os.environ, Progress(sys.stderr)).provide(CONTROL_PLANE, *([HELM] if operator else []))
    return Order(
        id=secrets.token_hex(8),
        directory=str(directory),
        etcd=str(tools["etcd"]),
        kube_apiserver=str(tools["kube-apiserver"]),
        kube_controller_manager=str(tools["kube-controller-manager"]),
        kube_scheduler=str(tools["kube-scheduler"]),
        helm=str(tools["helm"]) if operator else None,
        nodes=nodes,
        gpus=gpus,
        ipv6=ipv6,
        detached=detached,
    )


def _refuse_impossible(nodes: int, gpus: int, images: Sequence[Path], *, ipv6: bool) -> None:
    """Raise DevclusterError for a real node that can't be, before programs are built for it, which takes minutes."""
    if nodes != 1 or gpus or ipv6:
        raise DevclusterError(
            "a machine is one node with containers: without simulated GPUs, and without IPv6"
        )
    if (why := requirements.missing() or requirements.forbidden()) is not None:
        raise DevclusterError(why)
    if absent := [path for path in images if not path.is_file()]:
        raise DevclusterError(f"no archive of images: {absent[0]}")


def _with_containers(order: Order, images: Sequence[Path]) -> Order:
    tools = {name: str(path) for name, path in Toolbox(os.environ, Progress(sys.stderr)).real_node().items()}
    return msgspec.structs.replace(
        order,
        containers=ContainerTools(
            kubelet=tools["kubelet"],
            containerd=tools["containerd"],
            shim=tools["containerd-shim-runc-v2"],
            ctr=tools["ctr"],
            pause=tools["pause"],
            images=tuple(str(path.resolve()) for path in images),
        ),
    )


def _launch(order: Order, say: Callable[[str], None]) -> subprocess.Popen[bytes]:
    """Start the supervisor and wait until it reports that the cluster is ready."""
    supervisor = subprocess.Popen(
        [sys.executable, "-m", "devcluster.supervisor"],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C reaches us alone, and we tell it in order
    )
    assert supervisor.stdin is not None
    assert supervisor.stdout is not None
    try:
        supervisor.stdin.write(msgspec.json.encode(order) + b"\n")
        supervisor.stdin.flush()
        for line in supervisor.stdout:
            report = msgspec.json.decode(line, type=Report)
            if report.kind == "ready":
                return supervisor
            if report.kind == "failed":
                raise StartFailed(report.text)
            say(report.text)
        raise StartFailed(
            f"the supervisor ended before the cluster was ready: see {order.directory}/logs/supervisor.log"
        )
    except BaseException:
        _end(supervisor)
        raise


def _end(supervisor: subprocess.Popen[bytes]) -> None:
    supervisor.send_signal(signal.SIGTERM)
    try:
        supervisor.wait(timeout=_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        supervisor.kill()
        supervisor.wait()
    for pipe in (supervisor.stdin, supervisor.stdout):
        if pipe is not None:
            pipe.close()
