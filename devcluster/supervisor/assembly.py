"""The processes of one cluster: what is started after what, and ended how.

Belongs to the supervisor, which has one thread and adopts orphans (see `processes`).
"""

import asyncio
import contextlib
import functools
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Literal

from devcluster.controlplane import access
from devcluster.controlplane.components import Component, ControlPlane
from devcluster.errors import StartFailed
from devcluster.kube.api import Access, Api
from devcluster.machine import processes
from devcluster.machine.addresses import Block, claim_ipv6
from devcluster.machine.layout import CHECKOUT, CLUSTER_MARK, Layout, ProcessRecord, State
from devcluster.machine.network import NodeNetwork
from devcluster.machine.processes import Child
from devcluster.progress import duration
from devcluster.supervisor import bootstrap, helm, readiness
from devcluster.supervisor.order import NODE_NAMES, Order
from devcluster.supervisor.realnode import RealNode
from devcluster.tools.toolbox import ControlPlaneTools

_START_SECONDS: Final = 120.0
"""For each part. One that takes longer hangs, even on a busy machine: the slowest, the API server, takes 3 s."""

_MANAGER: Final = "devcluster"

_NODE_GRACE_SECONDS: Final = 8.0
"""Nodes give their pods 5 s when they stop."""


class Assembly:
    """All processes of one cluster, started and ended in the right order."""

    def __init__(self, order: Order, say: Callable[[str], None]) -> None:
        self._order = order
        self._say = say
        self._layout = Layout(Path(order.directory))
        self._block = Block.claim()
        self._ipv6_claim = claim_ipv6() if order.ipv6 else None
        self._environment = {**os.environ, CLUSTER_MARK: order.id}
        self._nodes = NODE_NAMES[: order.nodes]
        network = NodeNetwork(self._block.number) if order.containers else None
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
            node_grace_seconds=order.node_grace_seconds,
            network=network,
        )
        self._real = (
            RealNode(order.containers, self._plan, network, self._nodes[0])
            if order.containers is not None and network is not None
            else None
        )
        self._children: dict[str, Child] = {}
        self._phase: Literal["starting", "ready", "stopping"] = "starting"

    async def start(self) -> None:
        """Bring everything up, in the order in which the parts need each other."""
        began = time.monotonic()
        self._plan.write_secrets()
        if self._real is not None:
            self._real.prepare()
        self._run(self._plan.etcd)
        await self._until("etcd", self._etcd_answers)
        self._run(self._plan.api_server)
        await self._until("kube-apiserver", self._certificate_made)
        self._plan.write_kubeconfigs()
        async with self._api() as api:
            await self._until("kube-apiserver", lambda: readiness.answers(api))
            await self._define(api)
            # The nodes take about as long as the controllers: let them start together.
            for component in self._plan.controllers:
                self._run(component)
            if self._real is not None:
                await self._run_real_node(self._real)
            for position, name in enumerate(self._nodes if self._real is None else (), start=1):
                self._run_node(position, name)
            if self._nodes:
                self._run_proxy()
            await self._until(
                "kube-controller-manager",
                lambda: readiness.exists(api, "/api/v1/namespaces/default/serviceaccounts/default"),
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
        if self._real is not None:
            self._real.clear()
        self._layout.clear(keep_logs=failed)

    async def _define(self, api: Api) -> None:
        """Create the definitions before the controllers start.

        The garbage collector asks for new kinds twice a minute only. Until it knows one, children of its resources
        stay when their owner is deleted.
        """
        for definition in self._order.definitions:
            await api.apply(bootstrap.path_of(definition), definition, manager=_MANAGER)
            await self._until(
                "kube-apiserver",
                functools.partial(readiness.condition, api, bootstrap.path_of(definition), "Established"),
            )

    async def _start_nodes(self, api: Api) -> None:
        began = time.monotonic()
        for name in self._nodes:
            await self._until(
                name, functools.partial(readiness.condition, api, f"/api/v1/nodes/{name}", "Ready")
            )
        for resource in bootstrap.OBJECTS if self._real is None else ():
            await api.apply(bootstrap.path_of(resource), resource, manager=_MANAGER)
        if self._order.gpus:
            await self._until(self._nodes[0], lambda: readiness.exporters_ready(api, len(self._nodes)))
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
            await readiness.poll(lambda: readiness.operator_ready(api), _START_SECONDS)
        except TimeoutError as error:
            why = await readiness.why(api, helm.NAMESPACE)
            raise StartFailed(f"the operator isn't ready after {duration(_START_SECONDS)}:\n{why}") from error
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
            *(["--pod-ip=::1"] if self._order.ipv6 and position == len(self._nodes) else []),
            f"--root={self._layout.node(name)}",
            f"--gpus={self._order.gpus}",
            f"--tls-cert={self._layout.authority}",
            f"--tls-key={self._layout.certificates / 'apiserver.key'}",
        )
        # Asked to end, not killed, when the supervisor is: a node ends its pods itself.
        self._adopt(
            Child.spawn(
                name,
                command,
                log=self._layout.log(name),
                cwd=CHECKOUT,
                environment=self._environment,
                last_signal=signal.SIGTERM,
            )
        )

    async def _run_real_node(self, node: RealNode) -> None:
        self._run(node.containerd)
        await self._until("containerd", node.answers)
        for command in node.imports:
            done = Child.spawn(
                "images", command, log=self._layout.log("images"), cwd=CHECKOUT, environment=self._environment
            )
            if await done.exited != 0:
                raise StartFailed(f"{command[-1]} can't be imported:\n{processes.tail(done.log)}")
        self._run(node.kubelet)

    def _run_proxy(self) -> None:
        command = (
            sys.executable,
            "-m",
            "devcluster.services.proxy",
            f"--kubeconfig={self._layout.kubeconfig}",
            f"--network={'' if self._real else f'127.{self._block.number}'}",
            f"--record={self._layout.services}",
        )
        self._adopt(
            Child.spawn(
                "service-proxy",
                command,
                log=self._layout.log("service-proxy"),
                cwd=CHECKOUT,
                environment=self._environment,
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
        began = time.monotonic()
        child = self._children[name]
        poll = asyncio.ensure_future(readiness.poll(probe, _START_SECONDS))
        child.exited.add_done_callback(lambda _: poll.cancel())
        try:
            await poll
            sys.stderr.write(f"{name} answers after {duration(time.monotonic() - began)}\n")
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
        """Return the path relative to the working folder.

        A Unix socket's name holds 108 bytes, a test's folder often more.
        """
        return os.path.relpath(path)

    async def _certificate_made(self) -> bool:
        # The file is written in one go: the server's certificate, then the authority's.
        return (
            self._layout.authority.is_file()
            and self._layout.authority.read_bytes().count(b"END CERTIFICATE") == 2
        )

    def _api(self) -> Api:
        authority = self._layout.authority.read_text(encoding="ascii")
        return Api(Access(self._plan.url, self._plan.users[access.ADMIN].token, authority, None))

    def _step(self, what: str, began: float) -> None:
        self._say(f"{what}: ready in {duration(time.monotonic() - began)}")

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
            ipv6=self._order.ipv6,
            containers=self._real is not None,
            processes=tuple(
                ProcessRecord(
                    child.name, child.identity, child.exited.result() if child.exited.done() else None
                )
                for child in self._children.values()
            ),
        ).save(self._layout)


def _reap_adopted() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
