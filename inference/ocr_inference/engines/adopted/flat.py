"""A model that other code made, in one flat buffer: its own tensors get other memory, and stay the objects they are.

Optimizers, hooks and plain references keep working, since no tensor is replaced. Host memory holds what the tensors
held when the model was taken over. What is changed on the device since, by the count of writes that torch keeps for
each tensor, is copied back before the device's memory is freed; what isn't changed is not copied.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import torch

from ocr_inference.checkpoints.weights import layout
from ocr_inference.checkpoints.weights.layout import Entry, Slot
from ocr_inference.engines.transformers import torchweights
from ocr_inference.engines.transformers.devices import Device
from ocr_inference.engines.transformers.torchweights import DTYPES, WORDS, FlatModel, Site
from ocr_inference.protocol.host_tier import HostTier

_HOST_NAME: Final = "library"


def together(modules: Sequence[torch.nn.Module]) -> torch.nn.Module:
    """Return one module that has these, unchanged, as its parts."""
    if len(modules) == 1:
        return modules[0]
    return torch.nn.ModuleList(modules)


class AdoptedFlat(FlatModel):
    """Binds a model that has its weights to host memory or a device. Called by one thread at a time."""

    def __init__(self, module: torch.nn.Module, device: Device) -> None:
        """Copy the model's weights, which may be on a device, to host memory, and bind it there.

        Raises `MemoryError`, with the model as it was, where host memory lacks.
        """
        self._module = module
        found = {sites[0].name: (tensor, sites) for tensor, sites in torchweights.tensors(module)}
        plan = layout.plan(
            Entry(name, WORDS[each.dtype], tuple(each.shape)) for name, (each, _) in found.items()
        )
        ordered = {name: found[name] for name in plan.slots}
        self._strides = {name: each.stride() for name, (each, _) in ordered.items() if _is_permuted(each)}
        self.copied_to_host = 0
        """Bytes copied back since this object was made: of tensors that were changed on the device."""
        self._versions: dict[str, int] = {}
        self._sources = [each for each, _ in ordered.values()]
        bound = {name: _bindable(each) for name, (each, _) in ordered.items()}
        super().__init__(module, plan, HostTier.create(_HOST_NAME), device, bound)
        try:
            self._fill()
        except BaseException:
            self._host.close()
            raise
        self.bind_host()
        for own, (tensor, sites) in zip(bound.values(), ordered.values(), strict=True):
            if own is not tensor:
                _replace(sites, own)
        self._sources = []

    @property
    def total_bytes(self) -> int:
        return self._layout.total_bytes

    @property
    def altered(self) -> bool:
        """Whether the model has other tensors than those that were taken over, or moved them by itself."""
        flat = self._mapped() if self._device_flat is None else self._device_flat
        ours = {id(tensor): slot for tensor, slot in self._placed()}
        present = torchweights.tensors(self._module)
        if len(present) != len(ours):
            return True
        for tensor, _ in present:
            slot = ours.get(id(tensor))
            if (
                slot is None
                or tuple(tensor.shape) != slot.entry.shape
                or WORDS.get(tensor.dtype) != slot.entry.dtype
            ):
                return True
            if tensor.numel() and tensor.data_ptr() != flat.data_ptr() + slot.offset:
                return True
        return False

    def to_device(self) -> None:
        super().to_device()
        self._versions = {name: tensor._version for name, tensor in self._bound.items()}

    def drop_device(self) -> None:
        """Bind to the host, after what was changed on the device is copied there, and free the device's buffer."""
        if self._device is not None:
            self._device.wait()
        host = self._mapped()
        for tensor, slot in self._placed():
            if self._versions.get(slot.entry.name, tensor._version) != tensor._version:
                self._place(host, slot).copy_(tensor.detach())
                self.copied_to_host += slot.entry.nbytes
        self._versions = {}
        super().drop_device()

    def let_go(self) -> None:
        """Free the device, and leave the model whole in host memory, which is freed with its last tensor."""
        self.drop_device()
        self.forget()

    def forget(self) -> None:
        """Free the device and unpin; the model's tensors, which have other memory by now, stay as they are."""
        self._free_device()
        if self._device is not None:
            self._device.unpin()
        self._host_flat = self._map = None
        self._host.close()

    # --- parts ------------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        self._prepare_host()
        host = self._mapped()
        for source, (own, slot) in zip(self._sources, self._placed(), strict=True):
            place = self._place(host, slot)
            place.copy_(source.detach())
            if own is source and source.device.type == "cpu":
                source.data = place  # frees what it had, so that host memory never holds all twice
        self._seal()

    def _bind(self, flat: torch.Tensor) -> None:
        views = [self._place(flat, slot) for slot in self._layout.slots.values()]
        for tensor, view in zip(self._bound.values(), views, strict=True):
            tensor.data = view

    def _placed(self) -> Iterator[tuple[torch.Tensor, Slot]]:
        return zip(self._bound.values(), self._layout.slots.values(), strict=True)

    def _place(self, flat: torch.Tensor, slot: Slot) -> torch.Tensor:
        entry = slot.entry
        part = flat[slot.offset : slot.end].view(DTYPES[entry.dtype])
        if (strides := self._strides.get(entry.name)) is not None:
            return part.as_strided(entry.shape, strides)
        return part.view(entry.shape)


def _is_permuted(tensor: torch.Tensor) -> bool:
    """Whether the elements are all there, without gaps, in another order of dimensions: channels last, transposed."""
    if tensor.is_contiguous() or not tensor.numel():
        return False
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size == 1:
            continue
        if stride != expected:
            return False
        expected *= size
    return True


def _bindable(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor, or one for its place where it can't be given other memory: a view keeps what it is a view of,
    and one made in inference mode has no count of writes."""
    if not (tensor._is_view() or tensor.is_inference()):
        return tensor
    own = torch.empty(0, dtype=tensor.dtype)
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(own, requires_grad=tensor.requires_grad)
    return own


def _replace(sites: Sequence[Site], own: torch.Tensor) -> None:
    for site in sites:
        site.owner[site.key] = own
