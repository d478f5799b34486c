"""What the state says of the whole GPU: in steps, smoothed, and whether the placement's promise was kept."""

import asyncio
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.api.control import telemetry
from ocr_inference.api.control.telemetry import Telemetry
from ocr_inference.config.settings import Settings
from ocr_inference.device import choosing, gpu, memory_accounting
from ocr_inference.device.gpu import Device
from ocr_inference.device.gpu_usage import SimulatedGpuUsage
from ocr_wire.state import WholeGpu
from tests.support.patience import PATIENCE

GIB = 1 << 30
TOTAL = 64 * GIB


def usage(used: int, busy: float | None) -> WholeGpu:
    return WholeGpu(memory_used_bytes=used, memory_total_bytes=TOTAL, utilization=busy)


REPORTED = usage(8 * GIB, 0.5)


@pytest.mark.parametrize(
    ("used", "busy", "news"),
    [
        (8 * GIB, 0.5, False),
        (9 * GIB - 1, 0.59, False),
        (9 * GIB, 0.5, True),
        (7 * GIB, 0.5, True),
        (8 * GIB, 0.61, True),
        (8 * GIB, 0.3, True),
        (8 * GIB, None, True),
    ],
)
def test_a_number_is_told_anew_when_it_moved_by_a_step(used: int, busy: float | None, news: bool) -> None:
    now = usage(used, busy)
    assert telemetry.next_report(REPORTED, now) == (now if news else REPORTED)


def test_what_is_new_or_gone_is_told() -> None:
    assert telemetry.next_report(None, REPORTED) == REPORTED
    assert telemetry.next_report(REPORTED, None) is None


@given(st.lists(st.floats(0, 1), max_size=200))
def test_jitter_below_a_step_is_told_once(noise: list[float]) -> None:
    reported, news = REPORTED, 0
    for each in noise:
        measured = usage(8 * GIB + int(each * (GIB - 1)), 0.5 + each * 0.09)
        now = telemetry.next_report(reported, measured)
        assert now is not None
        news += now != reported
        reported = now
    assert news == 0


@given(st.floats(0, 1), st.floats(0, 1), st.floats(-10, 1e6))
def test_the_average_stays_between_its_inputs(before: float, value: float, seconds: float) -> None:
    answer = telemetry.smooth(before, value, seconds)
    assert answer is not None
    assert min(before, value) - 1e-9 <= answer <= max(before, value) + 1e-9


@pytest.mark.parametrize(
    ("promised", "device", "text"),
    [
        ((), Device("cuda", "GPU-1"), ""),
        (("GPU-1",), Device("cuda", "GPU-1"), ""),
        (("GPU-2", "GPU-1"), Device("cuda", "GPU-1"), ""),
        (("GPU-2",), Device("cuda", "GPU-1"), "promised GPU-2, but got GPU-1"),
        (("GPU-2",), Device("cpu"), "promised GPU-2, but there is no GPU here; serving on the CPU"),
    ],
)
def test_a_broken_promise_is_named(promised: tuple[str, ...], device: Device, text: str) -> None:
    assert telemetry.mismatch(promised, device) == text


def simulated(folder: Path) -> Path:
    rows = [{"uuid": f"GPU-{each}", "product": "NVIDIA-L40S", "memory_bytes": TOTAL} for each in "ab"]
    (folder / "gpus.json").write_text(json.dumps(rows))
    return folder


def test_a_pod_that_got_another_gpu_serves_on_it(tmp_path: Path) -> None:
    """Its state says so; a pod in a crash loop would say less."""
    settings = Settings(device="simulated", simulated_gpu_dir=simulated(tmp_path), visible_devices="GPU-x")
    with pytest.raises(gpu.NoDevice, match="GPU-x"):
        choosing.resolve(settings)
    promised = Settings(
        device="simulated",
        simulated_gpu_dir=tmp_path,
        visible_devices="GPU-x",
        promised_gpu_uuids=("GPU-x",),
    )
    device = choosing.resolve(promised)
    assert telemetry.mismatch(promised.promised_gpu_uuids, device) == "promised GPU-x, but got GPU-a"


@pytest.mark.parametrize("visible", [None, "all", "void"])
def test_a_claimed_gpu_is_served_on_whatever_the_variable_says(tmp_path: Path, visible: str | None) -> None:
    """Container runtimes that inject a device by CDI set the variable to `void`."""
    settings = Settings(
        device="simulated",
        simulated_gpu_dir=simulated(tmp_path),
        visible_devices=visible,
        promised_gpu_uuids=("GPU-b",),
    )
    assert choosing.resolve(settings).uuid == "GPU-b"


def test_the_whole_gpu_is_measured_with_others_use(tmp_path: Path) -> None:
    simulated(tmp_path)
    first, second = (
        memory_accounting.SimulatedMemoryAccounting(tmp_path, "GPU-b", pid, 45 * GIB)
        for pid in (1, os.getpid())
    )
    first.report(3 * GIB, 0.75)
    second.report(2 * GIB, 0.75)
    a, b = SimulatedGpuUsage(tmp_path).read()
    assert (a.index, a.used_bytes, a.utilization) == (0, 0, 0.0)
    assert (b.index, b.gpu.uuid, b.used_bytes, b.utilization) == (1, "GPU-b", 5 * GIB, 1.0)


async def test_changes_are_published_and_a_cpu_has_none(tmp_path: Path) -> None:
    simulated(tmp_path)
    measuring = Telemetry(Device("simulated", "GPU-a", "NVIDIA-L40S", TOTAL), tmp_path, lambda: 0.0)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(measuring.run())
        async with asyncio.timeout(PATIENCE):
            assert (await measuring.latest.after(0))[1] == usage(0, 0.0)
        running.cancel()

    on_cpu = Telemetry(Device("cpu"), None, lambda: 0.0)
    await on_cpu.run()
    assert on_cpu.latest.value is None


async def test_a_folder_that_goes_away_ends_the_measurement_and_nothing_else(tmp_path: Path) -> None:
    device = Device("simulated", "GPU-a", "NVIDIA-L40S", TOTAL)
    measuring = Telemetry(device, tmp_path / "gone", lambda: 0.0)
    await measuring.run()
    assert measuring.latest.value is None
