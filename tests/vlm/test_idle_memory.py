"""What a vision-language model costs that nobody uses: memory and wake-ups of all processes, in a server of its own."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")

from bench import idle, wake
from ocr_inference.workers import memory_map, two_calls
from ocr_wire import names
from ocr_wire.states import DeviceKind
from tests.support.engines import eventually

pytestmark = pytest.mark.long

MIB = 1 << 20
STARTED_MIB = 150
"""83 were measured; 786 with the imports in memory."""
DEEP_IDLE_MIB = 225
"""172 were measured, 35 of them weights; 203 where all modules were compiled to bytecode just before, which leaves
memory behind in the processes that do it; 897 with the imports in memory."""
IMPORTS = """
import importlib
from ocr_inference.engines.transformers import engine
for name in engine.PRELOAD:
    importlib.import_module(name)
"""
WAKE_UPS = 5.0


def is_on_a_disk(folder: Path) -> bool:
    mounts = Path("/proc/self/mountinfo").read_text()
    return memory_map.file_system(mounts, os.path.realpath(folder)) in memory_map.DISKS


@pytest.mark.skipif(not two_calls.supported(), reason="no glibc, or another kind of machine")
async def test_what_waits_for_the_next_wake_takes_little_memory_and_no_cpu(tmp_path: Path) -> None:
    if not is_on_a_disk(tmp_path):
        pytest.skip("the folder of tests isn't on a disk")
    compiled = await asyncio.create_subprocess_exec(sys.executable, "-c", IMPORTS)  # as it is in an image
    assert await compiled.wait() == 0
    await wake.checkpoint(tmp_path / "checkpoint", "tiny")
    environ = os.environ | {
        names.ENV_CACHE_DIR: str(tmp_path / "cache"),
        names.ENV_DEVICE: DeviceKind.CPU,
        "TMPDIR": str(tmp_path),
    }
    config = wake.VLM.format(folder=tmp_path / "checkpoint", threads=1)
    async with idle.served(config, environ) as (sleeper, pid):

        def mib() -> float:
            return idle.pss_bytes(idle.tree(pid)) / MIB

        def processes() -> int:
            return len(idle.tree(pid))

        await eventually(lambda: processes() > 1 and mib() > STARTED_MIB)
        await eventually(lambda: mib() < STARTED_MIB)
        await sleeper.read()
        for _ in range(2):
            await sleeper.sleep(deep=True)
            await eventually(lambda: mib() < DEEP_IDLE_MIB)
            assert processes() == 3, "the server, a forkserver, a standby"
            await sleeper.read()
        await sleeper.sleep(deep=True)
        await idle.settled(pid)
        assert (await idle.resting(pid)).wakes <= WAKE_UPS
