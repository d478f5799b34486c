"""What moves models, as its owner sees it; `engines.adopted` has the ones of torch."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

from ocr_wire.states import Location


class Resident(Protocol):
    """Model that a load function returned, on the GPU or off it."""

    @property
    def loaded(self) -> Any: ...
    @property
    def kept_whole(self) -> str: ...
    @property
    def on_device(self) -> bool: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def host_bytes(self) -> int: ...
    @property
    def copied_bytes(self) -> tuple[int, int]: ...
    def to_device(self) -> None: ...
    def offload(self) -> None: ...
    def release(self) -> None: ...


class Mover(Protocol):
    """A device that models are brought to."""

    @property
    def name(self) -> str: ...
    @property
    def on_gpu(self) -> bool: ...
    def enter(self) -> None: ...
    def take(self, loaded: object, modules: Sequence[Any] | None = None) -> Resident: ...
    def ran_out(self, error: BaseException) -> bool: ...
    def clear(self) -> None: ...
    def memory(self) -> Mapping[str, float]: ...


class TorchIsMissing(ImportError):
    """Torch isn't installed, which moves models."""


def torch_mover(device: str | None) -> Mover:
    """Return the mover of a device; None is the first GPU, or the CPU without one. Imports torch.

    Raises `ValueError` for a device that there isn't, and `TorchIsMissing`.
    """
    try:
        module = importlib.import_module("ocr_inference.engines.adopted.mover")
    except ImportError as error:
        raise TorchIsMissing(f"models are moved by torch, which can't be imported: {error}") from error
    return cast("Mover", module.TorchMover(device))


def place(resident: Resident | None) -> Location:
    """Return where a model's weights are."""
    if resident is None:
        return Location.UNLOADED
    return Location.GPU if resident.on_device else Location.CPU
