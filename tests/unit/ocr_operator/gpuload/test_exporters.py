import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from aiohttp import web
from prometheus_client import CollectorRegistry

from ocr_operator.gpuload import dcgm
from ocr_operator.gpuload.exporters import Exporters
from ocr_operator.metrics import Metrics
from ocr_operator.pods import wire
from ocr_operator.resources.observed import Pod
from tests.support import fakepod
from tests.support.patience import PATIENCE

PORT = fakepod.free_port()
T0 = datetime(2026, 11, 23, 8, tzinfo=UTC)
LABELS = '{gpu="0",UUID="GPU-1",modelName="NVIDIA L40S"}'


def text(used: int) -> str:
    return f"{dcgm.FB_USED}{LABELS} {used}\n{dcgm.FB_FREE}{LABELS} {46068 - used}\n"


@asynccontextmanager
async def scraping(pods: list[Pod]) -> AsyncIterator[Exporters]:
    async with wire.session() as session:
        yield Exporters(
            session,
            lambda: pods,
            port=PORT,
            interval=1,
            now=lambda: T0,
            metrics=Metrics(CollectorRegistry()),
            rng=random.Random(1),
        )


def make_pod(ip: str, node: str = "gpu-a") -> Pod:
    return Pod(name=f"exporter-{node}", namespace="gpu-operator", uid=node, ip=ip, node=node, phase="Running")


async def test_readings_bear_the_pods_node_and_the_time() -> None:
    ip = fakepod.address()
    async with scraping([make_pod(ip)]) as exporters, fakepod.serve_metrics(lambda: text(100), ip, PORT):
        await exporters.scrape()

    [reading] = exporters.readings()
    assert (reading.node, reading.uuid, reading.read_at) == ("gpu-a", "GPU-1", T0)
    assert reading.memory_used_bytes == 100 * 2**20


async def test_silent_exporter_keeps_its_last_readings_and_a_gone_one_does_not() -> None:
    ip = fakepod.address()
    pods = [make_pod(ip)]
    async with scraping(pods) as exporters:
        async with fakepod.serve_metrics(lambda: text(100), ip, PORT):
            await exporters.scrape()
        await exporters.scrape()
        assert len(exporters.readings()) == 1

        pods.clear()
        await exporters.scrape()
        assert exporters.readings() == []


async def test_hostile_exporter_costs_nothing_but_its_own_readings() -> None:
    good, flood, redirect = fakepod.address(), fakepod.address(), fakepod.address()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            for _ in range(20):
                await response.write(b"x" * 2**20)
        except ConnectionError:
            pass
        return response

    async def away(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(location="http://127.0.0.1:1/metrics")

    runners = []
    for ip, handler in ((flood, endless), (redirect, away)):
        app = web.Application()
        app.add_routes([web.get("/metrics", handler)])
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.05)
        await runner.setup()
        await web.TCPSite(runner, ip, PORT, reuse_address=True).start()
        runners.append(runner)
    try:
        async with fakepod.serve_metrics(lambda: text(7), good, PORT):
            pods = [make_pod(good), make_pod(flood, "b"), make_pod(redirect, "c"), make_pod("nowhere", "d")]
            async with asyncio.timeout(PATIENCE), scraping(pods) as exporters:
                await exporters.scrape()
    finally:
        for runner in runners:
            await runner.cleanup()

    assert [each.node for each in exporters.readings()] == ["gpu-a"]
