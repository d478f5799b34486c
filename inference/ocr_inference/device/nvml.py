"""Read real GPUs through NVIDIA's management library (NVML), by NVIDIA's own binding `pynvml`.

Never through CUDA, so the server's process takes nothing of a GPU. NVML counts its users within a process: it may be
open several times at once and may be called from any thread. What a fork makes of an open NVML is nowhere promised, so
only the server and the exporter open it, which never fork themselves.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pynvml

from ocr_inference.device.gpu import Gpu, NoDevice

_CPU = "or set OCR_DEVICE=cpu"
_WAYS_OUT: Mapping[int, str] = {
    pynvml.NVML_ERROR_NO_PERMISSION: "give the container the device files /dev/nvidia*, or, where it holds a MIG"
    " instance only, name that in NVIDIA_VISIBLE_DEVICES",
    pynvml.NVML_ERROR_NOT_FOUND: "compare NVIDIA_VISIBLE_DEVICES with nvidia-smi -L",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: f"load the node's kernel module nvidia, {_CPU}",
    pynvml.NVML_ERROR_GPU_IS_LOST: "restart the node: the GPU fell off the bus",
    pynvml.NVML_ERROR_RESET_REQUIRED: "reset the GPU (nvidia-smi --gpu-reset) or restart the node",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "restart the node, or the pod if the node's driver was updated under"
    " it: kernel module and library are of different versions",
}
"""What helps against an error of NVML; for all others, `nvidia-smi` may have details."""


@dataclass(frozen=True)
class DeviceMemory:
    """Memory of a GPU or MIG instance, in bytes."""

    total: int
    free: int
    used: int
    """All that isn't free, with what the driver reserves for itself; `nvidia-smi` leaves the latter out."""


@dataclass(frozen=True)
class Card:
    """GPU or MIG instance that NVML knows, valid while NVML is open. Methods raise `NoDevice` unless they return None
    for what the driver doesn't report."""

    name: str
    """Its number or UUID, for messages."""
    handle: object

    def read(self) -> tuple[Gpu, int]:
        """Return what it is, and the bytes in use on it."""
        with _asking(self.name):
            uuid, product = pynvml.nvmlDeviceGetUUID(self.handle), pynvml.nvmlDeviceGetName(self.handle)
        memory = self.memory()
        return Gpu(uuid, product, memory.total), memory.used

    def memory(self) -> DeviceMemory:
        with _asking(f"memory of {self.name}"):
            found = pynvml.nvmlDeviceGetMemoryInfo(self.handle)
        return DeviceMemory(found.total, found.free, found.used)

    def utilization(self) -> float | None:
        """Return 0 to 1, or None where the driver doesn't report it (MIG)."""
        try:
            return min(100, int(pynvml.nvmlDeviceGetUtilizationRates(self.handle).gpu)) / 100
        except pynvml.NVMLError:
            return None

    def compute_capability(self) -> tuple[int, int] | None:
        """Return major and minor, or None where the driver doesn't report them; workers ask CUDA then."""
        try:
            major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(self.handle)
        except pynvml.NVMLError:
            return None
        return major, minor


class Driver:
    """NVML that is open. Methods raise `NoDevice`."""

    def versions(self) -> tuple[str, tuple[int, int] | None]:
        """Return the driver's version, and the newest CUDA that it can run: None where it doesn't report that."""
        with _asking("version"):
            version = str(pynvml.nvmlSystemGetDriverVersion())
        try:
            cuda = int(pynvml.nvmlSystemGetCudaDriverVersion_v2())
        except pynvml.NVMLError:
            return version, None
        return version, (cuda // 1000, cuda % 1000 // 10)

    def count(self) -> int:
        """Count the whole GPUs; a MIG instance is found by its UUID only."""
        with _asking("number of GPUs"):
            return int(pynvml.nvmlDeviceGetCount())

    def by_index(self, index: int) -> Card:
        name = f"GPU {index}"
        with _asking(name):
            return Card(name, pynvml.nvmlDeviceGetHandleByIndex(index))

    def by_uuid(self, uuid: str) -> Card:
        """Find a GPU or a MIG instance."""
        with _asking(uuid):
            return Card(uuid, pynvml.nvmlDeviceGetHandleByUUID(uuid))


@contextlib.contextmanager
def opened() -> Iterator[Driver]:
    """Open NVML while the block runs; raises `NoDevice` where there is no driver, or where it refuses."""
    with _asking("start"):
        pynvml.nvmlInit()
    try:
        yield Driver()
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


@contextlib.contextmanager
def _asking(what: str) -> Iterator[None]:
    """Turn an error of NVML into `NoDevice` that names the thing, NVML's own word and the way out."""
    try:
        yield
    except pynvml.NVMLError as error:
        if error.value == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND:
            message = "no NVIDIA driver here (libnvidia-ml.so.1); set OCR_DEVICE=cpu to serve on the CPU"
        else:
            way_out = _WAYS_OUT.get(error.value, f"see nvidia-smi, {_CPU}")
            message = f"the NVIDIA driver refused ({what}: {str(error).rstrip('.')}); {way_out}"
        raise NoDevice(message) from error
