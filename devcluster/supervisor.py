"""The owner of a cluster's processes, itself a process in its own session: `python -m devcluster.supervisor`.

It reads an Order from standard input, starts everything, and reports on standard output, one JSON object a line. While
the cluster starts, and for one that isn't detached as long as it lives, the end of standard input means that whoever
ordered it is gone: then it stops. It has one thread (see `processes.Child`).
"""

import asyncio
import contextlib
import fcntl
import functools
import os
import signal
import string
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Literal

import aiohttp
import msgspec

from devcluster import access, bootstrap, helm, processes
from devcluster.addresses import Block
from devcluster.api import Api
from devcluster.controlplane import Component, ControlPlane
from devcluster.errors import DevclusterError, StartFailed
from devcluster.layout import MARKER, Layout, ProcessRecord, State
from devcluster.node.process import NODE_MARK
from devcluster.processes import Child
from devcluster.progress import duration
from devcluster.tools import ControlPlaneTools

NODE_NAMES: Final = tuple(f"gpu-{letter}" for letter in string.ascii_lowercase)
"""Each has credentials in every cluster, whether it is started or not."""

_START_SECONDS: Final = 120.0
"""For each part. One that takes longer hangs, even on a busy machine: the slowest, the API server, takes 3 s."""

_POLL_SECONDS: Final = 0.05

_HOPELESS_RESTARTS: Final = 2

_NODE_GRACE_SECONDS: Final = 8.0
"""Nodes give their pods 5 s when they stop."""


class Order(msgspec.Struct, frozen=True):
    """What to start, and where. `id` marks every process of the cluster."""

    id: str
    directory: str
    etcd: str
    kube_apiserver: str
    kube_controller_manager: str
    kube_scheduler: str
    helm: str | None
    """None: no operator."""
    nodes: int
    gpus: int
    detached: bool


class Report(msgspec.Struct, frozen=True):
    """One line to whoever ordered the cluster."""

    kind: Literal["step", "ready", "failed"]
    text: str


