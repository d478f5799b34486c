"""`ocr-inference gpu-exporter`: the load of a node's GPUs in the words of NVIDIA's DCGM exporter.

For clusters without DCGM: the same metric names and labels, read through NVML, so a reader of that exporter (such as
the operator) reads this one without being configured for it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder

from ocr_inference.config.settings import Settings
from ocr_inference.connections import listening
from ocr_inference.connections.connection import Connection
from ocr_inference.connections.limits import Limits
from ocr_inference.connections.owner import Connections
from ocr_inference.connections.phases import Kind
from ocr_inference.device import gpu_usage
from ocr_inference.device.gpu import NoDevice
from ocr_inference.device.gpu_usage import GpuUsageReader, Measured
from ocr_inference.errors import ApiError
from ocr_wire import accept

PORT = 9400
"""As NVIDIA's exporter."""
MIB = 1 << 20
LIMITS = Limits(ordinary=16, looks=16, total=32, arrivals=256)
"""Of connections: a few readers ask every few seconds."""
LABELS = ("gpu", "UUID", "device", "modelName", "Hostname")

log = logging.getLogger(__name__)


def render(found: Iterable[Measured], hostname: str, accepted: str = "") -> tuple[bytes, str]:
    """Return the exposition in the format that a header `Accept` prefers, and its media type.

    Memory is in MiB, utilisation in percent, as DCGM counts. Every GPU has its node's name.
    """
    families = {
        name: GaugeMetricFamily(name, text, labels=LABELS)
        for name, text in (
            ("DCGM_FI_DEV_FB_TOTAL", "Framebuffer memory (in MiB)."),
            ("DCGM_FI_DEV_FB_USED", "Framebuffer memory used (in MiB)."),
            ("DCGM_FI_DEV_FB_FREE", "Framebuffer memory free (in MiB)."),
            ("DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %)."),
        )
    }
    for each in found:
        total, used = each.gpu.memory_bytes // MIB, -(-each.used_bytes // MIB)
        labels = [str(each.index), each.gpu.uuid, f"nvidia{each.index}", each.gpu.product, hostname]
        values = {"TOTAL": total, "USED": used, "FREE": max(0, total - used)}
        for name, value in values.items():
            families[f"DCGM_FI_DEV_FB_{name}"].add_metric(labels, value)
        if each.utilization is not None:
            families["DCGM_FI_DEV_GPU_UTIL"].add_metric(labels, round(each.utilization * 100))
    registry = CollectorRegistry()
    registry.register(_Families(families.values()))
    encode, media_type = choose_encoder(accept.metrics(accepted))
    return encode(registry), media_type


class CannotExport(Exception):
    """Address that is taken or isn't this machine's."""


@asynccontextmanager
async def serving(settings: Settings, environ: Mapping[str, str]) -> AsyncIterator[str]:
    """Serve `/metrics` and `/health` while the block runs; yields the URL. Raises `NoDevice` where there is no
    driver, and `CannotExport`."""
    simulated = settings.simulated_gpu_dir if settings.device in ("auto", "simulated") else None
    hostname = environ.get("NODE_NAME") or environ.get("HOSTNAME", "")
    with gpu_usage.opened(simulated) as usage_reader:
        found = usage_reader.read()
        try:
            listener = listening.listen(settings.host, settings.port, LIMITS.times.stalled)
        except listening.CannotListen as error:
            option = "--host" if error.is_of_host else "--port"
            raise CannotExport(f"{error}; choose another {option}") from error
        runner = web.AppRunner(application(usage_reader, hostname), shutdown_timeout=1.0)
        try:
            await runner.setup()
            assert runner.server is not None
            connections = Connections(runner.server, LIMITS, _render, ended=lambda _: None)
            async with connections.accepting(listener):
                url = f"{listening.url(listener)}/metrics"
                log.info("exporting gpus=%d url=%s node=%s", len(found), url, hostname)
                yield url
        finally:
            await runner.cleanup()
            listener.close()


@web.middleware
async def _admit(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    connection = request.protocol
    assert isinstance(connection, Connection)
    if connection.begin(request, Kind.LOOK):
        return await handler(request)
    response = web.Response(status=503, text="too many requests at the same time\n")
    response.force_close()
    return response


def _render(error: ApiError | None, _: web.BaseRequest) -> web.Response:
    if error is None:
        return web.Response(status=500, text="the exporter has a fault, see its log\n")
    return web.Response(status=error.status, text=f"{error.message}\n")


def application(usage_reader: GpuUsageReader, hostname: str) -> web.Application:
    async def metrics(request: web.Request) -> web.Response:
        try:
            found = await asyncio.to_thread(usage_reader.read)
        except NoDevice as error:
            return web.Response(status=503, text=f"{error}\n")
        body, media_type = render(found, hostname, ",".join(request.headers.getall("Accept", ())))
        return web.Response(body=body, headers={"Content-Type": media_type, "Vary": "Accept"})

    async def health(_: web.Request) -> web.Response:
        return web.Response(text="OK")

    app = web.Application(middlewares=[_admit])
    app.add_routes([web.get("/metrics", metrics), web.get("/health", health)])
    return app


class _Families:
    """Collector of one scrape's families."""

    def __init__(self, families: Iterable[GaugeMetricFamily]) -> None:
        self._families = families

    def collect(self) -> Iterable[GaugeMetricFamily]:
        return self._families
