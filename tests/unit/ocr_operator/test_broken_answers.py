"""An answer that ends in its midst is gone at once: a collection of garbage comes seldom, and megabytes would wait."""

import asyncio
import contextlib
import gc
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

import aiohttp
import pytest
from aiohttp import web
from kubernetes.aio import client as kubernetes_client
from prometheus_client import CollectorRegistry

from ocr_operator import kube
from ocr_operator.gpuload.exporters import Exporters
from ocr_operator.gpuload.prometheus import Prometheus
from ocr_operator.gpuload.trust import Trust
from ocr_operator.kube import api
from ocr_operator.metrics import Metrics
from ocr_operator.pods import wire
from ocr_operator.resources.observed import Owner, Pod
from tests.support import fakepod, webserver

SENT = 3 * 65536
"""Bytes: less than the longest event of a stream, which is refused before it breaks."""
KEPT = 50_000
"""A buffer of this size is part of what was sent."""
EXPORTER = Pod(
    name="exporter", namespace="gpu-operator", uid="e", node="gpu-a", phase="Running",
    ip=fakepod.address(), owner=Owner(kind="DaemonSet", name="dcgm-exporter", uid="1"),
)  # fmt: skip
Ask = Callable[[aiohttp.ClientSession, str], Awaitable[object]]


async def scrape(session: aiohttp.ClientSession, url: str) -> None:
    exporters = Exporters(
        session,
        lambda: [EXPORTER],
        trust=Trust(owners={"DaemonSet"}),
        port=int(url.rpartition(":")[2]),
        interval=1,
        now=lambda: datetime(2026, 12, 1, tzinfo=UTC),
        metrics=Metrics(CollectorRegistry()),
        rng=random.Random(1),
    )
    await exporters.scrape()
    assert not exporters.readings()


async def ask_prometheus(session: aiohttp.ClientSession, url: str) -> None:
    await Prometheus(
        session,
        f"{url}/",
        token_file="",
        nodes=dict,
        exporters=dict,
        interval=0.01,
        metrics=Metrics(CollectorRegistry()),
        rng=random.Random(1),
        on_first=lambda: None,
        on_round=lambda: None,
    ).ask()


async def listen(session: aiohttp.ClientSession, url: str) -> None:
    target = wire.Target(("default", "a"), "pod", "uid", EXPORTER.ip, int(url.rpartition(":")[2]))
    with contextlib.suppress(wire.PodError):
        await wire.listen(session, target, lambda _: None, "", idle_timeout=5)


async def ask_the_api_server(_: aiohttp.ClientSession, url: str) -> None:
    config = kubernetes_client.Configuration(host=url)
    config.client_session_kwargs = {"trust_env": False}
    raw = kubernetes_client.ApiClient(config)
    try:
        with contextlib.suppress(api.Unavailable):
            await kube.Client(raw, rng=random.Random(1)).get(api.Ref(api.POD, "default", "one"))
    finally:
        await raw.close()


@contextlib.asynccontextmanager
async def breaking(content_type: str) -> AsyncIterator[tuple[str, list[str]]]:
    """A server that sends a part of an answer, and hangs up; yields its URL, and what was asked for."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        response = web.StreamResponse(headers={"Content-Type": content_type})
        await response.prepare(request)
        for _ in range(SENT // 65536):
            await response.write(b"x" * 65536)
            await asyncio.sleep(0)
        assert request.transport is not None
        request.transport.close()
        return response

    app = web.Application()
    app.add_routes([web.route("*", "/{path:.*}", answer)])
    async with webserver.serving(app, EXPORTER.ip) as url:
        yield url, asked


@pytest.mark.parametrize(
    ("ask", "content_type"),
    [
        (scrape, "text/plain"),
        (ask_prometheus, "application/json"),
        (listen, "text/event-stream"),
        (ask_the_api_server, "application/json"),
    ],
)
async def test_what_was_read_of_it_waits_for_no_collection(ask: Ask, content_type: str) -> None:
    async with breaking(content_type) as (url, asked), wire.session() as session:
        await ask(session, url)  # what is loaded and cached once
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            await ask(session, url)
            gc.collect()
            waits = [
                len(each)
                for thing in gc.garbage
                for each in gc.get_referents(thing)
                if isinstance(each, bytes | bytearray) and len(each) > KEPT
            ]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    assert len(asked) == 2
    assert waits == []