class Supervisor:
    """Runs one cluster from start to end."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._layout = Layout(Path(order.directory))
        self._block = Block.claim()
        self._environment = {**os.environ, MARKER: order.id}
        self._nodes = NODE_NAMES[: order.nodes]
        self._plan = ControlPlane.plan(
            self._layout,
            ControlPlaneTools(
                etcd=Path(order.etcd),
                kube_apiserver=Path(order.kube_apiserver),
                kube_controller_manager=Path(order.kube_controller_manager),
                kube_scheduler=Path(order.kube_scheduler),
            ),
            self._block,
            NODE_NAMES,
        )
        self._children: dict[str, Child] = {}
        self._phase: Literal["starting", "ready", "stopping"] = "starting"

    async def start(self) -> None:
        """Bring everything up, in the order in which the parts need each other."""
        began = time.monotonic()
        self._plan.write_secrets()
        self._run(self._plan.etcd)
        await self._until("etcd", self._etcd_answers)
        self._run(self._plan.api_server)
        await self._until("kube-apiserver", self._certificate_made)
        self._plan.write_kubeconfigs()
        async with self._api() as api:
            await self._until("kube-apiserver", api.ready)
            # The nodes take about as long as the controllers: let them start together.
            for component in self._plan.controllers:
                self._run(component)
            for position, name in enumerate(self._nodes, start=1):
                self._run_node(position, name)
            await self._until(
                "kube-controller-manager",
                lambda: _exists(api, "/api/v1/namespaces/default/serviceaccounts/default"),
            )
            self._step("Control plane", began)
            if self._nodes:
                await self._start_nodes(api)
            if self._order.helm is not None:
                await self._start_operator(api, Path(self._order.helm))
        self._phase = "ready"
        self._save()

    async def stop(self) -> None:
        """End everything: the nodes with time for their pods, the rest at once, since nothing of it is kept.

        The logs of a cluster that didn't come up stay.
        """
        failed = self._phase == "starting"
        self._phase = "stopping"
        nodes = [self._children[name] for name in self._nodes if name in self._children]
        await asyncio.gather(*(node.stop(_NODE_GRACE_SECONDS) for node in nodes))
        await asyncio.gather(*(child.stop(0.0) for child in self._children.values()))
        for _ in range(50):  # each round may set free the children of those it killed
            leftovers = processes.children(os.getpid())
            if not leftovers:
                break
            processes.end(leftovers, grace_seconds=0.0)
            _reap_adopted()
        self._layout.clear(keep_logs=failed)

    async def _start_nodes(self, api: Api) -> None:
        began = time.monotonic()
        for name in self._nodes:
            await self._until(name, functools.partial(_condition, api, f"/api/v1/nodes/{name}", "Ready"))
        for resource in bootstrap.OBJECTS:
            await api.apply(resource)
        if self._order.gpus:
            await self._until(self._nodes[0], lambda: _exporters_ready(api, len(self._nodes)))
        self._step(f"Nodes {', '.join(self._nodes)}", began)

    async def _start_operator(self, api: Api, program: Path) -> None:
        began = time.monotonic()
        install = Child.spawn(
            "helm",
            helm.install(program, self._layout.kubeconfig),
            log=self._layout.log("helm"),
            cwd=self._layout.directory,
            environment=helm.environment(self._environment, self._layout.directory / "helm"),
        )
        if await install.exited != 0:
            raise StartFailed(f"helm install of {helm.CHART} failed:\n{processes.tail(install.log)}")
        try:
            await _poll(lambda: _operator_ready(api), _START_SECONDS)
        except TimeoutError as error:
            raise StartFailed(
                f"the operator isn't ready after {duration(_START_SECONDS)}:\n{await _why(api, helm.NAMESPACE)}"
            ) from error
        self._step("Operator", began)

    def _run(self, component: Component) -> None:
        self._adopt(
            Child.spawn(
                component.name,
                component.command,
                log=self._layout.log(component.name),
                cwd=self._layout.etcd,
                environment=self._environment,
            )
        )

    def _run_node(self, position: int, name: str) -> None:
        command = (
            sys.executable,
            "-m",
            "devcluster.node",
            f"--kubeconfig={self._layout.credentials(name)}",
            f"--name={name}",
            f"--ip-prefix={self._block.prefix(position)}",
            f"--root={self._layout.node(name)}",
            f"--gpus={self._order.gpus}",
            f"--tls-cert={self._layout.authority}",
            f"--tls-key={self._layout.certificates / 'apiserver.key'}",
        )
        # Told to end, not killed, when the supervisor is: a node ends its pods itself.
        self._adopt(
            Child.spawn(
                name,
                command,
                log=self._layout.log(name),
                cwd=Path(__file__).parent.parent,
                environment=self._environment,
                last_signal=signal.SIGTERM,
            )
        )

    def _adopt(self, child: Child) -> None:
        self._children[child.name] = child
        child.on_exit(self._ended)
        self._save()

    def _ended(self, child: Child) -> None:
        if self._phase != "stopping":
            sys.stderr.write(f"{child.name} ended with {child.exited.result()}\n")
            self._save()

    async def _until(self, name: str, probe: Callable[[], Awaitable[bool]]) -> None:
        """Wait for a part to answer; raises with its log's end when it ends first or takes too long."""
        child = self._children[name]
        poll = asyncio.ensure_future(_poll(probe, _START_SECONDS))
        child.exited.add_done_callback(lambda _: poll.cancel())
        try:
            await poll
        except TimeoutError as error:
            raise StartFailed(
                f"{name} isn't ready after {duration(_START_SECONDS)}; the end of its log:\n{processes.tail(child.log)}"
            ) from error
        except asyncio.CancelledError:
            if not child.exited.done():
                raise
            raise StartFailed(
                f"{name} ended with {child.exited.result()}; the end of its log:\n{processes.tail(child.log)}"
            ) from None
        finally:
            poll.cancel()

    async def _etcd_answers(self) -> bool:
        try:
            _, writer = await asyncio.open_unix_connection(self._short(self._plan.etcd_socket))
        except OSError:
            return False
        writer.close()
        return True

    def _short(self, path: Path) -> str:
        """The path relative to the working folder: a Unix socket's name holds 108 bytes, a test's folder often more."""
        return os.path.relpath(path)

    async def _certificate_made(self) -> bool:
        # The file is written in one go: the server's certificate, then the authority's.
        return (
            self._layout.authority.is_file()
            and self._layout.authority.read_bytes().count(b"END CERTIFICATE") == 2
        )

    def _api(self) -> Api:
        return Api(self._plan.url, self._layout.authority.read_bytes(), self._plan.users[access.ADMIN].token)

    def _step(self, what: str, began: float) -> None:
        _report(Report("step", f"{what}: ready in {duration(time.monotonic() - began)}"))

    def _save(self) -> None:
        identity = processes.identify(os.getpid())
        assert identity is not None
        State(
            id=self._order.id,
            supervisor=identity,
            phase=self._phase,
            url=self._plan.url,
            network=f"127.{self._block.number}.0.0/16",
            nodes=self._nodes,
            gpus=self._order.gpus,
            operator=self._order.helm is not None,
            processes=tuple(
                ProcessRecord(
                    child.name, child.identity, child.exited.result() if child.exited.done() else None
                )
                for child in self._children.values()
            ),
        ).save(self._layout)


