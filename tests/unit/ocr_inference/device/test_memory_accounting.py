"""What our models take of a device and what others do, and room for loads in flight."""

import json
import multiprocessing
import os
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from ocr_inference.config.settings import Settings
from ocr_inference.device import choosing, memory_accounting
from ocr_inference.device.memory_accounting import SimulatedMemoryAccounting
from tests.support.patience import PATIENCE


def use(folder: Path, uuid: str, pid: int, text: str) -> None:
    file = folder / "usage" / uuid / f"{pid}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.mark.gpu
@pytest.mark.skipif(not Path("/proc/driver/nvidia").exists(), reason="there is no NVIDIA driver here")
def test_a_real_device_says_what_others_hold() -> None:
    device = choosing.resolve(Settings(device="cuda"))
    ours = memory_accounting.of(Settings(), device, os.getpid())
    held = ours.external_bytes(0)
    assert 0 <= held < device.memory_total_bytes
    assert ours.external_bytes(held + (1 << 40)) == 0, "what is ours is no other's"
    assert ours.reserve(1)
    assert not ours.reserve(device.memory_total_bytes + 1)
    ours.close()


def test_books_are_kept_and_removed(tmp_path: Path) -> None:
    accounting = SimulatedMemoryAccounting(tmp_path, "GPU-a", os.getpid(), 1000)
    file = tmp_path / "usage" / "GPU-a" / f"{os.getpid()}.json"
    accounting.report(10, 1.0)
    assert json.loads(file.read_text()) == {"memory_bytes": 10, "utilization": 1.0}
    before = file.stat().st_ino
    accounting.report(10, 1.0)
    assert file.stat().st_ino == before, "written on changes only"
    accounting.report(20, 0.0)
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    accounting.close()
    assert list(file.parent.iterdir()) == []
    accounting.close()


def test_others_are_everybody_else_alive(tmp_path: Path) -> None:
    accounting = SimulatedMemoryAccounting(tmp_path, "GPU-a", os.getpid(), 1000)
    accounting.report(10, 0.0)
    use(tmp_path, "GPU-a", os.getppid(), '{"memory_bytes": 30, "utilization": 0}')
    use(tmp_path, "GPU-a", 2**22 + 7, '{"memory_bytes": 500, "utilization": 0}')
    use(tmp_path, "GPU-b", os.getppid(), '{"memory_bytes": 70, "utilization": 0}')
    assert accounting.external_bytes() == 30


def test_what_is_taken_is_booked_at_once_and_never_beyond_the_size(tmp_path: Path) -> None:
    mine = SimulatedMemoryAccounting(tmp_path, "GPU-a", os.getpid(), 1000)
    theirs = SimulatedMemoryAccounting(tmp_path, "GPU-a", os.getppid(), 1000)
    assert mine.reserve(600)
    assert theirs.external_bytes() == 600
    assert not theirs.reserve(500)
    assert theirs.reserve(400)
    assert not mine.reserve(1)
    mine.report(0, 0.0)
    assert theirs.reserve(600)


def _race(folder: Path, start: Barrier, won: SimpleQueue[bool]) -> None:
    accounting = SimulatedMemoryAccounting(folder, "GPU-a", os.getpid(), 1000)
    for _ in range(200):
        start.wait()
        taken = accounting.reserve(600)
        won.put(taken)
        start.wait()
        accounting.report(0, 0.0)
    start.wait()


def test_of_two_processes_that_race_for_the_same_room_exactly_one_gets_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start, won = context.Barrier(2, timeout=PATIENCE), context.SimpleQueue()
    racers = [context.Process(target=_race, args=(tmp_path, start, won), daemon=True) for _ in range(2)]
    for racer in racers:
        racer.start()
    wins = sum(won.get() for _ in range(400))
    for racer in racers:
        racer.join(60)
    assert wins == 200
