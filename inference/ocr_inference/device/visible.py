"""What the variables say of the GPUs that are here: `NVIDIA_VISIBLE_DEVICES` for containers, `CUDA_VISIBLE_DEVICES` for
processes. Pure.

NVIDIA's container runtime obeys the first variable and leaves it in the container, which sees the chosen GPUs only,
with numbers of their own: of `NVIDIA_VISIBLE_DEVICES=2` there is one GPU left, number 0. With the Container Device
Interface (CDI) it writes `void` instead, so that no other hook obeys the variable a second time.
"""

import re
from collections.abc import Sequence
from typing import Final

from ocr_inference.device.gpu import Gpu, NoDevice

ALL: Final = ("all", "void")
"""Values of `NVIDIA_VISIBLE_DEVICES` by which each GPU that is here was given to the container."""
_NUMBER: Final = re.compile(r"[0-9]{1,4}")
_SPEED: Final = (
    "CUDA_VISIBLE_DEVICES has numbers, which CUDA counts by speed where GPUs differ: name UUIDs, or set "
    "CUDA_DEVICE_ORDER=PCI_BUS_ID to count as nvidia-smi does"
)


def named(visible: str, gpus: Sequence[Gpu]) -> Gpu:
    """Return the first GPU that a list in `NVIDIA_VISIBLE_DEVICES` names, by UUID, its begin, or number; raises
    `NoDevice`.

    Where a list of numbers has as many as there are GPUs, these are the ones that it means, in the order of their
    numbers. Else nothing has filtered, as on a machine without containers, and numbers are those of `nvidia-smi`.
    """
    names = [name.strip() for name in visible.split(",")]
    first = names[0]
    numbers = [int(name) for name in names if _NUMBER.fullmatch(name)]
    if len(numbers) == len(names) and len(set(numbers)) == len(gpus):
        return gpus[sorted(set(numbers)).index(numbers[0])]
    if _NUMBER.fullmatch(first) and int(first) < len(gpus):
        return gpus[int(first)]
    if len(found := _by_uuid(first, gpus)) == 1:
        return found[0]
    there = ", ".join(gpu.uuid for gpu in gpus)
    raise NoDevice(f"NVIDIA_VISIBLE_DEVICES names {first[:80]!r}, which isn't here; there are {there}")


def by_cuda(visible: str | None, order: str | None, gpus: Sequence[Gpu]) -> list[Gpu]:
    """Return the GPUs that CUDA lets a process use, as it numbers them, by `CUDA_VISIBLE_DEVICES` and
    `CUDA_DEVICE_ORDER`; raises `NoDevice` where that can't be known.

    The list ends at the first name that isn't one of a GPU here, such as -1, and names none where a GPU is twice in it.
    """
    if visible is None:
        return list(gpus)
    found: list[Gpu] = []
    for name in visible.split(","):
        gpu = _cuda_named(name.strip(), order, gpus)
        if gpu is None:
            break
        if gpu in found:
            return []
        found.append(gpu)
    return found


def hides_all(cuda_visible: str | None) -> bool:
    """Return whether `CUDA_VISIBLE_DEVICES` is meant to hide each GPU: it is empty, or begins with a number below 0."""
    return cuda_visible is not None and (not cuda_visible.strip() or cuda_visible.strip().startswith("-"))


def _cuda_named(name: str, order: str | None, gpus: Sequence[Gpu]) -> Gpu | None:
    if _NUMBER.fullmatch(name) is None:
        found = _by_uuid(name, gpus)
        return found[0] if len(found) == 1 else None
    if order != "PCI_BUS_ID" and len({gpu.product for gpu in gpus}) > 1:
        raise NoDevice(_SPEED)
    return gpus[int(name)] if int(name) < len(gpus) else None


def _by_uuid(name: str, gpus: Sequence[Gpu]) -> list[Gpu]:
    """Return the GPUs whose UUID it is, or begins it."""
    whole = [gpu for gpu in gpus if gpu.uuid == name]
    is_begin = name.startswith(("GPU-", "MIG-")) and len(name) > len("GPU-")
    return whole or [gpu for gpu in gpus if is_begin and gpu.uuid.startswith(name)]
