"""A model whose tensors are views of one flat buffer: on the host, or on a device.

The host tier is immutable once it's filled, so going back to it copies nothing: the tensors become views of host
memory again and the device's buffer is freed. Restoring is one copy, in chunks. A model is always whole: bound to the
host or to the device, whatever fails on the way.
"""

import mmap
import os
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch

from ocr_inference import limits
from ocr_inference.checkpoints.weights.layout import Entry, Layout, Slot
from ocr_inference.checkpoints.weights.reading import OnRange
from ocr_inference.engines.transformers.devices import Device
from ocr_inference.protocol.host_tier import HostTier

DTYPES: Final[Mapping[str, torch.dtype]] = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I16": torch.int16,
    "U16": torch.uint16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I32": torch.int32,
    "U32": torch.uint32,
    "F32": torch.float32,
    "I64": torch.int64,
    "U64": torch.uint64,
    "F64": torch.float64,
    "C64": torch.complex64,
}
WORDS: Final[Mapping[torch.dtype, str]] = {dtype: word for word, dtype in DTYPES.items()}

Read = Callable[[memoryview, OnRange], int]
"""Fills places of the flat buffer, reports which ranges are complete, and returns how many bytes of tensors it read;
such as `Checkpoint.read`."""


def entries(model: torch.nn.Module) -> tuple[tuple[Entry, ...], Mapping[str, str]]:
    """Return every parameter and buffer (persistent or not) of a model, on `meta` or not, and the ties: alias → name.

    Raises `ValueError` for a tensor on `meta` that is neither: nothing would ever fill it.
    """
    persistent = model.state_dict(keep_vars=True).keys()
    found: list[Entry] = []
    ties: dict[str, str] = {}
    for tensor, sites in tensors(model):
        if tensor.dtype not in WORDS:
            raise ValueError(f"{sites[0].name} has elements of a type that can't be stored, {tensor.dtype}")
        name, *aliases = [site.name for site in sites if site.registered]
        kept = any(site.name in persistent for site in sites)
        found.append(Entry(name, WORDS[tensor.dtype], tuple(tensor.shape), kept))
        ties |= dict.fromkeys(aliases, name)
    return tuple(found), ties


