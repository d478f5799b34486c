"""The device that models are served on: which one it is, how large, and how to read it. What is taken of it is in
`books`.

`cuda` is seen through NVIDIA's management library (NVML), never through CUDA itself, so the server's process takes
nothing of the GPU. `simulated` is a declared stand-in for a GPU, for demonstrations and tests: a folder holds
`gpus.json` (what there is) and `usage/<uuid>/<pid>.json` (what each process says it takes).
"""

import contextlib
import ctypes
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from ocr_inference.config.settings import Settings

Kind = Literal["cuda", "cpu", "simulated"]

MAX_FILE_BYTES = 1 << 20
MAX_USERS = 4096
"""Usage files looked at per GPU."""

_NOBODY = ("", "none", "void")
"""Values of `NVIDIA_VISIBLE_DEVICES` by which a container has no GPU."""


@dataclass(frozen=True)
class Device:
    kind: Kind
    uuid: str | None = None
    product: str | None = None
    memory_total_bytes: int = 0
    """0 on a CPU: its memory isn't ours to budget."""
    compute_capability: tuple[int, int] | None = None
    """Of a CUDA device."""


class NoDevice(Exception):
    """The device that was asked for isn't there; the message names the variable and the way out."""


class Gpu(Struct, frozen=True):
    """One GPU, simulated or real; `gpus.json` is a list of these."""

    uuid: Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._-]+$")]
    product: Annotated[str, Meta(min_length=1, max_length=256)]
    memory_bytes: Annotated[int, Meta(ge=1, le=1 << 50)]


class Usage(Struct, frozen=True):
    memory_bytes: Annotated[int, Meta(ge=0, le=1 << 50)]
    utilization: Annotated[float, Meta(ge=0, le=1)]


def resolve(settings: Settings) -> Device:
    """The one device to serve on; raises `NoDevice`."""
    kind = settings.device
    if kind == "cpu":
        return Device("cpu")
    if kind == "simulated":
        return _simulated(settings)
    hidden = settings.visible_devices in _NOBODY
    if kind == "auto" and hidden and not settings.promised_gpu_uuids:
        return Device("cpu")
    try:
        with nvml() as library:
            return _cuda(library, settings)
    except NoDevice:
        if kind == "auto" and (hidden or settings.visible_devices in (None, "all", "auto")):
            return Device("cpu")
        raise


# --- choosing -------------------------------------------------------------------------------------------------


def choose(visible: str | None, gpus: Sequence[Gpu], used: dict[str, int]) -> Gpu:
    """The GPU that `NVIDIA_VISIBLE_DEVICES` means: the first one that it names (by UUID or number, and we serve on
    one), or for `auto` the one with the most free memory. `all` and unset are the first."""
    if not gpus:
        raise NoDevice("there is no GPU here; set OCR_DEVICE=cpu to serve on the CPU")
    if visible is None or visible == "all":
        return gpus[0]
    if visible == "auto":
        return max(gpus, key=lambda gpu: gpu.memory_bytes - used.get(gpu.uuid, 0))
    if visible in _NOBODY:
        raise NoDevice(f"NVIDIA_VISIBLE_DEVICES={visible!r} hides every GPU; set OCR_DEVICE=cpu or name one")
    wanted = visible.split(",")[0].strip()
    for index, gpu in enumerate(gpus):
        if wanted in (gpu.uuid, str(index)):
            return gpu
    there = ", ".join(gpu.uuid for gpu in gpus)
    raise NoDevice(f"NVIDIA_VISIBLE_DEVICES names {wanted!r}, which isn't here; there are {there}")


def _served(settings: Settings, gpus: Sequence[Gpu], used: dict[str, int]) -> Gpu:
    """`choose`, or the promised GPU where the variable names none: a claimed device comes with `void` in it. Where the
    container got others than promised, the first of those: the pod serves and says so (`mismatch` in its state) instead
    of hiding it behind a crash loop."""
    visible, promised = settings.visible_devices, settings.promised_gpu_uuids
    if promised and (visible in (None, "all") or visible in _NOBODY):
        visible = promised[0]
    try:
        return choose(visible, gpus, used)
    except NoDevice:
        if not promised or not gpus:
            raise
        return gpus[0]


# --- simulated ------------------------------------------------------------------------------------------------

_T = TypeVar("_T")


def _simulated(settings: Settings) -> Device:
    folder = settings.simulated_gpu_dir
    if folder is None:
        raise NoDevice("OCR_DEVICE=simulated needs OCR_SIMULATED_GPU_DIR, a folder with gpus.json")
    gpus = simulated_gpus(folder)
    used = {gpu.uuid: sum(u.memory_bytes for _, u in usages(folder, gpu.uuid)) for gpu in gpus}
    gpu = _served(settings, gpus, used)
    return Device("simulated", gpu.uuid, gpu.product, gpu.memory_bytes)


