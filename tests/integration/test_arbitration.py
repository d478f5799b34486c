"""Two real servers on one simulated GPU that only one of them fits on at a time, and the real operator."""

import asyncio
from pathlib import Path
from typing import Any

from ocr_operator import api, names
from tests.support import pages
from tests.support.realpods import PATIENT, RealStage, apply_on_demand, read, real_stage, states
from tests.support.stage import until

GPU = "GPU-a0"
GPU_BYTES = 46_068 * 2**20
PAGE = pages.blank()
QUICK = {"arbitration_resident_seconds": 0.0} | PATIENT


async def two(stage: RealStage, **receipts: Any) -> tuple[str, str]:
    """`invoices` and `receipts`, which need 30 of 45 GiB each; the addresses of their servers."""
    await apply_on_demand(stage, "invoices")
    await apply_on_demand(stage, "receipts", **receipts)
    both = ("invoices", "receipts")
    await until(
        lambda: all(stage.holds("Ready", name=each) for each in both), within=60, what="both are ready"
    )
    pods = stage.objects(api.POD)
    for name in both:
        placed = pods[stage.pod_of(name)]["metadata"]["annotations"]
        assert placed[names.ANNOTATION_GPU_UUIDS] == GPU
    return stage.url("invoices"), stage.url("receipts")


def events(stage: RealStage, reason: str) -> dict[str, str]:
    """The message of an Event, by the resource that it is about."""
    return {
        each["involvedObject"]["name"]: each["message"]
        for each in stage.objects(api.EVENT).values()
        if each["reason"] == reason
    }


def count(stage: RealStage, metric: str, **labels: str) -> float:
    return stage.registry.get_sample_value(metric, labels) or 0.0


async def state(url: str) -> dict[str, Any]:
    async for model in states(url):
        return model
    raise AssertionError("no state")


async def test_an_idle_model_makes_way_for_one_that_is_waited_for(tmp_path: Path) -> None:
    async with real_stage(tmp_path, options={}, **QUICK) as stage:
        invoices, receipts = await two(stage)
        assert (await read(invoices, PAGE))[0] == 200
        assert stage.held(GPU) == 30 * 2**30

        waiting: list[dict[str, Any]] = []

        async def follow() -> None:
            async for model in states(receipts):
                waiting.extend([model] if model["waits_for"] else [])

        following = asyncio.create_task(follow())
        status, body = await read(receipts, PAGE)
        assert status == 200, body
        assert waiting, "it said so in between"
        assert waiting[0]["waits_for"]["needed_bytes"] == 30 * 2**30
        assert waiting[0]["waits_for"]["free_bytes"] == GPU_BYTES - 30 * 2**30
        assert waiting[0]["idle_since"] is None
        following.cancel()

        assert (await state(invoices))["state"] == "offloaded"
        assert stage.held(GPU) == 30 * 2**30
        await until(lambda: events(stage, "GpuMemoryFreed") and events(stage, "GpuMemoryYielded"), within=20)
        assert events(stage, "GpuMemoryYielded")["invoices"].startswith(
            f"pp-ocr of default/{stage.pod_of('invoices')} makes way on GPU-a0 (30Gi, priority 0) for "
            f"pp-ocr of default/{stage.pod_of('receipts')}, which lacks 15"
        )
        assert "gets 30Gi of GPU-a0 from" in events(stage, "GpuMemoryFreed")["receipts"]
        await until(lambda: count(stage, "ocr_operator_arbitration_seconds_count") == 1, within=20)
        assert count(stage, "ocr_operator_arbitration_asks_total", result="offloaded") == 1
        await until(lambda: count(stage, "ocr_operator_arbitration_waiting") == 0, within=20)

        # And back again, after a restart of the operator, which knows nothing of all that.
        await stage.kill()
        await stage.start(**QUICK)
        status, body = await read(invoices, PAGE)
        assert status == 200, body
        assert (await state(receipts))["state"] == "offloaded"


async def test_a_model_in_use_is_waited_for_and_never_moved(tmp_path: Path) -> None:
    async with real_stage(tmp_path, options={"infer_seconds": 1.5}, **QUICK) as stage:
        invoices, receipts = await two(stage)
        reading = asyncio.create_task(read(invoices, PAGE))
        async for model in states(invoices):
            if model["in_flight"]:
                break
        status, _ = await read(receipts, PAGE)
        assert status == 200
        assert reading.done(), "the memory came when the page was read"
        assert (await reading)[0] == 200
        assert count(stage, "ocr_operator_arbitration_asks_total", result="offloaded") == 1


async def test_without_the_operator_the_waiter_is_refused_or_helped_by_a_timer(tmp_path: Path) -> None:
    async with real_stage(tmp_path, options={}, **QUICK) as stage:
        invoices, receipts = await two(stage, queue={"patienceSeconds": 2})
        await read(invoices, PAGE)
        await stage.kill()
        status, body = await read(receipts, PAGE)
        assert (status, body["error"]["code"]) == (503, "gpu_memory"), body
        assert "offload an idle model on that GPU" in body["error"]["message"]
        assert (await state(invoices))["state"] == "ready"
        await stage.start(**QUICK)
        assert (await read(receipts, PAGE))[0] == 200


async def test_who_may_not_be_asked_is_told_about(tmp_path: Path) -> None:
    async with real_stage(tmp_path, options={}, **QUICK) as stage:
        invoices, receipts = await two(stage, queue={"patienceSeconds": 4}, model={"priority": -1})
        await read(invoices, PAGE)
        status, body = await read(receipts, PAGE)
        assert (status, body["error"]["code"]) == (503, "gpu_memory")
        assert "of 1 model there 1 is of higher priority" in events(stage, "GpuMemoryShort")["receipts"]
        assert (await state(invoices))["state"] == "ready"


async def test_a_race_for_free_memory_leaves_one_resident_and_serves_both(tmp_path: Path) -> None:
    async with real_stage(tmp_path, options={"load_seconds": 0.3}, **QUICK) as stage:
        urls = await two(stage)
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, stage.held(GPU))
                await asyncio.sleep(0.002)

        watching = asyncio.create_task(watch())
        for _ in range(3):
            answers = await asyncio.gather(*(read(url, PAGE) for url in urls))
            assert [status for status, _ in answers] == [200, 200]
        watching.cancel()
        assert 30 * 2**30 <= most <= GPU_BYTES
