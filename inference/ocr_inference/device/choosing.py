"""Choose the device that this process serves on."""

import dataclasses
from collections.abc import Mapping, Sequence

from ocr_inference.config.settings import Settings
from ocr_inference.device import gpu_usage, least_used, nvml, visible
from ocr_inference.device.gpu import Device, Gpu, NoDevice
from ocr_inference.device.least_used import Load
from ocr_inference.device.nvml import Card, Driver

_NO_GPU = ("", "none", "void")
"""Values of `NVIDIA_VISIBLE_DEVICES` by which a container has no GPU; with `void`, unless one is here all the same."""


def resolve(settings: Settings) -> Device:
    """Return the device to serve on; raises `NoDevice`."""
    kind, nvidia = settings.device, settings.visible_devices
    if kind == "cpu":
        return Device("cpu")
    if kind == "simulated":
        return _simulated(settings)
    hidden = (
        nvidia in _NO_GPU and nvidia != "void" and not settings.promised_gpu_uuids
    ) or visible.hides_all(settings.cuda_visible_devices)
    if kind == "auto" and hidden:
        return Device("cpu")
    try:
        with nvml.opened() as driver:
            return _cuda(driver, settings)
    except NoDevice:
        # What names a GPU is meant: it isn't served without one.
        names_one = nvidia not in (None, "auto", *_NO_GPU, *visible.ALL) or bool(
            settings.cuda_visible_devices
        )
        if kind == "auto" and not names_one:
            return Device("cpu")
        raise


def choose(nvidia: str | None, gpus: Sequence[Gpu], loads: Mapping[str, Load]) -> Gpu:
    """Return the GPU that `NVIDIA_VISIBLE_DEVICES` means: the first one that it names, or for `auto`, `all` and unset
    the least used one; raises `NoDevice`."""
    if not gpus:
        raise NoDevice("there is no GPU here; set OCR_DEVICE=cpu to serve on the CPU")
    if nvidia in (None, "all", "auto"):
        return least_used.choose(gpus, loads)
    if nvidia in _NO_GPU:
        raise NoDevice(f"NVIDIA_VISIBLE_DEVICES={nvidia!r} hides every GPU; set OCR_DEVICE=cpu or name one")
    return visible.named(nvidia, gpus)


def _served(settings: Settings, gpus: Sequence[Gpu], loads: Mapping[str, Load]) -> Gpu:
    """Return what `choose` returns, or the promised GPU where the variable names none: a claimed device comes with
    `void` in it. Of several that are promised, a claim gives the pod one. Where the container has other GPUs, return
    the first of those: the pod serves, and its state has a `mismatch`, instead of hiding it behind a crash loop."""
    nvidia, promised = settings.visible_devices, settings.promised_gpu_uuids
    if promised and (nvidia in (None, "all") or nvidia in _NO_GPU):
        here = {gpu.uuid for gpu in gpus}
        nvidia = next((uuid for uuid in promised if uuid in here), promised[0])
    try:
        return choose(nvidia, gpus, loads)
    except NoDevice:
        if not promised or not gpus:
            raise
        return gpus[0]


def pick(settings: Settings, gpus: Sequence[Gpu], loads: Mapping[str, Load]) -> Gpu:
    """Return which of the GPUs that the driver shows is served on; raises `NoDevice`."""
    cuda = settings.cuda_visible_devices
    usable = visible.by_cuda(cuda, settings.cuda_device_order, gpus)
    if gpus and not usable:
        there = ", ".join(gpu.uuid for gpu in gpus)
        message = f"CUDA_VISIBLE_DEVICES={(cuda or '')[:80]!r} names no GPU that is here; there are {there}"
        raise NoDevice(message)
    if settings.visible_devices in visible.ALL:
        settings = dataclasses.replace(settings, visible_devices=None)
    if cuda is not None and settings.visible_devices in (None, "auto"):
        # Its list alone chooses, and the order is its own.
        in_order = usable and settings.visible_devices is None and not settings.promised_gpu_uuids
        return usable[0] if in_order else _served(settings, usable, loads)
    gpu = _served(settings, gpus, loads)
    return gpu if gpu in usable else usable[0]


def _simulated(settings: Settings) -> Device:
    folder = settings.simulated_gpu_dir
    if folder is None:
        raise NoDevice("OCR_DEVICE=simulated needs OCR_SIMULATED_GPU_DIR, a folder with gpus.json")
    found = gpu_usage.SimulatedGpuUsage(folder).read()
    loads = {each.gpu.uuid: Load(each.used_bytes, each.utilization) for each in found}
    gpu = _served(settings, [each.gpu for each in found], loads)
    return Device("simulated", gpu.uuid, gpu.product, gpu.memory_bytes)


def _cuda(driver: Driver, settings: Settings) -> Device:
    cuda = settings.cuda_visible_devices
    for names in (cuda, settings.visible_devices):
        name = (names or "").split(",")[0].strip()
        if name.startswith("MIG-"):
            # NVML lists whole GPUs only, and a container with an instance may be refused the whole GPU's memory.
            card = driver.by_uuid(name)
            return _device(card.read()[0], card)
    gpus, loads = [], {}
    for index in range(driver.count()):
        card = driver.by_index(index)
        gpu, used_bytes = card.read()
        gpus.append(gpu)
        loads[gpu.uuid] = Load(used_bytes, card.utilization())
    gpu = pick(settings, gpus, loads)
    return _device(gpu, driver.by_uuid(gpu.uuid))


def _device(gpu: Gpu, card: Card) -> Device:
    return Device("cuda", gpu.uuid, gpu.product, gpu.memory_bytes, card.compute_capability())
