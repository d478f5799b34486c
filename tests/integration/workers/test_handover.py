"""Pages on their way to real workers: descriptors and memory on both sides, whatever happens to a page."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from ocr_inference.protocol.engine import (
    EngineError,
    FailureKind,
    InferRequest,
    ModelSpec,
    PageOptions,
    PageResult,
)
from ocr_inference.protocol.host_tier import HostTier
from ocr_inference.protocol.page_file import Page, PageFile
from ocr_inference.workers.forkservers import Forkservers
from ocr_inference.workers.processes import Inherited, Process, Spawned
from ocr_inference.workers.worker import Worker
from tests.support import engines
from tests.support.descriptors import no_more_descriptors, open_descriptors, page_files
from tests.support.engines import Faults, eventually, faulty, make_config, make_model, read, running
from tests.support.forkserver import proc, workers
from tests.support.patience import PATIENCE

MIB = 1 << 20


@pytest.fixture
def faults(tmp_path: Path) -> Faults:
    return Faults(tmp_path)


@pytest.mark.parametrize("forkserver", [True, False], ids=["forked", "direct"])
@pytest.mark.parametrize("step_seconds", [-1.0, 0.0], ids=["batches", "steps"])
async def test_pages_leave_no_descriptor_in_the_server_or_the_worker(
    faults: Faults, step_seconds: float, forkserver: bool
) -> None:
    config = make_config(make_model(faults_file=str(faults.file), max_batch=4, step_seconds=step_seconds))
    async with running(config, forkserver=forkserver) as manager:
        await read(manager)
        worker = engines.worker_pid(manager)
        gc.collect()
        before = open_descriptors(), open_descriptors(worker)
        for _ in range(15):
            bad = InferRequest(image=engines.picture()[:50])
            pages = [asyncio.create_task(read(manager, request=each)) for each in (None, bad) * 4]
            leaving = [asyncio.create_task(read(manager)) for _ in range(4)]
            await asyncio.sleep(0)
            leaving[0].cancel()
            await engines.until(manager, lambda model: model.in_flight > 0)
            for client in leaving:
                client.cancel()
            outcomes = await asyncio.gather(*pages, return_exceptions=True)
            assert [type(each).__name__ for each in outcomes] == ["PageResult", "EngineError"] * 4
            await asyncio.wait(leaving)
        await engines.until(manager, lambda model: model.in_flight == 0)
        await eventually(lambda: (open_descriptors(), open_descriptors(worker)) == before)
        assert page_files() == page_files(worker) == 0


@pytest.mark.parametrize("how", ["crash", "break", "fail"])
async def test_pages_of_workers_that_die_leave_no_descriptor(faults: Faults, how: str) -> None:
    async with running(faulty(faults)) as manager:
        await read(manager)
        gc.collect()
        before = open_descriptors()
        for number in range(3):
            faults.set(infer=how)
            colors = [f"rgb({number}, {shade}, 0)" for shade in range(6)]
            pages = [read(manager, request=engines.page(color)) for color in colors]
            reading = [asyncio.create_task(page) for page in pages]
            reading[1].cancel()
            outcomes = await asyncio.gather(*reading, return_exceptions=True)
            assert not any(isinstance(each, PageResult) for each in outcomes)
            faults.set()
            await read(manager)
        await eventually(lambda: open_descriptors() == before)
        assert page_files() == 0


async def test_a_worker_that_stands_still_gets_its_pages_in_order_later_and_holds_up_nothing() -> None:
    async with Forkservers(os.environ) as forkservers, workers(forkservers) as (worker,):
        await worker.call("load")
        before = open_descriptors()
        os.kill(worker.pid, signal.SIGSTOP)
        prompt = "x" * 16_000
        with PageFile.of(engines.picture()) as file:
            page = Page(file, PageOptions(prompt=prompt))
            jobs = [
                worker.infer(page, max_pages=1, max_wait_seconds=0.0, limit_seconds=PATIENCE)
                for _ in range(60)
            ]
        worker.forget(jobs[-1])
        os.kill(worker.pid, signal.SIGCONT)
        *answers, forgotten = await asyncio.gather(*jobs, return_exceptions=True)
        assert all(isinstance(answer, PageResult) for answer in answers)
        assert isinstance(forgotten, EngineError)
        assert open_descriptors() == before


async def test_pages_that_a_worker_never_received_are_closed_with_it() -> None:
    async with Forkservers(os.environ) as forkservers, workers(forkservers) as (worker,):
        await worker.call("load")
        os.kill(worker.pid, signal.SIGSTOP)
        with PageFile.of(engines.picture()) as file:
            page = Page(file, PageOptions(prompt="x" * 16_000))
            jobs = [
                worker.infer(page, max_pages=1, max_wait_seconds=0.0, limit_seconds=PATIENCE)
                for _ in range(60)
            ]
        assert page_files() == 1
        worker.kill("the test says so")
        outcomes = await asyncio.gather(*jobs, return_exceptions=True)
        assert {each.failure.kind for each in outcomes if isinstance(each, EngineError)} == {
            FailureKind.WORKER_DIED
        }
        assert page_files() == 0


class Babbler:
    """Starts a process that answers with what isn't a message."""

    secrets: Mapping[str, str] = {}

    async def start(self, engine: str, model: str, inherited: Inherited) -> Process:
        code = (
            f"import os, time; os.write({inherited.answers.fileno()}, bytes(4) + b'babble'); time.sleep(3600)"
        )
        return Spawned(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", code),
                stdin=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=inherited.descriptors,
            )
        )


