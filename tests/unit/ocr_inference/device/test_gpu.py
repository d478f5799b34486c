"""Which device is served on."""

import json
import os
from pathlib import Path

import pytest

from ocr_inference.config.settings import Settings
from ocr_inference.device import choosing
from ocr_inference.device.gpu import Device, Gpu, NoDevice
from ocr_inference.device.least_used import Load

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
        (None, "GPU-b"),
        ("all", "GPU-b"),
        ("GPU-b", "GPU-b"),
        ("2", "GPU-c"),
        ("GPU-b,GPU-a", "GPU-b"),
        ("auto", "GPU-b"),
    ],
)
def test_visible_devices_choose(visible: str | None, uuid: str) -> None:
    assert choosing.choose(visible, GPUS, {"GPU-a": Load(600), "GPU-b": Load(100)}).uuid == uuid


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
        choosing.choose(visible, GPUS, {})


def test_without_any_gpu_the_cpu_is_the_way_out() -> None:
    with pytest.raises(NoDevice, match="OCR_DEVICE=cpu"):
        choosing.choose(None, (), {})


def test_a_simulated_device_is_what_the_folder_says(tmp_path: Path) -> None:
    assert choosing.resolve(simulated(write(tmp_path), "GPU-b")) == Device(
        "simulated", "GPU-b", "NVIDIA-L40S", 1000
    )


def test_the_least_used_is_served_unless_one_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path)
    use(folder, "GPU-a", os.getpid(), '{"memory_bytes": 800, "utilization": 0.5}')
    for visible in (None, "all", "auto"):
        assert choosing.resolve(simulated(folder, visible)).uuid == "GPU-b"
    assert choosing.resolve(simulated(folder, "GPU-a")).uuid == "GPU-a"


def test_auto_counts_what_living_processes_say(tmp_path: Path) -> None:
    folder = write(tmp_path)
    use(folder, "GPU-a", os.getpid(), '{"memory_bytes": 800, "utilization": 0.5}')
    use(folder, "GPU-b", 2**22 + 7, '{"memory_bytes": 900, "utilization": 0.5}')
    use(folder, "GPU-c", os.getpid(), "{ damaged")
    assert choosing.resolve(simulated(folder, "auto")).uuid == "GPU-b"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "there is no GPU"),
        ([{"uuid": "../x", "product": "P", "memory_bytes": 1}], "matching regex"),
        ([{"uuid": "GPU-a\n", "product": "P", "memory_bytes": 1}], "matching regex"),
        ([{"uuid": "GPU-a", "product": "P", "memory_bytes": -1}], "memory_bytes"),
        ({"uuid": "GPU-a"}, "array"),
    ],
)
def test_a_wrong_gpus_file_is_named(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(NoDevice, match=message):
        choosing.resolve(simulated(write(tmp_path, content)))


def test_missing_folder_and_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(NoDevice, match="needs OCR_SIMULATED_GPU_DIR"):
        choosing.resolve(simulated(None))
    with pytest.raises(NoDevice, match=r"gpus\.json can't be read"):
        choosing.resolve(simulated(tmp_path))


def test_cpu_is_cpu_and_auto_without_gpus_too() -> None:
    assert choosing.resolve(Settings(device="cpu")) == Device("cpu")
    for hidden in ("none", ""):
        assert choosing.resolve(Settings(device="auto", visible_devices=hidden)) == Device("cpu")
    for hidden in ("", "-1", "-1,0"):
        assert choosing.resolve(Settings(device="auto", cuda_visible_devices=hidden)) == Device("cpu")


@pytest.mark.skipif(Path("/proc/driver/nvidia").exists(), reason="there is an NVIDIA driver here")
def test_cuda_without_a_driver_is_an_honest_error() -> None:
    assert choosing.resolve(Settings(device="auto")) == Device("cpu")
    with pytest.raises(NoDevice, match="no NVIDIA driver here"):
        choosing.resolve(Settings(device="cuda"))
    with pytest.raises(NoDevice, match="no NVIDIA driver here"):
        choosing.resolve(Settings(device="auto", visible_devices="GPU-that-was-promised"))


@pytest.mark.gpu
@pytest.mark.skipif(not Path("/proc/driver/nvidia").exists(), reason="there is no NVIDIA driver here")
def test_cuda_is_seen_through_nvml() -> None:
    device = choosing.resolve(Settings(device="cuda"))
    assert device.kind == "cuda"
    assert device.uuid is not None
    assert device.uuid.startswith("GPU-")
    assert device.memory_total_bytes > 1 << 30
    assert device.compute_capability is not None
    assert device.compute_capability >= (5, 0)
