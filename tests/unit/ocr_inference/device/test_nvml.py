"""Real GPUs by the real `pynvml`, on a stand-in for the driver's library."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest

from ocr_inference.config.settings import Settings
from ocr_inference.device import choosing, gpu_usage, memory_accounting, nvml
from ocr_inference.device.gpu import Device, Gpu, NoDevice
from ocr_inference.device.gpu_usage import Measured
from ocr_inference.device.nvml import DeviceMemory
from tests.support.nvml import GIB, LIBRARY, Machine, build, machine
from tests.support.patience import PATIENCE

CUDA = Settings(device="cuda")
A, B = "GPU-5d0c2a0e-0000-4a2f-8d57-000000000001", "GPU-5d0c2a0e-0000-4a2f-8d57-000000000002"
MIG = "MIG-9b0d4a5e-0000-5c54-9f6b-000000000003"


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("driver")
    build(folder)
    with machine(folder) as found:
        yield found


@pytest.fixture
def host(booted: Machine) -> Machine:
    booted.clear()
    return booted


# Run on the machine:


def measured() -> list[Measured]:
    with gpu_usage.opened(None) as usage_reader:
        return usage_reader.read()


def memory(uuid: str) -> DeviceMemory:
    with nvml.opened() as driver:
        return driver.by_uuid(uuid).memory()


def room(uuid: str, ours_bytes: int, need_bytes: int) -> tuple[int, bool]:
    kept = memory_accounting.of(Settings(), Device("cuda", uuid), 1)
    with contextlib.closing(kept):
        return kept.external_bytes(ours_bytes), kept.reserve(need_bytes)


def opened_twice(uuid: str) -> tuple[DeviceMemory, str]:
    """What one user reads after another has gone, and what is said after the last."""
    with nvml.opened() as driver:
        with nvml.opened():
            pass
        found = driver.by_uuid(uuid).memory()
    try:
        return found, f"there are {driver.count()} GPUs"
    except NoDevice as error:
        return found, str(error)


# ---


def test_a_gpu_is_served_as_nvml_tells_of_it(host: Machine) -> None:
    host.gpu(A)
    host.gpu(B, free=44 * GIB)
    one = Settings(device="cuda", visible_devices=A)
    assert host.call(choosing.resolve, one) == Device("cuda", A, "NVIDIA L40S", 48 * GIB, (8, 9))
    assert host.call(choosing.resolve, Settings(device="auto", visible_devices=B)).uuid == B


def test_without_a_name_the_least_used_gpu_is_served(host: Machine) -> None:
    host.gpu(A, busy=90)
    host.gpu(B, free=38 * GIB)
    assert host.call(choosing.resolve, CUDA).uuid == B, "it computes less"
    host.clear()
    host.gpu(A, free=20 * GIB)
    host.gpu(B, busy=100)
    for visible in (None, "all", "auto"):
        assert host.call(choosing.resolve, Settings(device="auto", visible_devices=visible)).uuid == B, "free"


def test_a_container_is_served_on_the_gpu_that_its_runtime_left(host: Machine) -> None:
    host.gpu(A)
    for nvidia in ("2", "3,3", "void", "all"):
        assert host.call(choosing.resolve, Settings(device="auto", visible_devices=nvidia)).uuid == A
    host.gpu(B)
    assert host.call(choosing.resolve, Settings(device="auto", visible_devices="7,2")).uuid == B
    with pytest.raises(NoDevice, match="names '2', which isn't here"):
        host.call(choosing.resolve, Settings(device="auto", visible_devices="2"))


def test_void_without_a_gpu_is_the_cpu(host: Machine) -> None:
    assert host.call(choosing.resolve, Settings(device="auto", visible_devices="void")) == Device("cpu")


def test_what_cuda_would_use_is_served(host: Machine) -> None:
    host.gpu(A)
    host.gpu(B)
    for cuda, uuid in (("1", B), (B[:12] + "-0000-4a2f-8d57-000000000002", B), ("0,1", A)):
        assert host.call(choosing.resolve, Settings(device="auto", cuda_visible_devices=cuda)).uuid == uuid
    assert host.call(choosing.resolve, Settings(device="auto", cuda_visible_devices="")) == Device("cpu")
    for device in ("auto", "cuda"):
        with pytest.raises(NoDevice, match="CUDA_VISIBLE_DEVICES='5' names no GPU that is here"):
            host.call(choosing.resolve, Settings(device=device, cuda_visible_devices="5"))
    with pytest.raises(NoDevice, match="CUDA_VISIBLE_DEVICES='' names no GPU"):
        host.call(choosing.resolve, Settings(device="cuda", cuda_visible_devices=""))


def test_a_mig_instance_is_named_to_cuda_too(host: Machine) -> None:
    host.gpu(A)
    host.gpu(MIG, free=47 * GIB)
    assert host.call(choosing.resolve, Settings(device="auto", cuda_visible_devices=MIG)).uuid == MIG


def test_a_mig_instance_is_served_by_its_uuid(host: Machine) -> None:
    host.gpu(A)
    host.gpu(MIG, free=47 * GIB)
    host.refuse("nvmlDeviceGetMemoryInfo", pynvml.NVML_ERROR_NO_PERMISSION, A)
    device = host.call(choosing.resolve, Settings(device="auto", visible_devices=MIG))
    assert device == Device("cuda", MIG, "NVIDIA L40S", 48 * GIB, (8, 9))
    assert host.call(room, MIG, 0, 47 * GIB) == (GIB, True)


def test_auto_without_gpus_is_the_cpu_and_cuda_says_so(host: Machine) -> None:
    assert host.call(choosing.resolve, Settings(device="auto")) == Device("cpu")
    with pytest.raises(NoDevice, match="there is no GPU here; set OCR_DEVICE=cpu"):
        host.call(choosing.resolve, CUDA)


def test_capability_that_the_driver_keeps_to_itself_is_left_to_cuda(host: Machine) -> None:
    host.gpu(A)
    host.refuse("nvmlDeviceGetCudaComputeCapability", pynvml.NVML_ERROR_NOT_SUPPORTED)
    assert host.call(choosing.resolve, CUDA).compute_capability is None


@pytest.mark.parametrize(
    ("function", "code", "message"),
    [
        ("nvmlInitWithFlags", 4, r"\(start: Insufficient Permissions\); give the container the device files"),
        (
            "nvmlInitWithFlags",
            9,
            r"\(start: Driver Not Loaded\); load the node's kernel module nvidia, or set",
        ),
        ("nvmlInitWithFlags", 18, r"\(start: RM has .* mismatch\); restart the node, or the pod"),
        ("nvmlInitWithFlags", 999, r"\(start: Unknown Error\); see nvidia-smi, or set OCR_DEVICE=cpu"),
        ("nvmlDeviceGetCount_v2", 28, r"\(number of GPUs: .*GPU not found.*\); see nvidia-smi"),
        ("nvmlDeviceGetHandleByIndex_v2", 15, r"\(GPU 0: GPU is lost\); restart the node"),
        ("nvmlDeviceGetUUID", 16, r"\(GPU 0: GPU requires restart\); reset the GPU"),
        ("nvmlDeviceGetMemoryInfo", 4, r"\(memory of GPU 0: Insufficient Permissions\); .* a MIG instance"),
    ],
)
def test_a_driver_that_refuses_is_named_with_the_way_out(
    host: Machine, function: str, code: int, message: str
) -> None:
    host.gpu(A)
    host.refuse(function, code)
    with pytest.raises(NoDevice, match=f"^the NVIDIA driver refused {message}"):
        host.call(choosing.resolve, CUDA)
    assert host.call(choosing.resolve, Settings(device="auto")) == Device("cpu")


def test_a_driver_is_found_once_it_is_there(host: Machine) -> None:
    host.gpu(A)
    host.refuse("nvmlInitWithFlags", pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
    with pytest.raises(NoDevice, match="Driver Not Loaded"):
        host.call(measured)
    host.clear()
    host.gpu(A)
    assert len(host.call(measured)) == 1


def test_a_damaged_library_is_no_driver(tmp_path: Path) -> None:
    (tmp_path / LIBRARY).write_text("not a library")
    with machine(tmp_path) as host:
        with pytest.raises(
            NoDevice, match=r"^no NVIDIA driver here \(libnvidia-ml\.so\.1\); set OCR_DEVICE=cpu"
        ):
            host.call(choosing.resolve, CUDA)
        assert host.call(choosing.resolve, Settings(device="auto")) == Device("cpu")


def test_unknown_uuids_are_named(host: Machine) -> None:
    host.gpu(A)
    with pytest.raises(NoDevice, match=rf"refused \({B}: Not Found\); compare NVIDIA_VISIBLE_DEVICES with"):
        host.call(memory, B)
    with pytest.raises(NoDevice, match=rf"refused \({MIG}: Not Found\)"):
        host.call(choosing.resolve, Settings(device="cuda", visible_devices=MIG))
    with pytest.raises(NoDevice, match=f"names '{B}', which isn't here; there are {A}"):
        host.call(choosing.resolve, Settings(device="cuda", visible_devices=B))


def test_whole_gpus_are_measured_and_a_lost_one_is_left_out(host: Machine) -> None:
    host.gpu(A)
    host.gpu(MIG)
    host.gpu(B, busy=42)
    host.refuse("nvmlDeviceGetHandleByIndex_v2", pynvml.NVML_ERROR_GPU_IS_LOST, A)
    assert host.call(measured) == [Measured(1, Gpu(B, "NVIDIA L40S", 48 * GIB), 8 * GIB, 0.42)]


@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_NO_PERMISSION])
def test_a_gpu_in_instances_has_memory_and_no_utilization(host: Machine, code: int) -> None:
    host.gpu(A)
    host.refuse("nvmlDeviceGetUtilizationRates", code)
    [one] = host.call(measured)
    assert (one.used_bytes, one.utilization) == (8 * GIB, None)


def test_a_real_device_keeps_its_own_books(host: Machine) -> None:
    host.gpu(A)
    assert host.call(room, A, 3 * GIB, 40 * GIB) == (5 * GIB, True)
    assert host.call(room, A, 9 * GIB, 40 * GIB + 1) == (0, False)
    host.refuse("nvmlDeviceGetMemoryInfo", pynvml.NVML_ERROR_GPU_IS_LOST)
    with pytest.raises(NoDevice, match=rf"refused \(memory of {A}: GPU is lost\)"):
        host.call(room, A, 0, 0)


def test_one_user_closes_nvml_for_no_other(host: Machine) -> None:
    host.gpu(A)
    assert host.call(opened_twice, A) == (
        DeviceMemory(48 * GIB, 40 * GIB, 8 * GIB),
        "the NVIDIA driver refused (number of GPUs: Uninitialized); see nvidia-smi, or set OCR_DEVICE=cpu",
    )


def test_the_exporter_ends_with_the_drivers_word(host: Machine) -> None:
    host.refuse("nvmlInitWithFlags", pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)
    ended = subprocess.run(
        [sys.executable, "-m", "ocr_inference", "gpu-exporter"],
        env=host.environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("ocr-inference: the NVIDIA driver refused (start: RM has detected")
