"""A model whose tensors are views of one flat buffer: on the host, or on a device.

The host tier is immutable once it's filled, so going back to it copies nothing: the tensors become views of host
memory again and the device's buffer is freed. Restoring is one copy, in chunks.
"""

import mmap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import torch

from ocr_inference.hosttier import HostTier
from ocr_inference.weights.layout import Entry, Layout

DeviceKind = Literal["cuda", "cpu", "simulated"]


def entries(model: torch.nn.Module) -> tuple[tuple[Entry, ...], Mapping[str, str]]:
    """Every parameter and buffer (persistent or not) of a model, on `meta` or not, and the ties: alias → name."""
    raise NotImplementedError


class FlatModel:
    """Binds a model to the host tier or a device. Called by one thread.

    Order of a first load: `FlatModel(model, layout, host)`, `begin()`, then inside `arriving(device)`: read into
    `buffer` with `on_range=arrival`, `fill(computed buffers)`; then `seal()`. Another process: `FlatModel(…)`,
    `sealed` is true, `to_device(device)`.
    """

    def __init__(self, model: torch.nn.Module, layout: Layout, host: HostTier, device: DeviceKind) -> None:
        """Maps the host tier, and gives it its size where it has another."""
        raise NotImplementedError

    buffer: memoryview
    """The flat buffer in host memory, to fill."""
    host_bytes: int
    device_bytes: int
    """0 while nothing is there."""

    @property
    def sealed(self) -> bool:
        """Whether the host tier holds this layout's weights, complete."""
        raise NotImplementedError

    def begin(self) -> None:
        """Break the seal: what follows writes to the host tier."""
        raise NotImplementedError

    def fill(self, values: Mapping[str, torch.Tensor]) -> None:
        """Copy tensors into their slots, converted to the slot's dtype: computed buffers, or all of a converted model."""
        raise NotImplementedError

    def seal(self) -> None:
        raise NotImplementedError

    def bind_host(self) -> None:
        raise NotImplementedError

    @contextmanager
    def arriving(self) -> Iterator["Arrival"]:
        """The device's buffer, while the host tier is being filled. Bound to the device at the end of the block; on an
        error bound to nothing new and nothing is left on the device."""
        raise NotImplementedError

    def to_device(self) -> None:
        """Host → device in one chunked copy. Raises `MemoryError` with the model bound to the host as before."""
        raise NotImplementedError

    def drop_device(self) -> None:
        """Rebind to the host, free the device's buffer and all that torch keeps there. Copies nothing."""
        raise NotImplementedError

    def pin(self) -> None:
        """Begin to pin the host tier in the background (cuda; elsewhere nothing). To be called after the first answer."""
        raise NotImplementedError

    def close(self) -> None:
        """Unpin, unbind and unmap. The model's tensors are on `meta` afterwards."""
        raise NotImplementedError


class Arrival:
    def __call__(self, offset: int, nbytes: int) -> None:
        """These bytes of the host tier are complete: copy them."""
        raise NotImplementedError


_ = mmap