def simulated_gpus(folder: Path) -> list[Gpu]:
    """Raises `NoDevice` where the folder doesn't say."""
    gpus = _read(folder / "gpus.json", list[Gpu])
    if isinstance(gpus, str):
        raise NoDevice(f"OCR_SIMULATED_GPU_DIR: {gpus}")
    return gpus


def usages(folder: Path, uuid: str) -> Iterator[tuple[int, Usage]]:
    """What living processes say they take of a simulated GPU; files of dead ones and damaged ones count for
    nothing."""
    folder = folder / "usage" / uuid
    try:
        names = sorted(os.listdir(folder))[:MAX_USERS]
    except OSError:
        return
    for name in names:
        stem, _, suffix = name.partition(".")
        if suffix != "json" or not stem.isdecimal() or not _alive(int(stem)):
            continue
        usage = _read(folder / name, Usage)
        if not isinstance(usage, str):
            yield int(stem), usage


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _read(file: Path, kind: type[_T]) -> _T | str:
    """A small JSON file as `kind`, or what is wrong with it."""
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        return f"{file} can't be read: {error.strerror}"
    if len(data) > MAX_FILE_BYTES:
        return f"{file} is larger than {MAX_FILE_BYTES} bytes"
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        return f"{file} is not valid: {error}"


# --- NVML -----------------------------------------------------------------------------------------------------


class MemoryInfo(ctypes.Structure):
    """`nvmlMemory_t`."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


_TEXT_BYTES = 96
"""`NVML_DEVICE_NAME_V2_BUFFER_SIZE` and `NVML_DEVICE_UUID_V2_BUFFER_SIZE`."""


@contextlib.contextmanager
def nvml() -> Iterator[ctypes.CDLL]:
    """The management library, initialised; raises `NoDevice` where there is no driver."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError as error:
        message = "no NVIDIA driver here (libnvidia-ml.so.1); set OCR_DEVICE=cpu to serve on the CPU"
        raise NoDevice(message) from error
    if code := library.nvmlInit_v2():
        raise NoDevice(
            f"the NVIDIA driver refused (nvmlInit_v2: {code}); see nvidia-smi, or set OCR_DEVICE=cpu"
        )
    try:
        yield library
    finally:
        library.nvmlShutdown()


def _cuda(library: ctypes.CDLL, settings: Settings) -> Device:
    count = ctypes.c_uint()
    check(library.nvmlDeviceGetCount_v2(ctypes.byref(count)), "nvmlDeviceGetCount_v2")
    gpus, used = [], {}
    for index in range(count.value):
        gpu, taken = cuda_gpu(library, index)
        gpus.append(gpu)
        used[gpu.uuid] = taken
    gpu = _served(settings, gpus, used)
    return Device("cuda", gpu.uuid, gpu.product, gpu.memory_bytes, _compute_capability(library, gpu.uuid))


def _compute_capability(library: ctypes.CDLL, uuid: str) -> tuple[int, int] | None:
    """None where the driver doesn't say; workers ask CUDA then."""
    handle, major, minor = by_uuid(library, uuid), ctypes.c_int(), ctypes.c_int()
    if library.nvmlDeviceGetCudaComputeCapability(handle, ctypes.byref(major), ctypes.byref(minor)):
        return None
    return major.value, minor.value


def by_uuid(library: ctypes.CDLL, uuid: str) -> ctypes.c_void_p:
    """NVML's handle of a GPU."""
    handle = ctypes.c_void_p()
    check(library.nvmlDeviceGetHandleByUUID(uuid.encode(), ctypes.byref(handle)), "nvmlDeviceGetHandleByUUID")
    return handle


def cuda_gpu(library: ctypes.CDLL, index: int) -> tuple[Gpu, int]:
    """A GPU by its number, and the bytes in use on it."""
    handle, memory = ctypes.c_void_p(), MemoryInfo()
    uuid, name = ctypes.create_string_buffer(_TEXT_BYTES), ctypes.create_string_buffer(_TEXT_BYTES)
    check(library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)), "nvmlDeviceGetHandleByIndex_v2")
    check(library.nvmlDeviceGetUUID(handle, uuid, _TEXT_BYTES), "nvmlDeviceGetUUID")
    check(library.nvmlDeviceGetName(handle, name, _TEXT_BYTES), "nvmlDeviceGetName")
    check(library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)), "nvmlDeviceGetMemoryInfo")
    return Gpu(uuid.value.decode(), name.value.decode(), memory.total), int(memory.used)


def check(code: int, function: str) -> None:
    """Raises `NoDevice` unless an NVML function returned success."""
    if code:
        raise NoDevice(
            f"the NVIDIA driver refused ({function}: {code}); see nvidia-smi, or set OCR_DEVICE=cpu"
        )
