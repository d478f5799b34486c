"""Real forkservers and the workers that they fork: answers, deaths on either side, and what a fork must not find."""

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ocr_inference.protocol.engine import EngineError, FailureKind
from ocr_inference.workers.forkservers import Forkservers
from ocr_wire import states
from tests.support import engines
from tests.support.descriptors import no_more_descriptors, open_descriptors
from tests.support.engines import eventually, make_config, make_model, read, running, until, worker_pid
from tests.support.forkserver import check_one_thread, imported_late, parent, proc, texts, workers
from tests.support.paths import INVOICE
from tests.support.patience import PATIENCE


def children(pid: int) -> list[int]:
    """Processes that this one forked and that live."""
    found = [int(each) for each in proc(pid, f"task/{pid}/children").split()]
    return [each for each in found if engines.alive(each)]


async def test_many_forks_work_and_leave_nothing_behind() -> None:
    async with Forkservers(os.environ) as forkservers:
        async with workers(forkservers) as first:
            assert len(await texts(first)) == 1
        pid = forkservers.pids()["fake"]
        await eventually(lambda: open_descriptors(pid) <= 4)
        before = open_descriptors(pid), open_descriptors()
        for _ in range(4):
            async with workers(forkservers, 8) as started:
                assert {parent(worker.pid) for worker in started} == {pid}
                answers = await texts(started)
                assert [answer.rpartition(" ")[2] for answer in answers] == [f"m{n}" for n in range(8)]
        await eventually(lambda: (open_descriptors(pid), open_descriptors()) == before)
        assert forkservers.pids() == {"fake": pid}


async def test_a_forkserver_is_started_once_by_those_who_ask_at_once() -> None:
    async with Forkservers(os.environ) as forkservers:
        assert forkservers.pids() == {}
        async with workers(forkservers, 5) as started:
            assert {parent(worker.pid) for worker in started} == set(forkservers.pids().values())
            pid = forkservers.pids()["fake"]
    assert not engines.alive(pid), "leaving the block ends it"


async def test_how_a_worker_ended_comes_from_its_forkserver() -> None:
    async with Forkservers(os.environ) as forkservers, workers(forkservers, 2) as (killed, stopped):
        await asyncio.gather(killed.call("load"), stopped.call("load"))
        os.kill(killed.pid, signal.SIGABRT)
        with pytest.raises(EngineError, match="SIGABRT") as error:
            await killed.call("offload")
        assert error.value.failure.exit_code == -signal.SIGABRT
        await stopped.stop()
        assert not engines.alive(stopped.pid)
        with pytest.raises(EngineError, match="exited with code 0"):
            await stopped.call("load")
        assert len(forkservers.pids()) == 1


async def test_workers_die_with_their_forkserver_and_the_next_one_gets_a_new_forkserver() -> None:
    async with Forkservers(os.environ) as forkservers:
        async with workers(forkservers, 2, infer_seconds=30) as started:
            await asyncio.gather(*(worker.call("load") for worker in started))
            with engines.handed() as page:
                job = started[0].infer(page, max_pages=1, max_wait_seconds=0.0, limit_seconds=PATIENCE)
            pid = forkservers.pids()["fake"]
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(EngineError, match="SIGKILL") as error:
                await job
            assert error.value.failure.kind is FailureKind.WORKER_DIED
            await started[1].gone()
            await eventually(lambda: not any(engines.alive(worker.pid) for worker in started))
        async with workers(forkservers) as again:
            assert len(await texts(again)) == 1
            assert forkservers.pids()["fake"] != pid


async def test_a_forkserver_that_stands_still_harms_no_worker_and_ends_with_the_last_one() -> None:
    async with Forkservers(os.environ, fork_seconds=0.5) as forkservers:
        async with workers(forkservers) as (first,):
            await texts([first])
            pid = forkservers.pids()["fake"]
            os.kill(pid, signal.SIGSTOP)
            for _ in range(2):  # waits for the forkserver, and doesn't
                async with workers(forkservers) as (other,):
                    assert parent(other.pid) == os.getpid()
                    assert len(await texts([first, other])) == 2
            assert engines.alive(pid)
            assert parent(first.pid) == pid
        await eventually(lambda: not engines.alive(pid))
        assert not engines.alive(first.pid)
        async with workers(forkservers) as again:
            assert {parent(worker.pid) for worker in again} == {forkservers.pids()["fake"]} != {pid}


