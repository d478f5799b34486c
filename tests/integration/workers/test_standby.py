"""Standbys of a real manager with real workers: a model in deep idle has one, the next wake takes it."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bench import vlmserver
from ocr_inference.manager.manager import Manager
from ocr_wire.states import State, Worker
from tests.support import engines
from tests.support.engines import eventually, make_config, make_model, read, running, seen, until, worker_pid

NAME = "alpha"


def processes() -> set[int]:
    """The workers and standbys of the model, which are named like it: other tests' are no offspring of ours."""
    found = set()
    for pid in vlmserver.offspring(os.getpid()):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if Path(f"/proc/{pid}/comm").read_text() == f"{NAME}\n" and engines.alive(pid):
                found.add(pid)
    return found


@asynccontextmanager
async def sleeper(**options: object) -> AsyncIterator[Manager]:
    """A manager whose model has been read with once, and will be in deep idle at once whenever nobody uses it."""
    config = make_config(make_model(NAME, "fake", None, **options))
    async with running(config, standby_engines=("fake",)) as manager:
        await read(manager)
        manager.apply(engines.live(config, idle=engines.idle(leave=0)))
        yield manager


async def test_the_wake_from_deep_idle_takes_the_standby() -> None:
    async with sleeper() as manager:
        before = worker_pid(manager, NAME)
        for _ in range(3):
            model = await until(manager, lambda model: model.standby)
            assert (model.state, model.worker) == (State.OFFLOADED, Worker.EXITED)
            assert manager.snapshot().worker_pids == {}
            (standby,) = processes()
            assert standby != before
            async with manager.lease(NAME):
                assert worker_pid(manager) == standby
                assert not seen(manager).standby
                assert processes() == {standby}
            before = standby
        assert seen(manager).loads == 1
    assert processes() == set()


async def test_a_release_ends_it() -> None:
    async with sleeper() as manager:
        await until(manager, lambda model: model.standby)
        await manager.release()
        model = await until(manager, lambda model: not model.standby)
        assert (model.state, model.host_bytes) == (State.UNLOADED, 0)
        await eventually(lambda: not processes())
        assert (await read(manager)).text


async def test_one_that_isnt_ready_does_what_it_was_at_and_then_restores() -> None:
    async with sleeper(stand_by_seconds=0.5) as manager:
        await until(manager, lambda model: model.worker is Worker.EXITED)
        await eventually(lambda: bool(processes()))
        (standby,) = processes()
        async with manager.lease(NAME):
            assert worker_pid(manager) == standby
        assert seen(manager).wakes == 1


async def test_one_that_was_killed_is_not_missed() -> None:
    async with sleeper() as manager:
        await until(manager, lambda model: model.standby)
        (standby,) = processes()
        os.kill(standby, signal.SIGKILL)
        await until(manager, lambda model: not model.standby)
        assert (await read(manager)).text
        assert seen(manager).wakes == 1
        assert seen(manager).last_failure is None


@pytest.mark.parametrize("fault", ["fail", "crash"])
async def test_one_that_cant_be_had_costs_nothing(
    fault: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    faults = engines.Faults(tmp_path)
    faults.set(stand_by=fault)
    async with sleeper(faults_file=str(faults.file)) as manager:
        await until(manager, lambda model: model.worker is Worker.EXITED)
        await eventually(lambda: "no standby" in caplog.text)
        await eventually(lambda: not processes())
        assert not seen(manager).standby
        assert (await read(manager)).text
        assert seen(manager).last_failure is None


async def test_a_release_while_it_begins_leaves_nothing() -> None:
    async with sleeper(stand_by_seconds=60) as manager:
        for _ in range(5):
            await until(manager, lambda model: model.worker is Worker.EXITED)
            await manager.release()
            await eventually(lambda: not processes())
            await asyncio.gather(*(read(manager) for _ in range(3)))


async def test_without_a_forkserver_there_is_none() -> None:
    config = make_config(make_model(NAME))
    async with running(config, standby_engines=("fake",), forkserver=False) as manager:
        await read(manager)
        manager.apply(engines.live(config, idle=engines.idle(leave=0)))
        await until(manager, lambda model: model.worker is Worker.EXITED)
        assert (await read(manager)).text
        assert not seen(manager).standby


async def test_without_its_standby_a_model_has_no_process_and_wakes_from_host_memory() -> None:
    others = set(vlmserver.offspring(os.getpid()))
    config = make_config(make_model(NAME, "fake", None))
    async with running(config, standby_engines=("fake",)) as manager:
        await read(manager)
        before = set(vlmserver.offspring(os.getpid())) - others
        manager.apply(engines.live(config, idle=engines.idle(leave=0)))
        await until(manager, lambda model: model.standby)
        manager.apply(engines.live(config, idle=engines.idle(leave=0, drop=0)))
        model = await until(manager, lambda model: not model.standby)
        assert (model.state, model.worker) == (State.OFFLOADED, Worker.EXITED)
        await eventually(lambda: not processes())
        await eventually(lambda: not any(engines.alive(pid) for pid in before))
        assert (await read(manager)).text
        model = await until(manager, lambda model: model.worker is Worker.EXITED)
        assert (model.wakes, model.loads, model.standby) == (1, 1, False)
        assert processes() == set()


async def test_the_imports_of_the_first_load_begin_at_the_start() -> None:
    others = set(vlmserver.offspring(os.getpid()))
    async with running(make_config(make_model(NAME, "fake", None))):
        await eventually(lambda: bool(set(vlmserver.offspring(os.getpid())) - others))


async def test_a_model_without_standbys_begins_no_imports() -> None:
    others = set(vlmserver.offspring(os.getpid()))
    config = make_config(make_model(NAME, "fake", None))
    settings = engines.live(config, idle=engines.idle(drop=0))
    async with running(config, settings=settings) as manager:
        await read(manager)
        (worker,) = set(vlmserver.offspring(os.getpid())) - others
        assert worker == worker_pid(manager)
