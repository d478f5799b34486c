"""Services in user space: who is an endpoint, who is tried next, and that no byte is lost."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from devcluster.kube import model
from devcluster.kube.api import Access, Api
from devcluster.services import routing as services
from devcluster.services.proxy import Proxy
from devcluster.services.routing import Service, ServicePort
from tests.support import fakepod
from tests.support.stage import until


def raw_service(
    name: str = "invoices", port: int = 80, target: int | str = "http", **spec: Any
) -> dict[str, Any]:
    ports = [{"port": port, "targetPort": target, "protocol": "TCP"}]
    body = {"clusterIP": "10.96.1.7", "selector": {"app": "x", "awake": "true"}, "ports": ports} | spec
    return {"metadata": {"name": name, "namespace": "default", "resourceVersion": "1"}, "spec": body}


def raw_pod(name: str, ip: str, port: int = 8001, *, ready: bool = True, **changes: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", "uid": name, "labels": {"app": "x", "awake": "true"}}
    ports = [{"name": "http", "containerPort": port}]
    return {
        "metadata": metadata | changes | {"resourceVersion": "1"},
        "spec": {"containers": [{"name": "c", "ports": ports}]},
        "status": {"podIP": ip, "conditions": [{"type": "Ready", "status": str(ready)}]},
    }


SERVICE = msgspec.convert(raw_service(), Service)
NAMED = ServicePort(port=80, target_port="http")


def test_endpoints_are_ready_pods_of_the_namespace_with_the_labels() -> None:
    pods = [
        raw_pod("a", "127.0.0.1"),
        raw_pod("b", "127.0.0.2", ready=False),
        raw_pod("c", "127.0.0.3", labels={"app": "x", "awake": "false"}),
        raw_pod("d", "127.0.0.4", namespace="other"),
        raw_pod("e", "127.0.0.5", deletionTimestamp="2026-11-23T08:00:00Z"),
        raw_pod("f", ""),
    ]
    assert services.endpoints(SERVICE, NAMED, map(model.pod, pods)) == [("127.0.0.1", 8001)]


def test_service_that_publishes_addresses_of_pods_that_are_not_ready_has_all_but_those_that_ended() -> None:
    ended = raw_pod("e", "127.0.0.5", ready=False)
    ended["status"]["phase"] = "Failed"
    pods = [
        raw_pod("a", "127.0.0.1"),
        raw_pod("b", "127.0.0.2", ready=False),
        raw_pod("c", "127.0.0.3", labels={"app": "x", "awake": "false"}),
        raw_pod("d", "127.0.0.4", deletionTimestamp="2026-11-23T08:00:00Z"),
        ended,
    ]
    everybody = msgspec.convert(raw_service(clusterIP="None", publishNotReadyAddresses=True), Service)
    found = services.endpoints(everybody, NAMED, map(model.pod, pods))
    assert [address for address, _ in found] == ["127.0.0.1", "127.0.0.2", "127.0.0.4"]


@pytest.mark.parametrize(("target", "number"), [(9000, 9000), (0, 80), ("http", 8001)])
def test_target_ports(target: int | str, number: int) -> None:
    port = ServicePort(port=80, target_port=target)
    [(_, found)] = services.endpoints(SERVICE, port, [model.pod(raw_pod("a", "127.0.0.1"))])
    assert found == number


def test_an_unknown_port_name_has_no_endpoint() -> None:
    port = ServicePort(port=80, target_port="grpc")
    assert services.endpoints(SERVICE, port, [model.pod(raw_pod("a", "127.0.0.1"))]) == []


def test_each_cluster_ip_has_its_address_beside_those_of_nodes() -> None:
    assert services.address("10.96.0.1", "127.77") == "127.77.128.1"
    assert services.address("10.96.127.254", "127.77") == "127.77.255.254"


@pytest.mark.parametrize("spec", [{"clusterIP": "None"}, {"selector": {}}])
def test_services_that_are_not_served(spec: dict[str, Any]) -> None:
    assert SERVICE.served
    assert not msgspec.convert(raw_service(**spec), Service).served


# --- connections --------------------------------------------------------------------------------------------------


class Apis:
    """An API server of lists that never change."""

    def __init__(self, services: list[dict[str, Any]], pods: list[dict[str, Any]]) -> None:
        self.lists = {"services": services, "pods": pods}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if "watch" in request.query:
            response = web.StreamResponse()
            await response.prepare(request)
            await asyncio.Event().wait()
        items = self.lists[request.match_info["kind"]]
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": items})


@asynccontextmanager
async def proxied(pods: list[dict[str, Any]], record: Path) -> AsyncIterator[tuple[str, int]]:
    """The address of a Service in front of the pods."""
    port = fakepod.free_port()
    app = web.Application()
    app.router.add_get("/api/v1/{kind}", Apis([raw_service(port=port)], pods).answer)
    network = ".".join(fakepod.address().split(".")[:2])
    async with TestServer(app) as server, Api(Access(str(server.make_url("")), "token", None, None)) as api:
        ours = Proxy(api, network, record, random.Random(1))
        running = asyncio.create_task(ours.run())
        try:
            await until(lambda: record.is_file() and json.loads(record.read_text()) and ours._pods)
            yield services.address("10.96.1.7", network), port
        finally:
            running.cancel()
            await asyncio.wait([running])


@asynccontextmanager
async def echo(word: bytes) -> AsyncIterator[tuple[str, int]]:
    """A server that answers with its word and all that it was sent, once the client has said everything."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(word + await reader.read())
        await writer.drain()
        writer.close()

    host, port = fakepod.address(), fakepod.free_port()
    async with await asyncio.start_server(answer, host, port):
        yield host, port


async def ask(where: tuple[str, int], said: bytes = b"") -> bytes:
    reader, writer = await asyncio.open_connection(*where)
    try:
        writer.write(said)
        writer.write_eof()
        return await reader.read()
    except ConnectionError:
        return b"refused"
    finally:
        writer.transport.abort()


async def test_connections_are_spread_and_no_byte_is_lost(tmp_path: Path) -> None:
    async with echo(b"one ") as one, echo(b"two ") as two:
        pods = [raw_pod("a", *one), raw_pod("b", *two)]
        async with proxied(pods, tmp_path / "services.json") as service:
            said = bytes(range(256)) * 2000
            answers = await asyncio.gather(*(ask(service, said) for _ in range(20)))
    assert {answer[:4] for answer in answers} == {b"one ", b"two "}
    assert {answer[4:] for answer in answers} == {said}


async def test_a_pod_that_refuses_is_passed_over(tmp_path: Path) -> None:
    async with echo(b"one ") as one:
        pods = [raw_pod("a", *one), raw_pod("b", fakepod.address(), fakepod.free_port())]
        async with proxied(pods, tmp_path / "services.json") as service:
            assert {await ask(service, b"hello") for _ in range(10)} == {b"one hello"}


async def test_without_a_ready_pod_the_client_is_refused(tmp_path: Path) -> None:
    pods = [raw_pod("a", "127.0.0.1", ready=False)]
    async with proxied(pods, tmp_path / "services.json") as service:
        assert await ask(service, b"hello") in (b"", b"refused")