async def test_a_forkserver_that_goes_on_is_used_again_and_its_late_worker_reads_nothing() -> None:
    async with Forkservers(os.environ, fork_seconds=0.5) as forkservers, workers(forkservers) as (first,):
        pid = forkservers.pids()["fake"]
        os.kill(pid, signal.SIGSTOP)
        async with workers(forkservers) as (other,):
            os.kill(pid, signal.SIGCONT)
            await eventually(lambda: set(children(pid)) == {first.pid})
            assert len(await texts([first, other])) == 2
        async with workers(forkservers) as (third,):
            await eventually(lambda: set(children(pid)) == {first.pid, third.pid})
            assert len(await texts([first, third])) == 2


@pytest.mark.parametrize("how", [signal.SIGABRT, None], ids=["killed", "stopped"])
async def test_a_worker_that_ends_while_its_forkserver_stands_still_is_noticed(
    how: signal.Signals | None,
) -> None:
    async with Forkservers(os.environ) as forkservers, workers(forkservers) as (worker,):
        await worker.call("load")
        os.kill(forkservers.pids()["fake"], signal.SIGSTOP)
        if how is None:
            await worker.stop()
        else:
            os.kill(worker.pid, how)
            await worker.gone()
        with pytest.raises(EngineError) as error:
            await worker.call("offload")
        assert error.value.failure.exit_code == (0 if how is None else -how)


async def test_a_forkserver_without_free_descriptors_forks_nothing_and_its_workers_read_on() -> None:
    async with Forkservers(os.environ) as forkservers, workers(forkservers) as (first,):
        pid = forkservers.pids()["fake"]
        for free in range(6):
            with no_more_descriptors(pid, free):
                async with workers(forkservers) as (other,):
                    assert len(await texts([first, other])) == 2
        async with workers(forkservers) as (other,):
            assert parent(other.pid) == pid == forkservers.pids()["fake"]


async def test_a_server_without_free_descriptors_forks_later() -> None:
    async with Forkservers(os.environ) as forkservers, workers(forkservers) as (first,):
        await texts([first])
        pid, before = forkservers.pids()["fake"], open_descriptors()
        for free in range(12):
            with no_more_descriptors(free=free), contextlib.suppress(OSError):
                async with workers(forkservers) as (other,):
                    await other.call("load")
        await eventually(lambda: set(children(pid)) == {first.pid})
        await eventually(lambda: open_descriptors() <= before)
        assert len(await texts([first])) == 1


SERVER_THAT_IS_KILLED = """
import asyncio, os
from ocr_inference.protocol.engine import ModelSpec
from ocr_inference.protocol.host_tier import HostTier
from ocr_inference.workers.forkservers import Forkservers
from ocr_inference.workers.worker import Worker

async def main():
    async with Forkservers(os.environ) as forkservers:
        worker = await Worker.start(ModelSpec(name="m", engine="fake"), HostTier.create("m"), forkservers)
        running = asyncio.create_task(worker.run())
        await worker.call("load")
        print(worker.pid, forkservers.pids()["fake"], flush=True)
        await running

asyncio.run(main())
"""


async def test_forkserver_and_workers_die_with_the_server() -> None:
    arguments = (sys.executable, "-c", SERVER_THAT_IS_KILLED)
    server = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
    assert server.stdout is not None
    pids = [int(pid) for pid in (await server.stdout.readline()).split()]
    assert len(pids) == 2
    assert all(engines.alive(pid) for pid in pids)
    server.kill()
    await server.wait()
    await eventually(lambda: not any(engines.alive(pid) for pid in pids))


async def test_an_engine_without_a_forkserver_is_started_directly(caplog: pytest.LogCaptureFixture) -> None:
    async with Forkservers(os.environ) as forkservers:
        for _ in range(2):
            async with workers(forkservers, engine="magic") as (worker,):
                with pytest.raises(EngineError, match="no engine 'magic'; there are"):
                    await worker.call("load")
                assert parent(worker.pid) == os.getpid()
        assert forkservers.pids() == {}
    assert caplog.text.count("without a forkserver: the forkserver of engine magic is unfit") == 1, (
        "tried once"
    )


async def test_switched_off_workers_are_the_servers_own() -> None:
    async with Forkservers(os.environ, enabled=False) as forkservers, workers(forkservers) as (worker,):
        assert parent(worker.pid) == os.getpid()
        assert len(await texts([worker])) == 1