class FlatModel:
    """Binds a model to the host tier or a device. Called by one thread.

    In the worker that reads the weights: `load`. In another one of the same model, as long as the host tier is
    `sealed`: `to_device`. The model has no usable tensors before either.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        layout: Layout,
        host: HostTier,
        device: Device | None,
        bound: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """Prepare; `layout` is of the model's `entries`; without a device, ready means bound to the host. Nothing is
        allocated or mapped yet.

        `bound` are the tensors to bind, by the layout's names and in its order; without it they are new ones, which
        replace the model's."""
        self._layout = layout
        self._host = host
        self._device = device
        self._bound = _take_over(model, layout) if bound is None else bound
        self._map: mmap.mmap | None = None
        self._host_flat: torch.Tensor | None = None
        self._device_flat: torch.Tensor | None = None
        self._on_host = False
        self.copied_to_device = 0
        """Bytes copied to the device since this object was made. The other direction has no count: no code copies that
        way."""

    @property
    def host_bytes(self) -> int:
        return self._host.size

    @property
    def device_bytes(self) -> int:
        return 0 if self._device_flat is None else self._device_flat.nbytes

    @property
    def sealed(self) -> bool:
        """Whether the host tier holds this layout's weights, complete."""
        seal = self._layout.seal
        return os.pread(self._host.fd, len(seal), self._layout.total_bytes) == seal

    def load(
        self,
        read: Read | None = None,
        values: Mapping[str, torch.Tensor] | None = None,
        on_value: OnRange | None = None,
    ) -> None:
        """Fill the host tier and, while that goes on, the device; then bind to where the model is ready.

        `read` fills slots from files, `values` fills others: buffers that the model computes, or all of a model that
        had to be converted, and `on_value` is called for each. Together they fill each slot once, else it's a
        `ValueError`. Raises `MemoryError` before a byte is read where the host lacks memory. Whatever it raises, the
        device is left empty and the host tier unsealed.
        """
        self.close()
        self._prepare_host()
        with self._whole_or_host():
            filled = 0
            if read is not None:
                filled += self._read(read)
            for name, value in (values or {}).items():
                slot = self._layout.slots[name]
                if value.shape != slot.entry.shape:
                    raise ValueError(f"{name} has shape {tuple(value.shape)}, not {slot.entry.shape}")
                _view(_typed(self._mapped(), self._layout, slot), slot).copy_(value)
                self._copy(slot.offset, slot.entry.nbytes)
                filled += slot.entry.nbytes
                if on_value is not None:
                    on_value(slot.offset, slot.entry.nbytes)
            if filled != self._layout.weight_bytes:
                raise ValueError(f"{filled} bytes of tensors were filled, not {self._layout.weight_bytes}")
        self._seal()

    def to_device(self) -> None:
        """Move to the device, in one chunked copy. Raises `MemoryError` with the model bound to the host."""
        if not self.sealed:
            raise ValueError("host memory doesn't hold this model's weights; load them again")
        if self._device_flat is None:
            with self._whole_or_host():
                self._copy(0, self._layout.total_bytes)

    def use_host(self, host: HostTier) -> None:
        """Have the weights in another host tier from now on, which is sealed for the same layout; the old one is
        unmapped. What is on the device stays there. Raises `OSError` where it can't be mapped, and changes nothing."""
        mapped = self._map_of(host)
        if self._device is not None:
            self._device.unpin()
        before = self._map
        self._host, (self._map, self._host_flat) = host, mapped
        if self._on_host:
            self._bind(self._host_flat)
        if before is not None:
            before.close()

    def bind_host(self) -> None:
        if not self._on_host:
            self._bind(self._mapped())
            self._on_host = True

    def stand_by(self) -> None:
        """Bind to the host, and have its pages at hand for the copy that comes."""
        self.bind_host()
        assert self._map is not None
        HostTier.enter_pages(self._map)

    def drop_device(self) -> None:
        """Bind to the host, and free the device's buffer and all that its runtime keeps. Copies nothing."""
        if self._device is not None:
            self._device.wait()
        self.bind_host()
        self._free_device()

    def pin(self, *, wait: bool = False) -> int:
        """Begin to pin the host tier in the background, where the device gains by it; returns how many bytes are
        pinned. It takes the process's memory map for a while: not before the first answer."""
        if self._device is None:
            return 0
        host = self._mapped()[: self._layout.total_bytes]
        return self._device.pin(host, wait=wait, read_only=self._host.read_only)

    def close(self) -> None:
        """Unpin, free and unmap; the model has empty tensors afterwards, the host tier its size. Raises `BufferError`
        where something still refers to the weights."""
        for tensor in self._bound.values():
            tensor.data = torch.empty(0, dtype=tensor.dtype)
        self._on_host = False
        self._free_device()
        if self._map is not None:
            if self._device is not None:
                self._device.unpin()
            self._host_flat = None
            self._map.close()
            self._map = None

    # --- parts ------------------------------------------------------------------------------------------------

    def _mapped(self) -> torch.Tensor:
        """Return the flat buffer in host memory."""
        if self._host_flat is None:
            self._map, self._host_flat = self._map_of(self._host)
        return self._host_flat

    def _map_of(self, host: HostTier) -> tuple[mmap.mmap, torch.Tensor]:
        """Map a host tier; returns it as a flat buffer, too."""
        mapped = host.map(for_device=self._device is not None and self._device.pins)
        with warnings.catch_warnings():
            # That tensors of a read-only mapping could be written, which nobody does: the device has its own.
            warnings.filterwarnings("ignore", "The given buffer is not writable")
            # By a view of its own: torch doesn't keep a buffer exported, and but for the view the map could be closed
            # under the tensors.
            return mapped, torch.frombuffer(memoryview(mapped), dtype=torch.uint8)

    def _prepare_host(self) -> None:
        """Give the host tier its size, without a seal."""
        size = self._layout.total_bytes + len(self._layout.seal)
        limits.require_memory(size - self._host.resident_bytes, "the model's weights")
        self._host.resize(size)
        os.pwrite(self._host.fd, bytes(len(self._layout.seal)), self._layout.total_bytes)

    def _seal(self) -> None:
        os.pwrite(self._host.fd, self._layout.seal, self._layout.total_bytes)

    def _read(self, read: Read) -> int:
        self._mapped()
        assert self._map is not None
        with memoryview(self._map) as everything, everything[: self._layout.total_bytes] as buffer:
            return read(buffer, self._copy)

    def _copy(self, offset: int, nbytes: int) -> None:
        if self._device is not None and self._device_flat is not None:
            self._device.copy(self._device_flat, self._mapped(), offset, nbytes)
            self.copied_to_device += nbytes

    @contextmanager
    def _whole_or_host(self) -> Iterator[None]:
        """Allocate the device's buffer for what the block copies; the model is bound to it in the end, or to the
        host."""
        self.bind_host()
        try:
            if self._device is not None:
                self._device_flat = self._device.allocate(self._layout.total_bytes)
            yield
            if self._device is not None and self._device_flat is not None:
                self._on_host = False
                self._bind(self._device_flat)  # while copies are on their way: it takes a tenth of their time
                self._device.wait()
        except BaseException as error:
            # Frames of the traceback hold on to the buffer, which would not be freed.
            traceback.clear_frames(error.__traceback__)
            self.bind_host()
            self._free_device()
            raise

    def _bind(self, flat: torch.Tensor) -> None:
        for tensor, view in zip(self._bound.values(), _views(flat, self._layout), strict=True):
            tensor.data = view

    def _free_device(self) -> None:
        if self._device_flat is not None:
            self._device_flat = None
            assert self._device is not None
            self._device.clear()


