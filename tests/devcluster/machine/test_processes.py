import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster.machine import processes
from devcluster.machine.layout import Identity
from tests.support.patience import PATIENCE


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        ["sleep", "600"], env={**os.environ, "DEVCLUSTER_TEST": "unit-test-mark"}
    ) as process:
        yield process
        process.kill()


def identity(process: subprocess.Popen[bytes]) -> Identity:
    found = processes.identify(process.pid)
    assert found is not None
    return found


def test_a_process_is_known_by_number_and_start(sleeper: subprocess.Popen[bytes]) -> None:
    one = identity(sleeper)
    assert processes.runs(one)
    assert not processes.runs(Identity(pid=one.pid, started=one.started + 1))
    assert one in processes.children(os.getpid())


def test_a_signal_never_reaches_a_later_process_of_the_same_number(sleeper: subprocess.Popen[bytes]) -> None:
    one = identity(sleeper)
    assert not processes.send(Identity(pid=one.pid, started=one.started - 1), signal.SIGKILL)
    assert sleeper.poll() is None
    assert processes.send(one, signal.SIGKILL)
    assert sleeper.wait(timeout=PATIENCE) == -signal.SIGKILL
    assert not processes.send(one, signal.SIGKILL)


def test_a_process_that_nobody_waited_for_has_ended(sleeper: subprocess.Popen[bytes]) -> None:
    one = identity(sleeper)
    os.kill(sleeper.pid, signal.SIGKILL)
    assert processes.wait([one], seconds=PATIENCE) == []
    assert not processes.runs(one)


def test_marks_are_whole_variables(sleeper: subprocess.Popen[bytes]) -> None:
    one = identity(sleeper)
    assert one in processes.marked(["OTHER=x", "DEVCLUSTER_TEST=unit-test-mark"])
    assert one not in processes.marked(["DEVCLUSTER_TEST=unit-test"])
    assert processes.marked([]) == []


def test_one_that_ignores_the_request_is_killed() -> None:
    program = (
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('on', flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as stubborn:
        assert stubborn.stdout is not None
        assert stubborn.stdout.readline() == b"on\n"
        processes.end([identity(stubborn)], grace_seconds=0.1)
        assert stubborn.wait(timeout=PATIENCE) == -signal.SIGKILL


async def test_a_child_writes_its_log_and_tells_its_end(tmp_path: Path) -> None:
    child = processes.Child.spawn(
        "talker",
        ["sh", "-c", "echo $WORD; echo trouble >&2; exit 7"],
        log=tmp_path / "logs" / "talker.log",
        cwd=tmp_path,
        environment={"WORD": "hello"},
    )
    assert await child.exited == 7
    assert processes.tail(child.log) == "  hello\n  trouble"
    await child.stop(0.0)


def test_a_child_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    program = (
        "import asyncio, os, sys, pathlib\n"
        "from devcluster.machine.processes import Child\n"
        "async def main():\n"
        "    here = pathlib.Path(sys.argv[1])\n"
        "    child = Child.spawn('c', ['sleep', '600'], log=here / 'log', cwd=here, environment=dict(os.environ))\n"
        "    print(child.identity.pid, child.identity.started, flush=True)\n"
        "    await child.exited\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid, started = parent.stdout.readline().split()
        child = Identity(pid=int(pid), started=int(started))
        assert processes.runs(child)
        parent.kill()
    assert processes.wait([child], seconds=PATIENCE) == []


def test_the_tail_of_a_log_is_short(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert processes.tail(log) == ""
    log.write_text("".join(f"{number} {'x' * 1000}\n" for number in range(1000)))
    lines = processes.tail(log, lines=3, width=10).splitlines()
    assert [line.split()[0] for line in lines] == ["997", "998", "999"]
    assert all(len(line) == 12 for line in lines)
