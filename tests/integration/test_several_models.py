"""Several models in one server: each with its own timers, making room for one another on a device of finite size."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bench import storm
from tests.support import inference, pages
from tests.support.patience import PATIENCE

MIB = 1 << 20
FIRST = """
models:
  - {name: low, engine: fake, gpuMemory: 40Mi}
  - {name: also-low, engine: fake, gpuMemory: 40Mi}
  - {name: high, engine: fake, gpuMemory: 40Mi, priority: 1}
idle: {offloadAfterSeconds: -1, exitAfterSeconds: -1, releaseAfterSeconds: -1}
queue: {patienceSeconds: 60}
"""
"""Two of the three fit."""


def device(folder: Path, memory_bytes: int = 100 * MIB) -> dict[str, Any]:
    gpu = {"uuid": "GPU-1", "product": "NVIDIA-L40S", "memory_bytes": memory_bytes}
    (folder / "gpus.json").write_text(json.dumps([gpu]))
    return {"device": "simulated", "simulated_gpu_dir": folder}


def occupy(folder: Path, memory_bytes: int) -> None:
    """Another process on the same GPU."""
    file = folder / "usage" / "GPU-1" / f"{os.getppid()}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"memory_bytes": memory_bytes, "utilization": 0.0}))


async def states(server: inference.Server) -> dict[str, str]:
    _, state = await server.json("GET", "/v1/state")
    return {model["name"]: model["state"] for model in state["models"]}


async def read(server: inference.Server, model: str) -> dict[str, Any]:
    status, body = await server.read(pages.blank(), model=model)
    assert status == 200, body
    assert body["text"].endswith(f"by {model}")
    return dict(body)


async def declare(server: inference.Server, revision: int, **values: Any) -> None:
    wanted = {"generation": revision, "revision": revision, "values": values}
    status, _ = await server.json("PUT", "/v1/settings", json=wanted)
    assert status == 200


async def over_threshold(server: inference.Server, waiting: int) -> None:
    """Wait until so many requests wait at the same time."""
    async with asyncio.timeout(PATIENCE), server.http.get("/v1/state?watch=true") as response:
        async for state in inference.events(response):
            if state["queue"]["waiting"] >= waiting:
                return


async def test_the_less_important_makes_room_then_the_least_recently_used(tmp_path: Path) -> None:
    async with inference.server(FIRST, **device(tmp_path)) as server:
        await read(server, "high")
        await read(server, "low")
        await read(server, "also-low")
        assert await states(server) == {"high": "ready", "low": "offloaded", "also-low": "ready"}
        await read(server, "low")
        assert await states(server) == {"high": "ready", "low": "ready", "also-low": "offloaded"}
        await declare(server, 1, models={"high": {"priority": 0}})
        await read(server, "also-low")
        assert await states(server) == {"high": "offloaded", "low": "ready", "also-low": "ready"}
        used = [(await server.model(name))["memory_bytes"] for name in ("low", "also-low", "high")]
        assert used == [40 * MIB, 40 * MIB, 0]


async def test_a_busy_model_is_not_taken_from_under_its_request(tmp_path: Path) -> None:
    config = """
models:
  - {name: busy, engine: fake, gpuMemory: 60Mi, options: {infer_seconds: 0.5}}
  - {name: urgent, engine: fake, gpuMemory: 60Mi, priority: 5}
"""
    async with inference.server(config, **device(tmp_path)) as server:
        await read(server, "busy")
        reading = asyncio.create_task(read(server, "busy"))
        await server.until("busy", in_flight=1)
        await read(server, "urgent")
        assert reading.done(), "the urgent one came after the page, not instead of it"
        assert (await reading)["text"].endswith("by busy")
        assert await states(server) == {"busy": "offloaded", "urgent": "ready"}


async def test_each_model_has_its_own_timers(tmp_path: Path) -> None:
    async with inference.server(FIRST, **device(tmp_path, 200 * MIB)) as server:
        for name in ("low", "also-low", "high"):
            await read(server, name)
        idle = {
            "low": {"idle": {"offloadAfterSeconds": 0}},
            "also-low": {"idle": {"exitAfterSeconds": 0}},
            "high": {"idle": {"releaseAfterSeconds": 0}},
        }
        await declare(server, 1, models=idle)
        await server.until("low", state="offloaded", worker="running", memory_bytes=0)
        await server.until("also-low", state="offloaded", location="cpu", worker="exited", memory_bytes=0)
        await server.until("high", state="unloaded", worker="exited", host_bytes=0)
        assert (await server.model("also-low"))["host_bytes"] > 0
        await declare(server, 2, models={})
        for name in ("low", "also-low", "high"):
            await read(server, name)
        counts = {
            name: (model["loads"], model["wakes"])
            for name in ("low", "also-low", "high")
            if (model := await server.model(name))
        }
        assert counts == {"low": (1, 1), "also-low": (1, 1), "high": (2, 0)}


async def test_preload_takes_free_memory_and_stays_until_somebody_more_important_needs_it(
    tmp_path: Path,
) -> None:
    config = """
