"""Our exporter speaks the words of NVIDIA's, and the operator reads them."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from ocr_inference.config.settings import Settings
from ocr_inference.device import gpu, gpu_exporter, memory_accounting
from ocr_operator.gpuload import dcgm
from ocr_operator.gpuload.dcgm import GpuReading
from tests.support import fakepod, prometheus
from tests.support.paths import GOLDEN
from tests.support.patience import PATIENCE

GIB = 1 << 30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [{"uuid": f"GPU-{each}", "product": "NVIDIA-L40S", "memory_bytes": 45 * GIB} for each in "ab"]
    (tmp_path / "gpus.json").write_text(json.dumps(rows))
    memory_accounting.SimulatedMemoryAccounting(tmp_path, "GPU-b", os.getpid(), 45 * GIB).report(
        12 * GIB, 0.5
    )
    return tmp_path


def settings(folder: Path | None) -> Settings:
    return Settings(
        device="simulated", simulated_gpu_dir=folder, host=fakepod.address(), port=fakepod.free_port()
    )


@asynccontextmanager
async def scraped(folder: Path) -> AsyncIterator[str]:
    async with (
        gpu_exporter.serving(settings(folder), {"NODE_NAME": "gpu-a"}) as url,
        aiohttp.ClientSession() as http,
        http.get(url) as response,
    ):
        assert (response.status, response.content_type) == (200, "text/plain")
        yield await response.text()


@pytest.mark.parametrize("said", prometheus.ACCEPT)
async def test_prometheus_gets_the_format_that_it_prefers(folder: Path, said: str) -> None:
    header, media_type = prometheus.ACCEPT[said]
    async with (
        gpu_exporter.serving(settings(folder), {"NODE_NAME": "gpu-a"}) as url,
        aiohttp.ClientSession() as http,
        http.get(url, headers={"Accept": header}) as response,
    ):
        assert (response.status, response.headers["Content-Type"]) == (200, media_type)
        assert len(prometheus.families(await response.text(), media_type)) == 4


async def test_the_operator_reads_what_it_says(folder: Path) -> None:
    async with scraped(folder) as text:
        idle, busy = dcgm.parse(text, "")
    assert idle == GpuReading(
        node="gpu-a",
        uuid="GPU-a",
        index=0,
        product="NVIDIA-L40S",
        memory_used_bytes=0,
        memory_free_bytes=45 * GIB,
        memory_total_bytes=45 * GIB,
        utilization=0.0,
    )
    assert (busy.uuid, busy.index, busy.memory_used_bytes, busy.utilization) == ("GPU-b", 1, 12 * GIB, 0.5)


async def test_its_lines_are_those_of_the_stored_sample(folder: Path) -> None:
    """tests/golden/dcgm/own.txt is what other tests and the docs know of it."""
    async with scraped(folder) as text:
        assert text == (GOLDEN / "dcgm" / "own.txt").read_text()


async def test_gpus_that_cannot_be_read_are_an_error_and_no_empty_list(folder: Path) -> None:
    async with (
        gpu_exporter.serving(settings(folder), {}) as url,
        aiohttp.ClientSession() as http,
    ):
        (folder / "gpus.json").write_text("{")
        async with http.get(url) as response:
            assert response.status == 503
            assert "gpus.json" in await response.text()


async def test_half_open_heads_keep_no_reader_out(folder: Path) -> None:
    async with gpu_exporter.serving(settings(folder), {}) as url, aiohttp.ClientSession() as http:
        heads = []
        try:
            for _ in range(2 * gpu_exporter.LIMITS.total):
                heads.append(await asyncio.open_connection(URL(url).host, URL(url).port))
                heads[-1][1].write(b"GET /metrics HTTP/1.1\r\nX: ")
            for _ in range(3):
                async with http.get(url, headers={"Connection": "close"}) as response:
                    assert response.status == 200
        finally:
            for _, writer in heads:
                writer.close()


async def test_an_address_that_is_taken_is_named(folder: Path) -> None:
    one = settings(folder)
    async with gpu_exporter.serving(one, {}):
        with pytest.raises(gpu_exporter.CannotExport, match=f"can't listen at {one.host}:{one.port}"):
            async with gpu_exporter.serving(one, {}):
                pass


def test_the_command_serves_until_it_is_told_to_stop(folder: Path) -> None:
    one = settings(folder)
    environ = os.environ | {"OCR_DEVICE": "simulated", "OCR_SIMULATED_GPU_DIR": str(folder)}
    command = [
        sys.executable,
        "-m",
        "ocr_inference",
        "gpu-exporter",
        "--host",
        one.host,
        "--port",
        str(one.port),
    ]
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "exporting gpus=2" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE) == 0


async def test_without_a_driver_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(gpu.NoDevice, match=r"gpus\.json"):
        async with asyncio.timeout(PATIENCE), gpu_exporter.serving(settings(tmp_path), {}):
            pass
