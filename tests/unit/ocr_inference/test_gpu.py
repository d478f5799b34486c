"""Which device is served on, and the books of simulated ones."""

import json
import multiprocessing
import os
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from ocr_inference import gpu
from ocr_inference.gpu import Device, Gpu, NoDevice, SimulatedBooks
from ocr_inference.settings import Settings

GPUS = (Gpu("GPU-a", "NVIDIA-L40S", 1000), Gpu("GPU-b", "NVIDIA-L40S", 1000), Gpu("GPU-c", "NVIDIA-A10", 500))


def write(folder: Path, gpus: object = None) -> Path:
    rows = [{"uuid": each.uuid, "product": each.product, "memory_bytes": each.memory_bytes} for each in GPUS]
    (folder / "gpus.json").write_text(json.dumps(rows if gpus is None else gpus))
    return folder


def simulated(folder: Path | None, visible: str | None = None) -> Settings:
    return Settings(device="simulated", simulated_gpu_dir=folder, visible_devices=visible)


def use(folder: Path, uuid: str, pid: int, text: str) -> None:
    file = folder / "usage" / uuid / f"{pid}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.mark.parametrize(
    ("visible", "uuid"),
    [
        (None, "GPU-a"),
        ("all", "GPU-a"),
        ("GPU-b", "GPU-b"),
        ("2", "GPU-c"),
        ("GPU-b,GPU-a", "GPU-b"),
        ("auto", "GPU-b"),
    ],
)
def test_visible_devices_choose(visible: str | None, uuid: str) -> None:
    assert gpu.choose(visible, GPUS, {"GPU-a": 600, "GPU-b": 100}).uuid == uuid


@pytest.mark.parametrize(
    ("visible", "message"),
    [
        ("none", "hides every GPU"),
        ("GPU-x", "names 'GPU-x', which isn't here; there are GPU-a"),
        ("7", "names '7'"),
    ],
)
def test_a_choice_that_cannot_be_met_says_what_there_is(visible: str, message: str) -> None:
    with pytest.raises(NoDevice, match=message):
        gpu.choose(visible, GPUS, {})


def test_without_any_gpu_the_cpu_is_the_way_out() -> None:
    with pytest.raises(NoDevice, match="OCR_DEVICE=cpu"):
        gpu.choose(None, (), {})


def test_a_simulated_device_is_what_the_folder_says(tmp_path: Path) -> None:
    assert gpu.resolve(simulated(write(tmp_path), "GPU-b")) == Device(
        "simulated", "GPU-b", "NVIDIA-L40S", 1000
    )