# --- the tensors of a model -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Site:
    """Place where a module holds a tensor."""

    name: str
    owner: dict[str, Any]
    key: str
    registered: bool
    """Put a tensor there, as a parameter or buffer; modules also keep second references as plain attributes."""


def _take_over(model: torch.nn.Module, layout: Layout) -> dict[str, torch.Tensor]:
    """Put tensors of our own at all sites of the model's, in the order of the layout. They stay there for good,
    whatever memory they are views of: an object from `meta` can't be given real data, and one that was made as a view
    would keep that buffer alive."""
    own: dict[str, torch.Tensor] = {}
    for tensor, sites in tensors(model):
        name = next(site.name for site in sites if site.registered)
        entry = layout.slots[name].entry if name in layout.slots else None
        if entry is None or entry.shape != tensor.shape:
            raise ValueError(f"the layout is of another model: {name} isn't {entry}")
        own[name] = torch.empty(0, dtype=DTYPES[entry.dtype])
        if isinstance(tensor, torch.nn.Parameter):
            own[name] = torch.nn.Parameter(own[name], requires_grad=False)
        for site in sites:
            site.owner[site.key] = own[name]
    if missing := layout.slots.keys() - own.keys():
        raise ValueError(f"the layout is of another model, which has {min(missing)}")
    return {name: own[name] for name in layout.slots}


def tensors(model: torch.nn.Module) -> list[tuple[torch.Tensor, list[Site]]]:
    """Return each tensor once, with all its sites, in the order of modules; registered ones only."""
    found: dict[int, tuple[torch.Tensor, list[Site]]] = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        owners = ((module._parameters, True), (module._buffers, True), (vars(module), False))
        for owner, registered in owners:
            for key, tensor in owner.items():
                if isinstance(tensor, torch.Tensor):
                    name = f"{prefix}.{key}" if prefix else key
                    _, sites = found.setdefault(id(tensor), (tensor, []))
                    sites.append(Site(name, owner, key, registered))
    for tensor, sites in found.values():
        if tensor.is_meta and not any(site.registered for site in sites):
            raise ValueError(f"{sites[0].name} is a tensor on meta, neither a parameter nor a buffer")
    return [(tensor, sites) for tensor, sites in found.values() if any(site.registered for site in sites)]


def _views(flat: torch.Tensor, layout: Layout) -> list[torch.Tensor]:
    """Return all tensors of a layout, in its order; made before any is used, so that a failure changes nothing."""
    typed: dict[str, torch.Tensor] = {}
    views = []
    for slot in layout.slots.values():
        if slot.entry.dtype not in typed:
            typed[slot.entry.dtype] = _typed(flat, layout, slot)
        views.append(_view(typed[slot.entry.dtype], slot))
    return views


def _typed(flat: torch.Tensor, layout: Layout, slot: Slot) -> torch.Tensor:
    """Return the flat buffer as elements of a slot's type."""
    return flat[: layout.total_bytes].view(DTYPES[slot.entry.dtype])


def _view(typed: torch.Tensor, slot: Slot) -> torch.Tensor:
    begin = slot.offset // typed.element_size()
    return typed[begin : begin + slot.entry.nbytes // typed.element_size()].view(slot.entry.shape)
