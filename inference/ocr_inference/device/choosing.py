"""Choose the device that this process serves on."""

from collections.abc import Sequence

from ocr_inference.config.settings import Settings
from ocr_inference.device import nvml
from ocr_inference.device.gpu import Device, Gpu, NoDevice, simulated_gpus, usages
from ocr_inference.device.nvml import Card, Driver

_NO_GPU = ("", "none", "void")
"""Values of `NVIDIA_VISIBLE_DEVICES` by which a container has no GPU."""


def resolve(settings: Settings) -> Device:
    """Return the device to serve on; raises `NoDevice`."""
    kind = settings.device
    if kind == "cpu":
        return Device("cpu")
    if kind == "simulated":
        return _simulated(settings)
    hidden = settings.visible_devices in _NO_GPU
    if kind == "auto" and hidden and not settings.promised_gpu_uuids:
        return Device("cpu")
    try:
        with nvml.opened() as driver:
            return _cuda(driver, settings)
    except NoDevice:
        if kind == "auto" and (hidden or settings.visible_devices in (None, "all", "auto")):
            return Device("cpu")
        raise


def choose(visible: str | None, gpus: Sequence[Gpu], used: dict[str, int]) -> Gpu:
    """Return the GPU that `NVIDIA_VISIBLE_DEVICES` means: the first one that it names (by UUID or number, and we serve
    on one), or for `auto` the one with the most free memory. `all` and unset mean the first."""
    if not gpus:
        raise NoDevice("there is no GPU here; set OCR_DEVICE=cpu to serve on the CPU")
    if visible is None or visible == "all":
        return gpus[0]
    if visible == "auto":
        return max(gpus, key=lambda gpu: gpu.memory_bytes - used.get(gpu.uuid, 0))
    if visible in _NO_GPU:
        raise NoDevice(f"NVIDIA_VISIBLE_DEVICES={visible!r} hides every GPU; set OCR_DEVICE=cpu or name one")
    wanted = visible.split(",")[0].strip()
    for index, gpu in enumerate(gpus):
        if wanted in (gpu.uuid, str(index)):
            return gpu
    there = ", ".join(gpu.uuid for gpu in gpus)
    raise NoDevice(f"NVIDIA_VISIBLE_DEVICES names {wanted!r}, which isn't here; there are {there}")


def _served(settings: Settings, gpus: Sequence[Gpu], used: dict[str, int]) -> Gpu:
    """Return what `choose` returns, or the promised GPU where the variable names none: a claimed device comes with
    `void` in it. Where the container has other GPUs than promised, return the first of those: the pod serves, and
    its state has a `mismatch`, instead of hiding it behind a crash loop."""
    visible, promised = settings.visible_devices, settings.promised_gpu_uuids
    if promised and (visible in (None, "all") or visible in _NO_GPU):
        visible = promised[0]
    try:
        return choose(visible, gpus, used)
    except NoDevice:
        if not promised or not gpus:
            raise
        return gpus[0]


def _simulated(settings: Settings) -> Device:
    folder = settings.simulated_gpu_dir
    if folder is None:
        raise NoDevice("OCR_DEVICE=simulated needs OCR_SIMULATED_GPU_DIR, a folder with gpus.json")
    gpus = simulated_gpus(folder)
    used = {gpu.uuid: sum(u.memory_bytes for _, u in usages(folder, gpu.uuid)) for gpu in gpus}
    gpu = _served(settings, gpus, used)
    return Device("simulated", gpu.uuid, gpu.product, gpu.memory_bytes)


def _cuda(driver: Driver, settings: Settings) -> Device:
    named = (settings.visible_devices or "").split(",")[0].strip()
    if named.startswith("MIG-"):
        # NVML lists whole GPUs only, and a container with an instance may be refused the whole GPU's memory.
        card = driver.by_uuid(named)
        return _device(card.read()[0], card)
    gpus, used = [], {}
    for index in range(driver.count()):
        gpu, taken = driver.by_index(index).read()
        gpus.append(gpu)
        used[gpu.uuid] = taken
    gpu = _served(settings, gpus, used)
    return _device(gpu, driver.by_uuid(gpu.uuid))


def _device(gpu: Gpu, card: Card) -> Device:
    return Device("cuda", gpu.uuid, gpu.product, gpu.memory_bytes, card.compute_capability())
