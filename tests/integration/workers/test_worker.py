"""Real worker processes with the fake engine: answers, deaths, what they are told and what not."""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from ocr_inference.protocol.engine import Delta, EngineError, FailureKind, InferRequest, ModelSpec, PageResult
from ocr_inference.protocol.host_tier import HostTier
from ocr_inference.workers.processes import Direct, environment
from ocr_inference.workers.worker import Worker, WorkerLost
from tests.support import engines
from tests.support.patience import PATIENCE

STUCK_SECONDS = 10.0
"""After which a page counts as stuck: more than a busy machine takes to begin it."""


@asynccontextmanager
async def started(host: HostTier | None = None, **options: float | str) -> AsyncIterator[Worker]:
    tier = host or HostTier.create("test")
    worker = await Worker.start(ModelSpec(name="m", engine="fake", options=options), tier, Direct(os.environ))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(worker.run())
        try:
            yield worker
        finally:
            worker.kill("the test is over")
            await running
            if host is None:
                tier.close()


def infer(
    worker: Worker, request: InferRequest | None = None, pages: int = 1, limit_seconds: float = PATIENCE
) -> asyncio.Future[object]:
    """Send a page. Its request's file is closed at once: the worker's own is what counts."""
    with engines.handed(request) as page:
        return worker.infer(  # type: ignore[return-value]
            page, max_pages=pages, max_wait_seconds=0.0, limit_seconds=limit_seconds
        )


async def test_calls_are_answered_and_the_host_tier_outlives_the_worker() -> None:
    host = HostTier.create("test")
    async with started(host, host_bytes=1000) as worker:
        assert (await worker.call("load")).host_bytes == 1000
        result = await infer(worker)
        assert isinstance(result, PageResult)
        assert result.text.startswith("fake ocr of page")
        await worker.stop()
    assert host.size == 1000
    async with started(host, host_bytes=1000) as worker:
        assert (await worker.call("restore")).device_bytes == 1000
        again = await infer(worker)
        assert isinstance(again, PageResult)
        assert again.text == result.text
        await worker.call("unload")
    assert host.size == 0
    host.close()


async def test_a_bad_page_fails_alone() -> None:
    async with started() as worker:
        await worker.call("load")
        good, bad = infer(worker), infer(worker, InferRequest(image=b"no picture"))
        with pytest.raises(EngineError, match="not a picture") as error:
            await bad
        assert error.value.failure.kind is FailureKind.INVALID_IMAGE
        assert isinstance(await good, PageResult)
        assert isinstance(await infer(worker), PageResult)


async def test_kill_during_a_call_fails_everything_in_flight_and_later_calls() -> None:
    async with started(infer_seconds=30) as worker:
        await worker.call("load")
        pages = [infer(worker), infer(worker)]
        os.kill(worker.pid, signal.SIGKILL)
        for page in pages:
            with pytest.raises(EngineError, match="SIGKILL") as error:
                await page
            assert error.value.failure.exit_code == -9
        with pytest.raises(EngineError):
            await worker.call("offload")
        assert worker.ended