async def _poll(probe: Callable[[], Awaitable[bool]], seconds: float) -> None:
    """Ask until the answer is yes; raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                if await probe():
                    return
            await asyncio.sleep(_POLL_SECONDS)


async def _exists(api: Api, path: str) -> bool:
    return await api.get(path) is not None


async def _condition(api: Api, path: str, kind: str) -> bool:
    found = await api.get(path)
    conditions = found.get("status", {}).get("conditions", []) if found else []
    return any(condition["type"] == kind and condition["status"] == "True" for condition in conditions)


async def _exporters_ready(api: Api, wanted: int) -> bool:
    daemons = await api.get(
        f"/apis/apps/v1/namespaces/{bootstrap.EXPORTER_NAMESPACE}/daemonsets/nvidia-dcgm-exporter"
    )
    return bool(daemons) and daemons.get("status", {}).get("numberReady", 0) >= wanted


async def _operator_ready(api: Api) -> bool:
    """True when its Deployment is available; raises when its pod keeps ending, which time doesn't mend."""
    if await _condition(
        api, f"/apis/apps/v1/namespaces/{helm.NAMESPACE}/deployments/{helm.RELEASE}", "Available"
    ):
        return True
    for pod in (await api.get(f"/api/v1/namespaces/{helm.NAMESPACE}/pods"))["items"]:
        restarts = [container["restartCount"] for container in pod["status"].get("containerStatuses", ())]
        if max(restarts, default=0) >= _HOPELESS_RESTARTS:
            raise StartFailed(f"the operator keeps ending:\n{await _why(api, helm.NAMESPACE)}")
    return False


async def _why(api: Api, namespace: str) -> str:
    """What the pods of a namespace say about themselves, and the end of their logs."""
    lines: list[str] = []
    for pod in (await api.get(f"/api/v1/namespaces/{namespace}/pods"))["items"]:
        name, status = pod["metadata"]["name"], pod["status"]
        said = {
            condition["message"]
            for condition in status.get("conditions", ())
            if condition["status"] != "True" and condition.get("message")
        }
        for container in status.get("containerStatuses", ()):
            waiting = container.get("state", {}).get("waiting", {})
            said.add(f"{waiting.get('reason', '')} {waiting.get('message', '')}".strip())
        lines += [f"  {name}: {text}" for text in sorted(said) if text]
        with contextlib.suppress(DevclusterError, aiohttp.ClientError):
            log = await api.text(f"/api/v1/namespaces/{namespace}/pods/{name}/log?tailLines=12")
            lines += [f"  {line}" for line in log.splitlines()]
    return "\n".join(lines) or f"  there are no pods in {namespace}"


def _reap_adopted() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _read_order() -> Order:
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(sys.stdin.fileno(), 65536)
        if not piece:
            raise SystemExit("the supervisor is started by devcluster.cluster, which sends it an order")
        line += piece
    return msgspec.json.decode(line, type=Order)


def _report(report: Report) -> None:
    with contextlib.suppress(BrokenPipeError):  # its reader is gone, which standard input tells as well
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
        sys.stdout.buffer.flush()


def sweep(layout: Layout, state: State) -> None:
    """Kill what a killed supervisor left: processes that carry the cluster's mark, whatever became of their parents."""
    nodes = [str(layout.node(name)) for name in state.nodes]
    marks = [f"{MARKER}={state.id}", *(f"{NODE_MARK}={node}" for node in nodes)]
    for _ in range(50):
        leftovers = processes.marked(marks)
        if not leftovers:
            return
        processes.end(leftovers, grace_seconds=1.0)


def _take(layout: Layout) -> int:
    """Make the folder ours for as long as this process lives, and clear away what another left in it."""
    layout.create()
    descriptor = os.open(layout.lock, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StartFailed(
            f"another cluster runs in {layout.directory}: end it with `down`, or pass another --dir"
        ) from None
    state = State.load(layout)
    if state is not None:
        sweep(layout, state)
    layout.clear()
    return descriptor


async def _supervise(order: Order) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    supervisor = Supervisor(order)
    starting = asyncio.ensure_future(supervisor.start())

    def orderer_left() -> None:
        if os.read(sys.stdin.fileno(), 4096) == b"":
            loop.remove_reader(sys.stdin.fileno())
            if not (order.detached and starting.done()):
                stop.set()

    loop.add_reader(sys.stdin.fileno(), orderer_left)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait([starting])
            return 1
        if (error := starting.exception()) is not None:
            traceback.print_exception(error)
            known = isinstance(error, DevclusterError)
            _report(Report("failed", str(error) if known else f"{type(error).__name__}: {error}"))
            return 1
        _report(Report("ready", ""))
        await stopping
        return 0
    finally:
        await supervisor.stop()


def main() -> int:
    """Run one cluster."""
    order = _read_order()
    layout = Layout(Path(order.directory))
    try:
        lock = _take(layout)
    except (DevclusterError, OSError) as error:
        _report(Report("failed", str(error)))
        return 1
    log = layout.log("supervisor")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        os.dup2(output.fileno(), sys.stderr.fileno())
    processes.adopt_orphans()
    try:
        return asyncio.run(_supervise(order))
    finally:
        os.close(lock)


if __name__ == "__main__":
    sys.exit(main())