async def test_what_is_not_retained_ends() -> None:
    async with Forkservers(os.environ) as forkservers:
        async with workers(forkservers):
            pid = forkservers.pids()["fake"]
            forkservers.retain({"fake"})
            assert forkservers.pids() == {"fake": pid}
        forkservers.retain(())
        await eventually(lambda: not engines.alive(pid))
        async with workers(forkservers):
            assert forkservers.pids()["fake"] != pid


async def test_imports_begin_before_a_worker_needs_them() -> None:
    async with Forkservers(os.environ) as forkservers:
        forkservers.prepare("fake")
        await eventually(lambda: "fake" in forkservers.pids())
        pid = forkservers.pids()["fake"]
        forkservers.prepare("fake")
        async with workers(forkservers) as (worker,):
            assert parent(worker.pid) == pid


async def test_one_at_its_imports_ends_as_soon_as_it_is_not_retained(tmp_path: Path) -> None:
    """What it imports first never ends: it reads from a pipe that nothing writes to."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "sitecustomize.py").write_text(f"open({str(tmp_path / 'pipe')!r}).read()")
    stuck = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    async with asyncio.timeout(PATIENCE), Forkservers(stuck) as forkservers:
        others = set(children(os.getpid()))
        forkservers.prepare("fake")
        await eventually(lambda: bool(set(children(os.getpid())) - others))
        started = set(children(os.getpid())) - others
        assert forkservers.pids() == {}
        forkservers.retain(())
        await eventually(lambda: not any(engines.alive(pid) for pid in started))


async def test_a_start_without_one_is_no_child_of_it() -> None:
    async with Forkservers(os.environ) as forkservers:
        forkservers.prepare("fake")
        async with workers(forkservers.direct) as (worker,):
            assert parent(worker.pid) == os.getpid()


async def test_a_worker_has_a_name_no_secrets_and_a_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    faults = tmp_path / "faults.json"
    faults.write_text("not JSON")
    async with Forkservers({**os.environ, "AWS_SECRET": "hidden"}) as forkservers:
        async with workers(forkservers, faults_file=str(faults)) as (worker,):
            with pytest.raises(EngineError, match="JSONDecodeError"):
                await worker.call("load")
            assert proc(worker.pid, "comm") == "m0\n"
            assert "hidden" not in proc(worker.pid, "environ")
            await worker.stop()
        lines = [record for record in caplog.records if "Traceback" in record.getMessage()]
        assert {record.__dict__.get("model") for record in lines} == {"m0"}


async def test_a_managers_forkserver_stays_for_an_exited_model_and_ends_with_the_release() -> None:
    config = make_config(make_model())
    async with running(config) as manager:
        await read(manager)
        forkserver = parent(worker_pid(manager))
        assert forkserver != os.getpid()
        manager.apply(engines.live(config, idle=engines.idle(leave=0)))
        await until(manager, lambda model: model.worker is states.Worker.EXITED)
        assert engines.alive(forkserver)
        manager.apply(engines.live(config, idle=engines.idle()))
        await read(manager)
        assert parent(worker_pid(manager)) == forkserver
        await manager.release()
        await eventually(lambda: not engines.alive(forkserver))


@pytest.mark.parametrize("engine", ["fake", "rapidocr"])
async def test_imports_leave_no_threads_and_no_device(engine: str) -> None:
    await check_one_thread(engine)


def test_a_first_page_imports_nothing_that_a_forkserver_could_have() -> None:
    assert imported_late("rapidocr") == []


async def test_pages_read_by_forked_workers_are_those_of_a_worker_started_directly() -> None:
    pytest.importorskip("rapidocr")
    image = INVOICE.read_bytes()
    async with (
        Forkservers(os.environ, enabled=False) as direct,
        workers(direct, engine="rapidocr") as started,
    ):
        (expected,) = await texts(started, image)
    async with (
        Forkservers(os.environ) as forkservers,
        workers(forkservers, 3, engine="rapidocr") as started,
    ):
        assert await texts(started, image) == [expected] * 3
        assert "Invoice" in expected or "INVOICE" in expected


def test_a_thread_makes_a_process_unfit() -> None:
    code = (
        "import threading; from ocr_inference.workers.forkserver_process import unfit; assert unfit() is None\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start(); print(unfit())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "its imports left 1 threads running, which a fork would lose\n"