async def test_only_pages_that_were_begun_may_have_killed_the_worker(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    faults = tmp_path / "faults.json"
    async with started(faults_file=str(faults)) as worker:
        await worker.call("load")
        await infer(worker, engines.page("red"))
        faults.write_text(json.dumps({"infer": "hold"}))
        pages = [infer(worker, engines.page(color)) for color in ("black", "white")]
        await engines.eventually(lambda: "infer is held" in caplog.text)
        os.kill(worker.pid, signal.SIGKILL)
        lost = await asyncio.gather(*pages, return_exceptions=True)
        assert [each.begun for each in lost if isinstance(each, WorkerLost)] == [True, False]
        with engines.handed(engines.page("black")) as black:
            assert [page.digest for page in worker.begun] == [black.digest]
        worker.close()
        late = await asyncio.gather(infer(worker), return_exceptions=True)
        assert [each.begun for each in late if isinstance(each, WorkerLost)] == [False]


async def test_a_page_that_is_stuck_ends_the_worker_though_nothing_waits_for_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    faults = tmp_path / "faults.json"
    async with started(faults_file=str(faults)) as worker:
        await worker.call("load")
        faults.write_text(json.dumps({"infer": "hang"}))
        page = infer(worker, limit_seconds=STUCK_SECONDS)
        await engines.eventually(lambda: "infer hangs" in caplog.text)
        worker.forget(page)  # type: ignore[arg-type]
        async with asyncio.timeout(PATIENCE):
            await worker.gone()


@pytest.mark.parametrize("is_stuck", [True, False])
async def test_a_page_that_its_engine_can_not_leave_is_not_done_before_it_has_ended(
    tmp_path: Path, is_stuck: bool
) -> None:
    """Such as one that a thread is at work on: it holds its lease, and where it is stuck, its worker ends."""
    faults = tmp_path / "faults.json"
    faults.write_text(json.dumps({"cancel": "hold"}))
    pieces: asyncio.Queue[Delta] = asyncio.Queue()
    async with (
        started(faults_file=str(faults), step_seconds=0.01, repeat=50_000) as worker,
        asyncio.timeout(PATIENCE),
    ):
        await worker.call("load")
        with engines.handed() as sent:
            page = worker.infer(
                sent,
                max_pages=1,
                max_wait_seconds=0.0,
                limit_seconds=STUCK_SECONDS if is_stuck else PATIENCE,
                on_delta=pieces.put_nowait,
            )
        await pieces.get()
        worker.forget(page)
        if is_stuck:
            await worker.gone()
            with pytest.raises(
                WorkerLost, match=f"a page wasn't read after {STUCK_SECONDS:g} seconds"
            ) as lost:
                await page
            assert lost.value.begun
        else:
            assert await worker.clean_up(PATIENCE) is not None, "the worker has come round"
            assert not page.done()
            faults.unlink()
            with pytest.raises(EngineError, match="cancelled"):
                await page


async def test_what_engines_raise_becomes_an_answer(tmp_path: Path) -> None:
    faults = tmp_path / "faults.json"
    async with started(faults_file=str(faults)) as worker:
        for fault, kind in (("fail", FailureKind.FAILED), ("oom", FailureKind.OUT_OF_MEMORY)):
            faults.write_text(json.dumps({"load": fault}))
            with pytest.raises(EngineError, match="faults file") as error:
                await worker.call("load")
            assert error.value.failure.kind is kind
        faults.write_text("not JSON")
        with pytest.raises(EngineError, match="JSONDecodeError"):
            await worker.call("load")
        faults.unlink()
        await worker.call("load")


async def test_an_engine_that_is_not_there_is_a_failure_with_the_way_out() -> None:
    host = HostTier.create("test")
    worker = await Worker.start(ModelSpec(name="m", engine="magic"), host, Direct(os.environ))
    running = asyncio.create_task(worker.run())
    with pytest.raises(EngineError, match="no engine 'magic'; there are transformers, "):
        await worker.call("load")
    await worker.stop()
    await running
    host.close()


async def test_a_page_nobody_waits_for_is_left_out() -> None:
    async with started(infer_seconds=0.2) as worker:
        await worker.call("load")
        first, unwanted, last = infer(worker), infer(worker), infer(worker)
        worker.forget(unwanted)  # type: ignore[arg-type]
        assert isinstance(await first, PageResult)
        with pytest.raises(EngineError, match="cancelled"):
            await unwanted
        assert isinstance(await last, PageResult)


async def test_pages_that_come_together_are_read_together() -> None:
    async with started(infer_seconds=0.5, max_batch=4) as worker:
        await worker.call("load")
        loop = asyncio.get_running_loop()
        ends: list[float] = []

        async def one() -> None:
            await infer(worker, pages=4)
            ends.append(loop.time())

        await asyncio.gather(*(one() for _ in range(5)))
        assert min(b - a for a, b in pairwise(ends)) < 0.5, "no two were done together"


async def test_it_cleans_up_between_the_steps_of_a_page(tmp_path: Path) -> None:
    faults = engines.Faults(tmp_path)
    async with started(step_seconds=0.001, repeat=100_000, faults_file=str(faults.file)) as worker:
        await worker.call("load")
        begun = asyncio.Event()
        with engines.handed() as sent:
            page = worker.infer(
                sent,
                max_pages=1,
                max_wait_seconds=0.0,
                limit_seconds=PATIENCE,
                on_delta=lambda _: begun.set(),
            )
        await begun.wait()
        cleaned = await worker.clean_up(PATIENCE)
        assert not page.done(), "it waited for the page"
        assert cleaned is not None
        assert cleaned.before.rss_bytes > 1 << 20
        assert cleaned.before.device is None
        faults.set(clean_up="fail")
        with pytest.raises(EngineError, match="clean_up fails"):
            await worker.clean_up(PATIENCE)
        assert not page.done(), "the page failed with it"


async def test_a_worker_at_work_cleans_up_afterwards_and_once(tmp_path: Path) -> None:
    faults = engines.Faults(tmp_path)
    async with started(faults_file=str(faults.file)) as worker:
        await worker.call("load")
        faults.set(infer="hold")
        page = infer(worker)
        assert await worker.clean_up(0.0) is None
        assert await worker.clean_up(0.01) is None, "the second one waits for the same"
        faults.set(clean_up="crash")
        assert isinstance(await page, PageResult)
        with pytest.raises(WorkerLost):
            await worker.clean_up(PATIENCE)


async def test_it_cleans_up_after_memory_ran_out(tmp_path: Path) -> None:
    faults = engines.Faults(tmp_path)
    async with started(faults_file=str(faults.file)) as worker:
        await worker.call("load")
        faults.set(infer="oom")
        with pytest.raises(EngineError) as error:
            await infer(worker)
        assert error.value.failure.kind is FailureKind.OUT_OF_MEMORY
        faults.set(infer="oom", clean_up="crash")
        with pytest.raises(WorkerLost):
            await infer(worker)


async def test_a_clean_up_makes_no_engine() -> None:
    async with started(load_seconds="no number") as worker:
        assert await worker.clean_up(PATIENCE) is not None
        with pytest.raises(EngineError, match="load_seconds is a number"):
            await worker.call("load")


@pytest.mark.parametrize("step_seconds", [-1.0, 0.0], ids=["batches", "steps"])
async def test_a_page_has_the_memory_before_and_after_it(step_seconds: float) -> None:
    async with started(step_seconds=step_seconds) as worker:
        await worker.call("load")
        result = await infer(worker)
        assert isinstance(result, PageResult)
        assert result.memory is not None
        before, after = result.memory
        assert min(before.rss_bytes, after.rss_bytes) > 1 << 20


async def test_a_stopped_worker_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    async with started() as worker:
        await worker.stop()
        assert not engines.alive(worker.pid)


async def test_what_a_worker_says_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    faults = tmp_path / "faults.json"
    faults.write_text("not JSON")
    async with started(faults_file=str(faults)) as worker:
        with pytest.raises(EngineError):
            await worker.call("load")
        await worker.stop()
    assert "JSONDecodeError" in caplog.text


def test_a_worker_gets_no_secrets() -> None:
    environ = {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "0", "OCR_ADMIN_TOKEN_FILE": "/x", "AWS_SECRET": "x"}
    assert not {"OCR_ADMIN_TOKEN_FILE", "AWS_SECRET"} & set(environment(environ))
    assert environ.items() & environment(environ).items() == {("PATH", "/bin"), ("CUDA_VISIBLE_DEVICES", "0")}


def test_no_library_reports_to_its_maker() -> None:
    told = environment({"ORT_DISABLE_TELEMETRY": "0"})
    assert (told["ORT_DISABLE_TELEMETRY"], told["HF_HUB_DISABLE_TELEMETRY"]) == ("1", "1")


def test_fresh_memory_comes_in_large_pages_unless_somebody_says_otherwise() -> None:
    assert environment({})["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
    assert environment({"GLIBC_TUNABLES": ""})["GLIBC_TUNABLES"] == ""


@pytest.mark.parametrize("said", [{}, {"GOMP_SPINCOUNT": "5"}, {"OMP_WAIT_POLICY": "ACTIVE"}])
def test_threads_that_wait_soon_sleep_unless_somebody_says_otherwise(said: dict[str, str]) -> None:
    told = environment(said)
    waits = {name: told[name] for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY") if name in told}
    assert waits == (said or {"GOMP_SPINCOUNT": "10000"})


SERVER_THAT_IS_KILLED = """
import asyncio, os
from ocr_inference.protocol.engine import ModelSpec
from ocr_inference.protocol.host_tier import HostTier
from ocr_inference.workers.processes import Direct
from ocr_inference.workers.worker import Worker

async def main():
    worker = await Worker.start(ModelSpec(name="m", engine="fake"), HostTier.create("m"), Direct(os.environ))
    running = asyncio.create_task(worker.run())
    await worker.call("load")
    print(worker.pid, flush=True)
    await running

asyncio.run(main())
"""


async def test_a_worker_dies_with_its_server() -> None:
    arguments = (sys.executable, "-c", SERVER_THAT_IS_KILLED)
    server = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
    assert server.stdout is not None
    pid = int(await server.stdout.readline())
    assert engines.alive(pid)
    server.kill()
    await server.wait()
    await engines.eventually(lambda: not engines.alive(pid))


def test_the_server_imports_no_runtime_of_models() -> None:
    heavy = ("onnxruntime", "rapidocr", "numpy", "cv2", "torch", "transformers")
    code = (
        f"import sys, ocr_inference.manager.manager; print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
