"""Two servers on one GPU that only one of them fits on at a time, and the real operator: first real servers on a
simulated GPU, then pods that say what the test wants."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from ocr_operator.kube import api
from ocr_wire import names
from tests.support import pages
from tests.support.fakepod import FakePod
from tests.support.patience import PATIENCE
from tests.support.realpods import PATIENT, RealStage, apply_on_demand, read, real_stage, states
from tests.support.stage import Stage, stage, until

GPU = "GPU-a0"
GPU_BYTES = 46_068 * 2**20
PAGE = pages.blank()
ASKS = "ocr_operator_arbitration_asks_total"
QUICK = {"arbitration_resident_seconds": 0.0} | PATIENT


async def two(cluster: RealStage, **receipts: Any) -> tuple[str, str]:
    """`invoices` and `receipts`, which need 30 of 45 GiB each; the addresses of their servers."""
    await apply_on_demand(cluster, "invoices")
    await apply_on_demand(cluster, "receipts", **receipts)
    both = ("invoices", "receipts")
    await until(lambda: all(cluster.holds("Ready", name=each) for each in both), what="both are ready")
    pods = cluster.objects(api.POD)
    for name in both:
        placed = pods[cluster.pod_of(name)]["metadata"]["annotations"]
        assert placed[names.ANNOTATION_GPU_UUIDS] == GPU
    return cluster.url("invoices"), cluster.url("receipts")


def events(cluster: Stage, reason: str) -> dict[str, str]:
    """The message of an Event, by the resource that it is about."""
    return {
        each["involvedObject"]["name"]: each["message"]
        for each in cluster.objects(api.EVENT).values()
        if each["reason"] == reason
    }


def count(cluster: Stage, metric: str, **labels: str) -> float:
    return cluster.registry.get_sample_value(metric, labels) or 0.0


async def state(url: str) -> dict[str, Any]:
    async for model in states(url):
        return model
    raise AssertionError("no state")


async def test_an_idle_model_makes_way_for_one_that_is_waited_for(tmp_path: Path) -> None:
    async with real_stage(tmp_path, options={}, **QUICK) as cluster:
        invoices, receipts = await two(cluster)
        assert (await read(invoices, PAGE))[0] == 200
        assert cluster.held(GPU) == 30 * 2**30

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
        assert cluster.held(GPU) == 30 * 2**30
        await until(lambda: events(cluster, "GpuMemoryFreed") and events(cluster, "GpuMemoryYielded"))
        assert events(cluster, "GpuMemoryYielded")["invoices"].startswith(
            f"pp-ocr of default/{cluster.pod_of('invoices')} makes way on GPU-a0 (30Gi, priority 0) for "
            f"pp-ocr of default/{cluster.pod_of('receipts')}, which lacks 15"
        )
        assert "gets 30Gi of GPU-a0 from" in events(cluster, "GpuMemoryFreed")["receipts"]
        await until(lambda: count(cluster, "ocr_operator_arbitration_seconds_count") == 1)
        assert count(cluster, ASKS, result="offloaded") == 1
        await until(lambda: count(cluster, "ocr_operator_arbitration_waiting") == 0)

        # And back again, after a restart of the operator, which knows nothing of all that.
        await cluster.kill()
        await cluster.start(**QUICK)
        status, body = await read(invoices, PAGE)
        assert status == 200, body
        assert (await state(receipts))["state"] == "offloaded"


async def test_a_model_in_use_is_waited_for_and_never_moved(tmp_path: Path) -> None:
    async with real_stage(tmp_path, options={"infer_seconds": 1.5}, **QUICK) as cluster:
        invoices, receipts = await two(cluster)
        reading = asyncio.create_task(read(invoices, PAGE))
        async for model in states(invoices):
            if model["in_flight"]:
                break
        status, _ = await read(receipts, PAGE)
        assert status == 200
        assert reading.done(), "the memory came when the page was read"
        assert (await reading)[0] == 200
        assert count(cluster, ASKS, result="offloaded") == 1


async def test_without_the_operator_the_waiter_is_refused_and_with_it_helped(tmp_path: Path) -> None:
    async with real_stage(tmp_path, options={}, **QUICK) as cluster:
        invoices, receipts = await two(cluster, queue={"patienceSeconds": 2})
        await read(invoices, PAGE)
        await cluster.kill()
        status, body = await read(receipts, PAGE)
        assert (status, body["code"]) == (503, "gpu_memory"), body
        assert "offload an idle model on that GPU" in body["error"]
        assert (await state(invoices))["state"] == "ready"
        await cluster.start(**QUICK)
        async with asyncio.timeout(PATIENCE):
            while (await read(receipts, PAGE))[0] != 200:  # the operator may need longer than the waiter has
                pass


async def test_who_may_not_be_asked_is_told_about(tmp_path: Path) -> None:
    async with real_stage(tmp_path, options={}, **QUICK) as cluster:
        invoices, receipts = await two(cluster, queue={"patienceSeconds": 4}, model={"priority": -1})
        await read(invoices, PAGE)
        async with asyncio.timeout(PATIENCE):
            while "receipts" not in events(cluster, "GpuMemoryShort"):  # as above
                status, body = await read(receipts, PAGE)
                assert (status, body["code"]) == (503, "gpu_memory")
        assert "of 1 model there 1 is of higher priority" in events(cluster, "GpuMemoryShort")["receipts"]
        assert (await state(invoices))["state"] == "ready"


async def test_a_race_for_free_memory_leaves_one_resident_and_serves_both(tmp_path: Path) -> None:
    async with real_stage(tmp_path, options={"load_seconds": 0.3}, **QUICK) as cluster:
        urls = await two(cluster)
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, cluster.held(GPU))
                await asyncio.sleep(0.002)

        watching = asyncio.create_task(watch())
        for _ in range(3):
            answers = await asyncio.gather(*(read(url, PAGE) for url in urls))
            assert [status for status, _ in answers] == [200, 200]
        watching.cancel()
        assert 30 * 2**30 <= most <= GPU_BYTES


# --- pods that say what the test wants ------------------------------------------------------------------------

WAITS = {
    "waiting": 1,
    "waits_for": {"needed_bytes": 2**62, "free_bytes": 0, "since": "1970-01-01T00:00:00Z"},
}
HOLDS = {
    "memory_bytes": 2**62,
    "since": "2026-11-23T08:00:00Z",
    "idle_since": "2026-11-23T08:00:00Z",
    "waits_for": None,
}


@contextlib.asynccontextmanager
async def acted(**settings: Any) -> AsyncIterator[tuple[Stage, FakePod, FakePod]]:
    """A pod that will wait and one that holds the memory, both on the one GPU."""
    async with stage(gpus={"gpu-a": {GPU: 0}}, **(QUICK | settings)) as cluster:
        await apply_on_demand(cluster, "receipts")
        await apply_on_demand(cluster, "invoices")
        both = ("receipts", "invoices")
        await until(lambda: all(cluster.holds("Ready", name=each) for each in both))
        pods = {_resource(cluster, name): pod for name, pod in cluster.pods.items()}
        for pod in pods.values():
            pod.device["uuid"] = GPU
        pods["invoices"].more = dict(HOLDS)
        pods["invoices"].change(pp_ocr=("ready", "gpu"))
        yield cluster, pods["receipts"], pods["invoices"]


def _resource(cluster: Stage, pod: str) -> str:
    found: str = cluster.objects(api.POD)[pod]["metadata"]["labels"][names.LABEL_DEPLOYMENT]
    return found


def wait_for_memory(pod: FakePod) -> None:
    pod.more = dict(WAITS)
    pod.tell()


async def test_the_pod_is_asked_with_its_own_token_and_the_minimum_residence() -> None:
    async with acted(arbitration_resident_seconds=3.0) as (cluster, receipts, invoices):
        wait_for_memory(receipts)
        await until(lambda: count(cluster, ASKS, result="offloaded") == 1)
        assert invoices.offloads == [{"model": "pp-ocr", "if_idle": True, "min_resident_seconds": 3.0}]
        assert receipts.offloads == []


async def test_a_pod_that_never_has_enough_is_bounded_and_told_so() -> None:
    async with acted(arbitration_asks_per_minute=3) as (cluster, receipts, invoices):

        async def again(request: web.Request) -> web.StreamResponse:
            invoices.tell()
            return web.json_response({"success": True})

        invoices.answer_offload = again
        wait_for_memory(receipts)
        await until(lambda: "3 asks a minute" in events(cluster, "GpuMemoryShort").get("receipts", ""))
        assert len(invoices.offloads) == 3


@pytest.mark.parametrize(
    ("status", "text", "result"),
    [(409, "{}", "busy"), (500, "oops", "failed"), (302, "", "failed"), (200, "x" * 100_000, "failed")],
)
async def test_a_pod_that_does_not_go_is_left_alone(status: int, text: str, result: str) -> None:
    async with acted() as (cluster, receipts, invoices):

        async def refuse(request: web.Request) -> web.StreamResponse:
            return web.Response(status=status, text=text, headers={"Location": "/livez"})

        invoices.answer_offload = refuse
        wait_for_memory(receipts)
        await until(lambda: count(cluster, ASKS, result=result) == 1)
        await until(lambda: events(cluster, "GpuMemoryShort").get("receipts"))
        assert len(invoices.offloads) == 1
        assert not events(cluster, "GpuMemoryYielded")


async def test_a_pod_that_claims_a_gpu_it_was_not_placed_on_causes_nothing() -> None:
    async with acted() as (cluster, receipts, invoices):
        receipts.device["uuid"] = "GPU-elsewhere"
        wait_for_memory(receipts)
        await until(lambda: cluster.condition("Degraded", "receipts").get("reason") == "WrongGpu")
        assert invoices.offloads == []
        receipts.device["uuid"] = GPU
        receipts.tell()
        await until(lambda: invoices.offloads)


async def test_a_pod_that_goes_while_it_is_asked_harms_nobody() -> None:
    async with acted() as (cluster, receipts, invoices):
        hung = asyncio.Event()

        async def hang(request: web.Request) -> web.StreamResponse:
            hung.set()
            await asyncio.sleep(60)
            return web.Response()

        invoices.answer_offload = hang
        wait_for_memory(receipts)
        await hung.wait()
        await cluster.end(invoices.name)
        await until(lambda: count(cluster, ASKS, result="failed") == 1)
        await cluster.apply("receipts", replicas=1, idle={"offloadAfterSeconds": 5})
        await until(lambda: cluster.applied("receipts"))


async def test_an_operator_that_restarts_in_the_middle_of_an_ask_asks_again() -> None:
    async with acted() as (cluster, receipts, invoices):
        asked = asyncio.Event()

        async def hang(request: web.Request) -> web.StreamResponse:
            asked.set()
            await asyncio.sleep(60)
            return web.Response()

        invoices.answer_offload = hang
        wait_for_memory(receipts)
        await asked.wait()
        await cluster.kill()
        invoices.answer_offload = None
        await cluster.start(**QUICK)
        await until(lambda: count(cluster, ASKS, result="offloaded") == 1)
        assert len(invoices.offloads) == 2
