"""Faults of workers, models and clients: an error that says so, and the next request works."""

import asyncio
import json
import logging
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support import engines, inference, pages
from tests.support.engines import Faults
from tests.support.inference import Server
from tests.support.patience import PATIENCE


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with inference.server() as running:
        yield running


async def works(server: Server) -> None:
    status, body = await server.read(pages.blank())
    assert (status, body["success"]) == (200, True)


async def test_a_changed_timeout_leaves_the_running_request_alone(server: Server) -> None:
    running = asyncio.create_task(server.read(pages.blank(), model="slow"))
    await server.until("slow", in_flight=1)
    status, body = await server.json("POST", "/gpu/timeout", json={"timeout": 0})
    assert (status, body["timeout"]) == (200, 0)
    assert (await server.model("slow"))["state"] == "ready"
    status, body = await running
    assert status == 200, body
    await server.until("slow", state="offloaded")


async def test_a_killed_worker_costs_at_most_its_request(server: Server) -> None:
    running = asyncio.create_task(server.read(pages.blank(), model="slow"))
    await server.until("slow", in_flight=1)
    os.kill(_worker(server, "slow"), signal.SIGKILL)
    status, body = await running
    assert status in {200, 503}, body
    if status == 503:
        assert body["code"] == "worker_died"
    status, _ = await server.json("GET", "/livez-is-not-json")
    assert status == 404
    status, body = await server.read(pages.blank(), model="slow")
    assert status == 200, body
    model = await server.model("slow")
    assert model["last_failure"]["exit_code"] == -signal.SIGKILL
    assert model["loads"] + model["wakes"] >= 2


async def test_a_worker_killed_while_idle_is_replaced(server: Server) -> None:
    await works(server)
    os.kill(_worker(server, "quick"), signal.SIGKILL)
    await server.until("quick", worker="exited")
    await works(server)


def _worker(server: Server, name: str) -> int:
    return server.running.manager.snapshot().worker_pids[name]


async def test_a_weight_image_that_can_not_be_kept_is_counted_and_the_model_serves(tmp_path: Path) -> None:
    faults = Faults(tmp_path)
    async with inference.server(
        f"models: [{{name: m, engine: fake, options: {{faults_file: {faults.file}}}}}]"
    ) as server:
        faults.set(image="full")
        for loads in (1, 2):
            await works(server)
            assert await server.metric('ocr_model_image_failures_total{model="m"}') == loads
            assert (await server.model("m"))["image_failure"]["reason"] == "DiskFull"
            await server.json("POST", "/gpu/release")
        faults.set()
        await works(server)
        assert await server.metric('ocr_model_image_failures_total{model="m"}') == 2
        assert (await server.model("m"))["image_failure"] is None


async def test_what_takes_long_shows_its_age_and_leaves_the_probes_alone(tmp_path: Path) -> None:
    faults = Faults(tmp_path)
    async with inference.server(
        f"models: [{{name: m, engine: fake, options: {{faults_file: {faults.file}}}}}]"
    ) as server:
        for call in ("load", "infer"):
            faults.set(**{call: "hold"})
            reading = asyncio.create_task(server.read(pages.blank()))
            await server.until("m", **({"state": "loading"} if call == "load" else {"in_flight": 1}))
            async with server.http.get("/livez") as response:
                assert (response.status, await response.text()) == (200, "ok\n")
            age = await server.metric('ocr_model_oldest_lease_seconds{model="m"}')
            assert (age > 0) is (call == "infer")
            assert (await server.model("m"))["stuck_since"] is None
            faults.set()
            assert (await reading)[0] == 200
        await server.until("m", in_flight=0)
        assert await server.metric('ocr_model_oldest_lease_seconds{model="m"}') == 0


async def test_a_worker_that_crashes_on_every_page_is_an_error_not_a_loop(tmp_path: Path) -> None:
    faults = tmp_path / "faults.json"
    config = f"models: [{{name: m, engine: fake, options: {{faults_file: {faults}}}}}]"
    async with inference.server(config) as server:
        faults.write_text(json.dumps({"infer": "crash"}))
        status, body = await server.read(pages.blank())
        assert (status, body["code"]) == (422, "page_kills_worker")
        faults.write_text("{}")
        status, _ = await server.read(pages.blank(shade=1))
        assert status == 200
        status, body = await server.read(pages.blank())
        assert (status, body["param"]) == (422, "file")


@pytest.mark.parametrize("path", ["/gpu/release", "/gpu/offload"])
async def test_force_ends_a_worker_whose_page_hangs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    caplog.set_level(logging.INFO)
    faults = Faults(tmp_path)
    config = f"models: [{{name: m, engine: fake, options: {{faults_file: {faults.file}}}}}]"
    async with inference.server(config) as server:
        faults.set(infer="hang")
        reading = asyncio.create_task(server.read(pages.blank()))
        await engines.eventually(lambda: "infer hangs" in caplog.text)
        hung = _worker(server, "m")
        faults.set()
        status, _ = await server.json("POST", path, json={"model": "m", "force": True})
        assert status == 200
        assert (await reading)[0] == 200
        assert not engines.alive(hung)
        status, body = await server.json("POST", path, json={"model": "m", "force": "perhaps"})
        assert (status, body["param"]) == (422, "force")


