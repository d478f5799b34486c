"""Services lead to pods: a kube-proxy in user space, `python -m devcluster.proxy`.

The API server refuses loopback addresses in endpoints, so this finds a Service's pods itself, by its selector and
their readiness. A cluster IP 10.96.a.b is served at 127.<cluster>.128+a.b, on the Service's own ports. Each
connection goes to a random pod, as with kube-proxy; one that refuses it is no answer, and another pod is tried.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from devcluster.node import model
from devcluster.node.api import Api, Event, access

CONNECT_SECONDS: Final = 3.0
CHUNK: Final = 65_536

log = logging.getLogger(__name__)

Endpoint = tuple[str, int]
Name = tuple[str, str]


class ServicePort(model.Part, frozen=True):
    port: int
    target_port: int | str = 0


class ServiceSpec(model.Part, frozen=True):
    selector: dict[str, str] = msgspec.field(default_factory=dict)
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    ports: list[ServicePort] = msgspec.field(default_factory=list)


class Service(model.Part, frozen=True):
    metadata: model.Metadata
    spec: ServiceSpec

    @property
    def name(self) -> Name:
        return self.metadata.namespace, self.metadata.name

    @property
    def served(self) -> bool:
        """Headless Services are DNS names only, and without a selector somebody else keeps the endpoints."""
        return self.spec.cluster_ip.startswith("10.96.") and bool(self.spec.selector)


def address(cluster_ip: str, network: str) -> str:
    """Where that cluster IP is served; `network` is the cluster's `127.N`. No two Services share one."""
    *_, third, fourth = cluster_ip.split(".")
    return f"{network}.{128 + int(third)}.{fourth}"


def endpoints(service: Service, port: ServicePort, pods: Iterable[model.Pod]) -> list[Endpoint]:
    """The ready pods that the Service selects, in no particular order."""
    found = []
    for pod in pods:
        ready = any(each.type == "Ready" and each.status == "True" for each in pod.status.conditions)
        same = pod.metadata.namespace == service.metadata.namespace
        if not (same and ready and pod.status.pod_ip) or pod.metadata.deletion_timestamp:
            continue
        if service.spec.selector.items() <= pod.metadata.labels.items() and (number := _target(port, pod)):
            found.append((pod.status.pod_ip, number))
    return found


def _target(port: ServicePort, pod: model.Pod) -> int | None:
    if isinstance(port.target_port, int):
        return port.target_port or port.port
    named = (each for container in pod.spec.containers for each in container.ports)
    return next((each.container_port for each in named if each.name == port.target_port), None)


class Proxy:
    """Follows Services and pods, and listens for the former."""

    def __init__(self, api: Api, network: str, record: Path, rng: random.Random) -> None:
        self._api = api
        self._network = network
        self._record = record
        self._rng = rng
        self._pods: dict[str, model.Pod] = {}
        self._services: dict[Name, Service] = {}
        self._listening: dict[Name, tuple[ServiceSpec, list[asyncio.Server]]] = {}

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow_pods())
                tasks.create_task(self._follow_services())
        finally:
            for name in list(self._listening):
                self._close(name)

    async def _follow_pods(self) -> None:
        async for event in self._api.follow("/api/v1/pods", {}):
            _take_in(self._pods, event, [(raw["metadata"]["uid"], model.pod(raw)) for raw in event.objects])

    async def _follow_services(self) -> None:
        async for event in self._api.follow("/api/v1/services", {}):
            read = [msgspec.convert(raw, Service) for raw in event.objects]
            _take_in(self._services, event, [(each.name, each) for each in read])
            await self._listen()

    async def _listen(self) -> None:
        wanted = {name: each for name, each in self._services.items() if each.served}
        for name in list(self._listening):
            if name not in wanted or wanted[name].spec != self._listening[name][0]:
                self._close(name)
        for name, service in wanted.items():
            if name not in self._listening:
                self._listening[name] = service.spec, await self._open(service)
        self._write()

    def _close(self, name: Name) -> None:
        """Connections that are open go on."""
        for server in self._listening.pop(name)[1]:
            server.close()

    async def _open(self, service: Service) -> list[asyncio.Server]:
        host, servers = address(service.spec.cluster_ip, self._network), []
        for port in service.spec.ports:

            async def connected(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: ServicePort = port
            ) -> None:
                await self._serve(endpoints(service, port, self._pods.values()), reader, writer)

            try:
                servers.append(await asyncio.start_server(connected, host, port.port))
            except OSError as error:
                log.warning("service %s/%s: can't listen at %s:%d: %s", *service.name, host, port.port, error)
        return servers

    async def _serve(
        self, pods: Sequence[Endpoint], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Joins a client to the first pod that takes the connection; without one, the client is refused."""
        for host, port in self._rng.sample(pods, len(pods)):
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    there, back = await asyncio.open_connection(host, port)
            except (OSError, TimeoutError) as error:
                log.info("pod %s:%d takes no connection: %s", host, port, type(error).__name__)
                continue
            try:
                async with asyncio.TaskGroup() as ways:
                    ways.create_task(_pipe(reader, back))
                    ways.create_task(_pipe(there, writer))
            except* OSError:  # one end broke: so does the other
                back.transport.abort()
                writer.transport.abort()
            back.close()
            writer.close()  # what is still in its buffer is sent
            return
        writer.transport.abort()

    def _write(self) -> None:
        """`status` and tests read the addresses from a file."""
        table = {
            "/".join(name): [f"{address(spec.cluster_ip, self._network)}:{port.port}" for port in spec.ports]
            for name, (spec, _) in sorted(self._listening.items())
        }
        draft = self._record.with_suffix(".new")
        draft.write_text(json.dumps(table, indent=1))
        os.replace(draft, self._record)


def _take_in(known: dict[Any, Any], event: Event, items: list[tuple[Any, Any]]) -> None:
    if event.kind == "synced":
        known.clear()
    for key, item in items:
        if event.kind == "gone":
            known.pop(key, None)
        else:
            known[key] = item


async def _pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(CHUNK):
        sink.write(data)
        await sink.drain()
    sink.write_eof()


async def _run(kubeconfig: Path, network: str, record: Path) -> None:
    async with Api(access(kubeconfig)) as api:
        await Proxy(api, network, record, random.Random()).run()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m devcluster.proxy", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--network", required=True, help="the cluster's block, such as 127.77")
    parser.add_argument("--record", type=Path, required=True, help="file that lists Services and addresses")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname).1s %(name)s: %(message)s")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(options.kubeconfig, options.network, options.record))


if __name__ == "__main__":
    main()
