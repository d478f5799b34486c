"""Layout of a model's flat buffer: the place of each tensor, the same on the host and on a device.

The order is that of files which the safetensors library writes (larger elements first, then by name), so that most of a
file is read into one contiguous run. It depends on the set of tensors alone: a worker that finds a filled host tier
knows every place without reading a disk.
"""

import hashlib
import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

ALIGNMENT: Final = 256
"""Bytes. What `cudaMalloc` guarantees for an allocation, so kernels may assume of a view what they assume of it."""

ELEMENT_BYTES: Final[Mapping[str, int]] = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "I64": 8,
    "U64": 8,
    "F64": 8,
    "C64": 8,
}
"""Names of element types in safetensors files, as far as we hold them; also our names for them."""

_SEAL: Final = struct.Struct("<8s32s")
_MAGIC: Final = b"ocrflat1"


@dataclass(frozen=True)
class Entry:
    """Tensor that a model has."""

    name: str
    """The model's own name for it: `model.layers.0.mlp.weight`."""
    dtype: str
    """A key of `ELEMENT_BYTES`."""
    shape: tuple[int, ...]
    persistent: bool = True
    """Whether checkpoints hold it. Buffers that a model computes (rotary tables) are in the host tier, too."""

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * ELEMENT_BYTES[self.dtype]


@dataclass(frozen=True)
class Slot:
    """Entry and its place."""

    entry: Entry
    offset: int
    """Bytes from the start of the flat buffer; a multiple of `ALIGNMENT`."""

    @property
    def end(self) -> int:
        return self.offset + self.entry.nbytes


@dataclass(frozen=True)
class Layout:
    slots: Mapping[str, Slot]
    """Slots by name, in the order of their offsets. Tied names have no slot of their own."""
    ties: Mapping[str, str]
    """Other names of tensors that have a slot: alias → name."""
    total_bytes: int
    """Bytes of the flat buffer; a multiple of `ALIGNMENT`."""

    def slot(self, name: str) -> Slot:
        return self.slots[self.ties.get(name, name)]

    @cached_property
    def weight_bytes(self) -> int:
        """Bytes of all tensors, without the gaps."""
        return sum(slot.entry.nbytes for slot in self.slots.values())

    @cached_property
    def digest(self) -> bytes:
        """32 bytes that differ between layouts: a host tier has the one of what it holds."""
        lines = [f"{slot.entry}@{slot.offset}" for slot in self.slots.values()]
        lines += [f"{alias}={name}" for alias, name in sorted(self.ties.items())]
        return hashlib.sha256("\n".join(lines).encode()).digest()

    @property
    def seal(self) -> bytes:
        """End of a flat buffer in host memory, with the digest of its layout: its content is complete."""
        return _SEAL.pack(_MAGIC, self.digest)


def plan(entries: Iterable[Entry], ties: Mapping[str, str] | None = None) -> Layout:
    """Lay out a model; raises `ValueError` for a name that comes twice or a tie to nothing."""
    slots: dict[str, Slot] = {}
    at = 0
    for entry in sorted(entries, key=lambda each: (-_element_bytes(each), each.dtype, each.name)):
        if entry.name in slots:
            raise ValueError(f"two tensors are named {entry.name}")
        slots[entry.name] = slot = Slot(entry, at)
        at = aligned(slot.end)
    for alias, name in (ties or {}).items():
        if alias in slots or name not in slots:
            raise ValueError(f"{alias} can't be another name of {name}")
    return Layout(slots, dict(ties or {}), at)


def aligned(offset: int) -> int:
    """Return the next place where a tensor may begin."""
    return -(-offset // ALIGNMENT) * ALIGNMENT


def _element_bytes(entry: Entry) -> int:
    if entry.dtype not in ELEMENT_BYTES:
        raise ValueError(f"{entry.name} has elements of an unknown type, {entry.dtype}")
    return ELEMENT_BYTES[entry.dtype]