async def test_an_offload_is_either_of_idle_models_or_forced(server: Server) -> None:
    fields = {"model": "quick", "force": True, "if_idle": True}
    status, body = await server.json("POST", "/gpu/offload", json=fields)
    assert (status, body["param"]) == (422, "force")


async def test_a_model_that_fails_to_load_says_so(tmp_path: Path) -> None:
    faults = tmp_path / "faults.json"
    faults.write_text(json.dumps({"load": "fail"}))
    config = f"models: [{{name: m, engine: fake, options: {{faults_file: {faults}}}}}]"
    async with inference.server(config) as server:
        async with server.http.post("/ocr", data=inference.form(pages.blank())) as response:
            body = await response.json()
            assert (response.status, body["code"]) == (503, "load_failed")
            assert int(response.headers["Retry-After"]) >= 1
        assert (await server.model("m"))["last_failure"]["reason"]
        faults.write_text("{}")
        async with asyncio.timeout(PATIENCE):
            while (await server.read(pages.blank()))[0] == 503:  # Until the back-off is over.
                pass
        await works(server)


async def test_health_answers_while_pages_are_read() -> None:
    config = "models: [{name: m, engine: fake, options: {infer_seconds: 3600}}]"
    async with inference.server(config, drain_seconds=0.1) as server:
        reading = [asyncio.create_task(server.read(pages.blank())) for _ in range(3)]
        await server.until("m", in_flight=3)
        for _ in range(20):
            status, _ = await server.json("GET", "/health")
            assert status == 200
        assert not any(task.done() for task in reading)
    await asyncio.gather(*reading, return_exceptions=True)


async def test_a_gone_client_leaves_the_queue(server: Server) -> None:
    first = asyncio.create_task(server.read(pages.blank(), model="slow"))
    await server.until("slow", in_flight=1)
    second = asyncio.create_task(server.json("POST", "/gpu/release", json={"model": "slow"}))
    third = asyncio.create_task(server.read(pages.blank(shade=1), model="slow"))
    await server.until("slow", waiting=1)
    third.cancel()
    await server.until("slow", waiting=0)
    assert (await first)[0] == 200
    assert (await second)[0] == 200
    assert (await server.model("slow"))["loads"] == 1


async def test_a_full_queue_answers_429_with_retry_after(tmp_path: Path) -> None:
    faults = Faults(tmp_path)
    faults.set(load="hold")
    config = (
        f"models: [{{name: m, engine: fake, options: {{faults_file: {faults.file}}}}}]\nqueue: {{limit: 1}}"
    )
    async with inference.server(config) as server:
        first = asyncio.create_task(server.read(pages.blank()))
        await server.until("m", waiting=1)
        async with server.http.post("/ocr", data=inference.form(pages.blank())) as response:
            assert response.status == 429
            body = await response.json()
            assert body["code"] == "queue_full"
            assert "queue full" in body["detail"], "other servers' clients wait and come again by these words"
            assert int(response.headers["Retry-After"]) >= 1
        faults.set()
        assert (await first)[0] == 200


async def test_a_request_past_its_deadline_is_a_504() -> None:
    config = "models: [{name: m, engine: fake, options: {load_seconds: 2.0}}]\nqueue: {deadlineSeconds: 0.2}"
    async with inference.server(config) as server:
        status, body = await server.read(pages.blank())
        assert (status, body["code"]) == (504, "deadline_exceeded")


async def test_a_page_that_lacks_memory_is_told_what_was_done_or_what_to_do(tmp_path: Path) -> None:
    faults = Faults(tmp_path)
    config = f"models: [{{name: m, engine: fake, options: {{faults_file: {faults.file}}}}}]"
    async with inference.server(config) as server:
        status, body = await server.read(pages.blank())
        assert "memory" not in body["metadata"]
        faults.set(**{f"page {body['text'].split()[4]}": "oom base small"})
        status, body = await server.read(pages.blank())
        why = "memory ran out at a larger size"
        assert (status, body["metadata"]["memory"]) == (
            200,
            {"read_at": "small", "step": "smaller", "why": why},
        )
        assert await server.metric('ocr_page_shortages_total{model="m",step="smaller"}') == 1.0
        faults.set(infer="oom")
        async with server.http.post(
            "/ocr", data=inference.form(pages.blank(), resolution="base")
        ) as response:
            body = await response.json()
            assert (response.status, body["code"]) == (507, "out_of_memory"), body
            assert "Retry-After" not in response.headers
            assert response.headers["x-should-retry"] == "false", "OpenAI's clients would try again"
            assert len(body["suggestions"]) >= 3
            assert body["error"].endswith("What may help: " + "; ".join(body["suggestions"]))
        faults.set()
        await works(server)


async def test_a_model_that_never_fits_is_no_reason_to_try_again(tmp_path: Path) -> None:
    faults = Faults(tmp_path)
    config = f"models: [{{name: m, engine: fake, options: {{faults_file: {faults.file}}}}}]"
    async with inference.server(config) as server:
        faults.set(load="oom")
        for _ in range(2):
            async with server.http.post("/ocr", data=inference.form(pages.blank())) as response:
                body = await response.json()
                assert (response.status, body["code"]) == (507, "out_of_memory"), body
                assert "Retry-After" not in response.headers
                assert body["suggestions"]
        faults.set()
        await server.until("m", state="unloaded")