models:
  - {name: kept, engine: fake, gpuMemory: 60Mi, preload: true, idle: {offloadAfterSeconds: 0}}
  - {name: guest, engine: fake, gpuMemory: 60Mi, priority: 1, idle: {offloadAfterSeconds: 0}}
  - {name: large, engine: fake, gpuMemory: 90Mi, preload: true}
"""
    async with inference.server(config, **device(tmp_path)) as server:
        await server.until("kept", state="ready", loads=1)
        assert (await server.model("large"))["state"] == "unloaded", "loads ahead only into free memory"
        assert [(await server.model(name))["preloaded"] for name in ("kept", "guest")] == [True, False]
        await read(server, "guest")
        await server.until("guest", state="offloaded")
        await server.until("kept", state="ready", wakes=1)
        assert (await server.model("kept"))["waiting"] == 0


async def test_a_device_that_others_fill_costs_an_idle_model_and_no_attempt(tmp_path: Path) -> None:
    async with inference.server(FIRST, **device(tmp_path, 200 * MIB)) as server:
        for name in ("high", "also-low", "low"):
            await read(server, name)
        await server.json("POST", "/gpu/offload", data={"model": "low"})
        occupy(tmp_path, 110 * MIB)  # beside the two that are ready: nothing is left for the third
        await read(server, "low")
        after = {name: await server.model(name) for name in ("low", "also-low", "high")}
        assert {name: model["state"] for name, model in after.items()} == {
            "low": "ready",
            "also-low": "offloaded",
            "high": "ready",
        }
        assert (after["low"]["wakes"], after["low"]["loads"]) == (1, 1)
        assert after["low"]["last_failure"] is None


async def test_a_restore_that_nobody_can_make_room_for_answers_and_keeps_the_weights(tmp_path: Path) -> None:
    config = FIRST.replace("patienceSeconds: 60", "patienceSeconds: 0")
    async with inference.server(config, **device(tmp_path)) as server:
        await read(server, "low")
        await server.json("POST", "/gpu/offload")
        occupy(tmp_path, 90 * MIB)
        status, body = await server.read(pages.blank(), model="low")
        assert (status, body["code"]) == (503, "gpu_memory")
        assert "10485760 are free, and other processes hold 94371840" in body["error"]
        await server.until("low", state="offloaded", worker="running", waits_for=None)
        occupy(tmp_path, 0)
        await read(server, "low")
        assert (await server.model("low"))["loads"] == 1, "restored from host memory, not loaded again"


@pytest.mark.parametrize(("engine", "count"), [("fake, options: {restore_seconds: 3}", 200), ("rapidocr", 4)])
async def test_many_requests_to_a_model_in_deep_idle_wake_it_once(engine: str, count: int) -> None:
    config = f"""
models: [{{name: sleeper, engine: {engine}}}]
queue: {{limit: {count}, deadlineSeconds: 100}}
"""
    page = storm.page(1)
    unlimited = aiohttp.TCPConnector(limit=0)
    async with (
        inference.server(config) as server,
        aiohttp.ClientSession(server.running.url, connector=unlimited) as http,
    ):
        expected = (await server.read(page, model="sleeper"))[1]["text"]
        await declare(server, 1, idle={"exitAfterSeconds": 0})
        await server.until("sleeper", state="offloaded", worker="exited")
        await declare(server, 2, idle={"exitAfterSeconds": -1, "offloadAfterSeconds": -1})
        queue_threshold = inference.Server(server.running, http)
        reading = [asyncio.create_task(queue_threshold.read(page, model="sleeper")) for _ in range(count)]
        await over_threshold(server, count // 2)
        answers = await asyncio.gather(*reading)
        assert [(status, body.get("text")) for status, body in answers] == [(200, expected)] * count
        model = await server.model("sleeper")
        assert (model["loads"], model["wakes"], model["waiting"], model["in_flight"]) == (1, 1, 0, 0)