def test_auto_counts_what_living_processes_say(tmp_path: Path) -> None:
    folder = write(tmp_path)
    use(folder, "GPU-a", os.getpid(), '{"memory_bytes": 800, "utilization": 0.5}')
    use(folder, "GPU-b", 2**22 + 7, '{"memory_bytes": 900, "utilization": 0.5}')
    use(folder, "GPU-c", os.getpid(), "{ damaged")
    assert gpu.resolve(simulated(folder, "auto")).uuid == "GPU-b"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "there is no GPU"),
        ([{"uuid": "../x", "product": "P", "memory_bytes": 1}], "matching regex"),
        ([{"uuid": "GPU-a", "product": "P", "memory_bytes": -1}], "memory_bytes"),
        ({"uuid": "GPU-a"}, "array"),
    ],
)
def test_a_wrong_gpus_file_is_named(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(NoDevice, match=message):
        gpu.resolve(simulated(write(tmp_path, content)))


def test_missing_folder_and_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(NoDevice, match="needs OCR_SIMULATED_GPU_DIR"):
        gpu.resolve(simulated(None))
    with pytest.raises(NoDevice, match=r"gpus\.json can't be read"):
        gpu.resolve(simulated(tmp_path))


def test_cpu_is_cpu_and_auto_without_gpus_too() -> None:
    assert gpu.resolve(Settings(device="cpu")) == Device("cpu")
    assert gpu.resolve(Settings(device="auto", visible_devices="void")) == Device("cpu")


@pytest.mark.skipif(Path("/proc/driver/nvidia").exists(), reason="there is an NVIDIA driver here")
def test_cuda_without_a_driver_is_an_honest_error() -> None:
    assert gpu.resolve(Settings(device="auto")) == Device("cpu")
    with pytest.raises(NoDevice, match="no NVIDIA driver here"):
        gpu.resolve(Settings(device="cuda"))
    with pytest.raises(NoDevice, match="no NVIDIA driver here"):
        gpu.resolve(Settings(device="auto", visible_devices="GPU-that-was-promised"))


@pytest.mark.gpu
@pytest.mark.skipif(not Path("/proc/driver/nvidia").exists(), reason="there is no NVIDIA driver here")
def test_cuda_is_seen_through_nvml() -> None:
    device = gpu.resolve(Settings(device="cuda"))
    assert device.kind == "cuda"
    assert device.uuid is not None
    assert device.uuid.startswith("GPU-")
    assert device.memory_total_bytes > 1 << 30


@pytest.mark.gpu
@pytest.mark.skipif(not Path("/proc/driver/nvidia").exists(), reason="there is no NVIDIA driver here")
def test_a_real_device_says_what_others_hold() -> None:
    device = gpu.resolve(Settings(device="cuda"))
    books = gpu.books(Settings(), device, os.getpid())
    held = books.others_bytes(0)
    assert 0 <= held < device.memory_total_bytes
    assert books.others_bytes(held + (1 << 40)) == 0, "what is ours is no other's"
    assert books.take(1)
    assert not books.take(device.memory_total_bytes + 1)
    books.close()


def test_books_are_kept_and_removed(tmp_path: Path) -> None:
    books = SimulatedBooks(tmp_path, "GPU-a", os.getpid(), 1000)
    file = tmp_path / "usage" / "GPU-a" / f"{os.getpid()}.json"
    books.report(10, 1.0)
    assert json.loads(file.read_text()) == {"memory_bytes": 10, "utilization": 1.0}
    before = file.stat().st_ino
    books.report(10, 1.0)
    assert file.stat().st_ino == before, "written on changes only"
    books.report(20, 0.0)
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    books.close()
    assert list(file.parent.iterdir()) == []
    books.close()


def test_others_are_everybody_else_alive(tmp_path: Path) -> None:
    books = SimulatedBooks(tmp_path, "GPU-a", os.getpid(), 1000)
    books.report(10, 0.0)
    use(tmp_path, "GPU-a", os.getppid(), '{"memory_bytes": 30, "utilization": 0}')
    use(tmp_path, "GPU-a", 2**22 + 7, '{"memory_bytes": 500, "utilization": 0}')
    use(tmp_path, "GPU-b", os.getppid(), '{"memory_bytes": 70, "utilization": 0}')
    assert books.others_bytes() == 30


def test_what_is_taken_is_booked_at_once_and_never_beyond_the_size(tmp_path: Path) -> None:
    mine = SimulatedBooks(tmp_path, "GPU-a", os.getpid(), 1000)
    theirs = SimulatedBooks(tmp_path, "GPU-a", os.getppid(), 1000)
    assert mine.take(600)
    assert theirs.others_bytes() == 600
    assert not theirs.take(500)
    assert theirs.take(400)
    assert not mine.take(1)
    mine.report(0, 0.0)
    assert theirs.take(600)


def _race(folder: Path, start: Barrier, won: SimpleQueue[bool]) -> None:
    books = SimulatedBooks(folder, "GPU-a", os.getpid(), 1000)
    for _ in range(200):
        start.wait()
        taken = books.take(600)
        won.put(taken)
        start.wait()
        books.report(0, 0.0)
    start.wait()


def test_of_two_processes_that_race_for_the_same_room_exactly_one_gets_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start, won = context.Barrier(2, timeout=60), context.SimpleQueue()
    racers = [context.Process(target=_race, args=(tmp_path, start, won), daemon=True) for _ in range(2)]
    for racer in racers:
        racer.start()
    wins = sum(won.get() for _ in range(400))
    for racer in racers:
        racer.join(60)
    assert wins == 200
