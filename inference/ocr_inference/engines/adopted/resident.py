"""What a load function returned, and where its weights are.

A model that comes on the GPU stays as it came until it leaves for the first time: its weights are copied to host memory
then, once, and from then on one flat buffer is restored by one copy and offloaded by a free. One that comes in host
memory is taken over there, so that the GPU never holds it twice. A model that can't be moved is kept whole: it is where
it came, and `offload` refuses.
"""

import contextlib
from collections.abc import Callable

import torch

from ocr_inference.engines.adopted import flat, immovable
from ocr_inference.engines.adopted.finding import Found
from ocr_inference.engines.transformers import torchweights
from ocr_inference.engines.transformers.devices import Device


class WrongDevice(ValueError):
    """Model that a load function put on another GPU than its manager's."""


class Resident:
    """Model on the GPU or off it. Called by one thread at a time."""

    def __init__(
        self,
        loaded: object,
        found: Found,
        device: torch.device | None,
        make_device: Callable[[], Device] | None,
    ) -> None:
        """Look at a model, and move nothing. `device` is where torch says that it is while on the GPU, None where that
        is host memory, too; without `make_device` there is no GPU, and nothing is ever moved.

        Raises `WrongDevice`.
        """
        self.loaded = loaded
        self._followers = found.followers
        self._device = device
        self._make_device = make_device
        self._modules = found.modules
        tensors = torchweights.tensors(flat.together(found.modules)) if found.modules else []
        self.kept_whole = immovable.reason(found.modules, tensors)
        """Why the model can't be moved; empty where it can."""
        places = {tensor.device for tensor, _ in tensors if tensor.device.type not in ("cpu", "meta")}
        if not self.kept_whole and (others := places - {device}):
            raise WrongDevice(
                f"the model is on {others.pop()}, and its manager keeps {device or 'host memory'}: load it to the "
                f"CPU, or give the manager that device"
            )
        self._nbytes = sum(_bytes(tensor) for tensor, _ in tensors)
        self._born_on_device = bool(places)
        self.on_device = bool(places)
        """Whether the weights take the GPU's memory now."""
        self._flat: flat.AdoptedFlat | None = None

    # Read by other threads while a call changes the model: each reads an attribute once, and no file.

    @property
    def size_bytes(self) -> int:
        """Bytes that the model takes of the GPU while it is ready: none without one."""
        held = self._flat
        if self._make_device is None or (self.kept_whole and not self._born_on_device):
            return 0
        return self._nbytes if held is None else held.total_bytes

    @property
    def host_bytes(self) -> int:
        """Bytes of host memory that the weights take."""
        held = self._flat
        if held is not None:
            return held.total_bytes
        return 0 if self.on_device else self._nbytes

    @property
    def copied_bytes(self) -> tuple[int, int]:
        """Bytes copied so far: to the GPU, and back from it because they were changed there."""
        held = self._flat
        return (0, 0) if held is None else (held.copied_to_device, held.copied_to_host)

    def to_device(self) -> None:
        """Bring the weights to the GPU, where they aren't there and can be. Raises `MemoryError` with the model in host
        memory."""
        if self.on_device or self._make_device is None or self.kept_whole:
            return
        if self._flat is None or self._flat.altered:
            self._take_over()
        assert self._flat is not None
        self._flat.to_device()
        self.on_device = True
        self._follow(self._device)

    def offload(self) -> None:
        """Take the weights off the GPU, whole, to host memory. Raises `MemoryError`, with nothing moved, where a first
        time finds no host memory."""
        if not self.on_device:
            return
        if self.kept_whole:
            raise ValueError(f"the model can't be moved: {self.kept_whole}")
        if self._flat is None or self._flat.altered:
            self._take_over()
        else:
            self._flat.drop_device()
        assert self._flat is not None
        self.on_device = False
        self._follow(torch.device("cpu"))
        self._flat.pin()

    def release(self) -> None:
        """Let go of the model. Code that still holds it has a whole one, in host memory if it can be moved."""
        if self.on_device and not self.kept_whole:
            with contextlib.suppress(
                MemoryError
            ):  # no host memory to move it to: it goes with its last reference
                self.offload()
        if self._flat is not None:
            self._flat.let_go()
        self.loaded = self._flat = None
        self._modules = self._followers = ()
        self._nbytes, self.on_device = 0, False

    def _take_over(self) -> None:
        """Bind the model, wherever its weights are, to a new flat buffer in host memory."""
        assert self._make_device is not None
        device = self._make_device()
        before, self._flat = self._flat, flat.AdoptedFlat(flat.together(self._modules), device)
        if before is not None:
            before.forget()
        device.clear()

    def _follow(self, device: torch.device | None) -> None:
        """Have pipelines send their inputs to where the model is now."""
        for own in self._followers if self._device is not None else ():
            own["device"] = device


def _bytes(tensor: torch.Tensor) -> int:
    """Return the bytes of a tensor's elements, of whatever kind it is."""
    if tensor.layout is torch.sparse_coo:  # it has no `nbytes`
        return tensor._indices().nbytes + tensor._values().nbytes
    return tensor.untyped_storage().nbytes() if tensor.is_nested else tensor.nbytes
