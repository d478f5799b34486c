"""`ocr-inference gpu-exporter`: the load of a node's GPUs in the words of NVIDIA's DCGM exporter.

For clusters without DCGM: the same metric names and labels, read through NVML, so a reader of that exporter (such as
the operator) reads this one without being configured for it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily

from ocr_inference.config.settings import Settings
from ocr_inference.device import gpu_usage
from ocr_inference.device.gpu import NoDevice
from ocr_inference.device.gpu_usage import GpuUsageReader, Measured

PORT = 9400
"""As NVIDIA's exporter."""
MIB = 1 << 20
LABELS = ("gpu", "UUID", "device", "modelName", "Hostname")

log = logging.getLogger(__name__)


def render(found: Iterable[Measured], hostname: str) -> bytes:
    """Render the exposition: memory in MiB, utilisation in percent, as DCGM counts. Every GPU has its node's name."""
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
    return generate_latest(registry)


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
        runner = web.AppRunner(application(usage_reader, hostname), access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, settings.host, settings.port).start()
            host, port = runner.addresses[0][:2]
            log.info("exporting gpus=%d address=%s:%d node=%s", len(found), host, port, hostname)
            yield f"http://{host}:{port}/metrics"
        except OSError as error:
            at = f"{settings.host}:{settings.port}"
            raise CannotExport(f"can't listen at {at}: {error.strerror}; choose another --port") from error
        finally:
            await runner.cleanup()


def application(usage_reader: GpuUsageReader, hostname: str) -> web.Application:
    async def metrics(_: web.Request) -> web.Response:
        try:
            found = await asyncio.to_thread(usage_reader.read)
        except NoDevice as error:
            return web.Response(status=503, text=f"{error}\n")
        return web.Response(body=render(found, hostname), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    async def health(_: web.Request) -> web.Response:
        return web.Response(text="OK")

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/health", health)])
    return app


class _Families:
    """Collector of one scrape's families."""

    def __init__(self, families: Iterable[GaugeMetricFamily]) -> None:
        self._families = families

    def collect(self) -> Iterable[GaugeMetricFamily]:
        return self._families
