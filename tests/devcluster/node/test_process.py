import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from devcluster.machine import processes
from devcluster.machine.layout import NODE_MARK
from devcluster.node.decide.podspec import Command
from devcluster.node.pods import process
from tests.support.patience import PATIENCE


def shell(script: str, folder: Path, **env: str) -> Command:
    return Command(["sh", "-c", script], {"PATH": os.environ["PATH"], **env}, str(folder))


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended but that nobody has waited for doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


async def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  what is waited for is outside of Python
            await asyncio.sleep(0.01)


def pids(log: Path, count: int) -> list[int]:
    words = log.read_text().split() if log.exists() else []
    return [int(word) for word in words] if len(words) == count else []


async def test_output_is_appended_and_the_exit_code_comes_back(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "0.log"
    first = process.start(shell("echo one; echo two >&2; exit 3", tmp_path), log)
    assert await first.wait() == 3
    second = process.start(shell("pwd; kill -9 $$", tmp_path), log)
    assert await second.wait() == -9
    assert log.read_text() == f"one\ntwo\n{tmp_path}\n"


async def test_environment_is_only_what_is_given(tmp_path: Path) -> None:
    log = tmp_path / "log"
    await process.start(Command(["/usr/bin/env"], {"A": "1"}, str(tmp_path)), log).wait()
    assert log.read_text() == "A=1\n"


async def test_a_program_that_isnt_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        process.start(Command(["no-such-program"], {"PATH": "/usr/bin"}, str(tmp_path)), tmp_path / "log")


async def test_what_a_process_forked_ends_with_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    running = process.start(shell("sleep 600 & echo $!; exit 0", tmp_path), log)
    assert await running.wait() == 0
    (child,) = pids(log, 1)
    await until(lambda: not alive(child))


async def test_signal_reaches_the_first_process_and_kill_the_whole_group(tmp_path: Path) -> None:
    log = tmp_path / "log"
    running = process.start(shell("trap 'echo 0' TERM; sleep 600 & echo $!; wait; wait", tmp_path), log)
    await until(lambda: pids(log, 1) != [])
    (child,) = pids(log, 1)
    running.signal(signal.SIGTERM)
    await until(lambda: pids(log, 2) != [])
    assert alive(child)
    running.kill()
    assert await running.wait() == -9
    await until(lambda: not alive(child))


async def test_sweep_finds_marked_processes_in_any_session(tmp_path: Path) -> None:
    log, mark = tmp_path / "log", str(tmp_path)
    script = "setsid sleep 600 & echo $!; sleep 600 & echo $!; wait"
    running = process.start(shell(script, tmp_path, **{NODE_MARK: mark}), log)
    other = process.start(shell("sleep 600", tmp_path, **{NODE_MARK: mark + "x"}), tmp_path / "other")
    await until(lambda: pids(log, 2) != [])
    assert await asyncio.to_thread(processes.sweep, [f"{NODE_MARK}={mark}"]) == 3
    await until(lambda: not any(alive(pid) for pid in pids(log, 2)))
    assert await running.wait() == -9
    assert alive(other.pid)
    other.kill()
    await other.wait()


PARENT = """
import asyncio, os, sys
from pathlib import Path
from devcluster.machine.layout import NODE_MARK
from devcluster.node.pods import process
from devcluster.node.decide.podspec import Command

async def main(root):
    keeper = process.keeper(root)
    env = {"PATH": os.environ["PATH"], NODE_MARK: str(root)}
    process.start(Command(["sh", "-c", "setsid sleep 600 & echo $!; echo $$; wait"], env, str(root)), root / "log")
    print(keeper.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main(Path(sys.argv[1])))
"""


async def test_a_killed_parent_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:  # noqa: ASYNC220
        assert parent.stdout is not None
        keeper = int(parent.stdout.readline())
        await until(lambda: pids(tmp_path / "log", 2) != [])
        ran = [keeper, *pids(tmp_path / "log", 2)]
        assert all(alive(pid) for pid in ran)
        parent.kill()
        await until(lambda: not any(alive(pid) for pid in ran))