async def test_pages_of_a_worker_that_babbles_are_closed_with_it() -> None:
    with contextlib.closing(HostTier.create("test")) as host:
        worker = await Worker.start(ModelSpec(name="m", engine="fake"), host, Babbler())
        with engines.handed() as page:
            job = worker.infer(page, max_pages=1, max_wait_seconds=0.0, limit_seconds=PATIENCE)
        assert page_files() == 1
        end = await worker.run()
        assert "broken message" in end.message
        with pytest.raises(EngineError, match="broken message"):
            await job
        assert page_files() == 0
        assert not engines.alive(worker.pid)


async def test_a_worker_without_free_descriptors_refuses_the_page_and_lives() -> None:
    async with running() as manager:
        await read(manager)
        worker = engines.worker_pid(manager)
        for free in range(3):
            with no_more_descriptors(worker, free), pytest.raises(EngineError, match="can't open") as error:
                await read(manager)
            assert error.value.failure.kind is FailureKind.OUT_OF_DESCRIPTORS
        assert (await read(manager)).width == 40
        assert engines.worker_pid(manager) == worker


async def test_a_server_without_free_descriptors_refuses_the_page_and_goes_on() -> None:
    async with running() as manager:
        await read(manager)
        with engines.handed() as page:
            async with manager.lease("alpha", page=page) as lease:
                with no_more_descriptors(), pytest.raises(EngineError, match="Too many open files") as error:
                    await lease.infer(page)
                assert error.value.failure.kind is FailureKind.OUT_OF_DESCRIPTORS
                assert (await lease.infer(page)).width == 40


async def test_an_options_text_that_is_too_long_is_refused() -> None:
    async with running() as manager:
        long = InferRequest(image=engines.picture(), prompt="x" * 200_000)
        with pytest.raises(EngineError, match="longer than") as error:
            await read(manager, request=long)
        assert error.value.failure.kind is FailureKind.UNSUPPORTED
        assert (await read(manager)).width == 40


async def test_an_answer_that_is_too_long_fails_its_page_only() -> None:
    async with running(make_config(make_model(step_seconds=0.0, repeat=600))) as manager:
        long = InferRequest(image=engines.picture(), task="x" * 120_000)
        with pytest.raises(EngineError, match="the answer is too long") as error:
            await read(manager, request=long)
        assert error.value.failure.kind is FailureKind.FAILED
        assert (await read(manager)).width == 40
        assert engines.seen(manager).loads == 1


async def test_the_server_holds_no_copy_of_a_page(faults: Faults, caplog: pytest.LogCaptureFixture) -> None:
    """No other memory than the page's own: that of its file, which isn't anonymous."""
    caplog.set_level(logging.INFO)
    async with running(faulty(faults)) as manager:
        await read(manager)
        faults.set(infer="hold")
        piece = bytes(MIB)
        with PageFile.create() as file:
            for _ in range(24):
                file.write(piece)
            page = Page(file, PageOptions())

            async def one() -> None:
                async with manager.lease("alpha", page=page) as lease:
                    await lease.infer(page)

            before = anonymous_bytes()
            reading = [asyncio.create_task(one()) for _ in range(4)]
            await engines.until(manager, lambda model: model.in_flight == 4)
            await eventually(lambda: "infer is held" in caplog.text)
            assert anonymous_bytes() - before < 8 * MIB
            faults.set()
            outcomes = await asyncio.gather(*reading, return_exceptions=True)
            assert all(isinstance(each, EngineError) for each in outcomes), "zeros are no picture"


def anonymous_bytes() -> int:
    (line,) = [line for line in proc(os.getpid(), "status").splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024


async def test_a_page_that_is_refused_wakes_no_model(faults: Faults) -> None:
    async with running(faulty(faults)) as manager:
        killer = engines.page("black")
        faults.set(infer="crash")
        with pytest.raises(EngineError):
            await read(manager, request=killer)
        faults.set()
        await manager.release("alpha")
        loads = engines.seen(manager).loads
        with pytest.raises(EngineError) as error:
            await read(manager, request=killer)
        assert error.value.failure.kind is FailureKind.PAGE_KILLS_WORKER
        assert engines.seen(manager).loads == loads
        assert (await read(manager)).width == 40
