"""Services lead to pods: a kube-proxy in user space, `python -m devcluster.services.proxy`.

The API server refuses loopback addresses in endpoints, so this finds a Service's pods itself, by its selector and
their readiness. A cluster IP 10.96.a.b is served at 127.<cluster>.128+a.b, on the Service's own ports, or at itself
where a real node has made it an address of the machine. Each connection goes to a random pod, as with kube-proxy;
one that refuses it is no answer, and another pod is tried.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from devcluster.kube import model
from devcluster.kube.api import Api, Event, access
from devcluster.services.routing import Endpoint, Name, Service, ServicePort, ServiceSpec, address, endpoints

CONNECT_SECONDS: Final = 3.0
CHUNK: Final = 65_536

log = logging.getLogger(__name__)

K = TypeVar("K")
T = TypeVar("T")


class Proxy:
    """Proxy that follows Services and pods, and listens for the former."""

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
            _take_in(self._pods, event, model.Pod, lambda pod: pod.metadata.uid)

    async def _follow_services(self) -> None:
        async for event in self._api.follow("/api/v1/services", {}):
            _take_in(self._services, event, Service, lambda service: service.name)
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
        """Stop listening; connections that are open go on."""
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
        """Connect a client to the first pod that takes the connection; without one, the client is refused."""
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
        """Write the addresses to a file, for `status` and tests."""
        table = {
            "/".join(name): [f"{address(spec.cluster_ip, self._network)}:{port.port}" for port in spec.ports]
            for name, (spec, _) in sorted(self._listening.items())
        }
        draft = self._record.with_suffix(".new")
        draft.write_text(json.dumps(table, indent=1))
        os.replace(draft, self._record)


def _take_in(known: dict[K, T], event: Event, kind: type[T], key: Callable[[T], K]) -> None:
    if event.kind == "synced":
        known.clear()
    for raw in event.objects:
        try:
            item = msgspec.convert(raw, kind)
        except msgspec.ValidationError as error:
            log.error("a %s can't be read and is ignored: %s", kind.__name__, error)  # noqa: TRY400  it says it all
            continue
        if event.kind == "gone":
            known.pop(key(item), None)
        else:
            known[key(item)] = item


async def _pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(CHUNK):
        sink.write(data)
        await sink.drain()
    sink.write_eof()


async def _run(kubeconfig: Path, network: str, record: Path) -> None:
    async with Api(access(kubeconfig)) as api:
        await Proxy(api, network, record, random.Random()).run()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m devcluster.services.proxy", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument(
        "--network", default="", help="the cluster's block, such as 127.77; empty: cluster IPs"
    )
    parser.add_argument("--record", type=Path, required=True, help="file that lists Services and addresses")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname).1s %(name)s: %(message)s")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(options.kubeconfig, options.network, options.record))


if __name__ == "__main__":
    main()
