"""A device that models are brought to: a GPU, a second buffer in host memory that stands for one, or none."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import torch

from ocr_inference.engines.adopted import finding
from ocr_inference.engines.adopted.finding import Found
from ocr_inference.engines.adopted.resident import Resident
from ocr_inference.engines.transformers import errors, memory
from ocr_inference.engines.transformers.devices import Cuda, Device, Simulated

_MIB: Final = 1 << 20


class UnknownDevice(ValueError):
    """Name of a device that there isn't."""


class TorchMover:
    """The GPU and the models on it, for one owner. Each model is moved by one thread at a time."""

    def __init__(self, name: str | None = None) -> None:
        """Choose a device: `cuda`, `cuda:1`, `cpu` or `simulated`; None is the first GPU, or the CPU where there is no
        GPU. Starts no CUDA. Raises `UnknownDevice`."""
        if name is None:
            name = "cuda:0" if torch.cuda.is_available() else "cpu"
        self._make_device: Callable[[], Device] | None = None
        self._device: torch.device | None = None
        kind, _, number = name.partition(":")
        if name == "simulated":
            self._make_device = Simulated
        elif kind == "cuda" and (number.isdecimal() or name == "cuda"):
            index = int(number or 0)
            if index >= torch.cuda.device_count():
                raise UnknownDevice(f"no device {name}: torch sees {torch.cuda.device_count()} CUDA devices")
            name, self._device = f"cuda:{index}", torch.device("cuda", index)
            self._make_device = lambda: Cuda(index)
        elif name != "cpu":
            raise UnknownDevice(f"no device {name!r}; there are cpu, cuda, cuda:1 (by number) and simulated")
        self.name = name
        """The device, as in `cuda:0`."""

    @property
    def on_gpu(self) -> bool:
        """Whether a ready model takes the memory of a GPU, real or simulated."""
        return self._make_device is not None

    def enter(self) -> None:
        """Prepare a thread that moves models: it would begin on the first GPU, and make a context there."""
        if self._device is not None:
            torch.cuda.set_device(self._device)

    def take(self, loaded: object, modules: Sequence[torch.nn.Module] | None = None) -> Resident:
        """Take a model as a load function returned it; `modules` are what is to be moved, where they aren't to be
        found. Raises `WrongDevice`."""
        found = finding.find(loaded) if modules is None else Found(tuple(modules))
        return Resident(loaded, found, self._device, self._make_device)

    def ran_out(self, error: BaseException) -> bool:
        """Whether an error means that memory ran out, and another try may work when other models have left."""
        return errors.ran_out(error)

    def clear(self) -> None:
        """Free what torch keeps of models that are gone."""
        memory.release(self._device or torch.device("cpu"))

    def memory(self) -> Mapping[str, float]:
        """Return what torch holds of the GPU in this process, in MiB; empty without a CUDA device."""
        if self._device is None:
            return {}
        use = memory.device_use(self._device)
        allocated, reserved = (0, 0) if use is None else (use.allocated_bytes, use.reserved_bytes)
        return {"gpu_memory_allocated": allocated / _MIB, "gpu_memory_reserved": reserved / _MIB}
