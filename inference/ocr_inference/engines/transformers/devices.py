"""Places of a model's flat buffer besides the host: a CUDA device, or a second buffer that replaces one.

`FlatModel` moves bytes with these calls and knows nothing of the device. A `cpu` has no such place: a model that is
ready there is bound to host memory.
"""

import contextlib
import ctypes
import logging
import os
from typing import Any, Final, Literal, Protocol

import torch

from ocr_inference.checkpoints.weights import scatter
from ocr_inference.checkpoints.weights.pinning import CHUNK_BYTES, Pinning

log = logging.getLogger(__name__)

DeviceKind = Literal["cuda", "cpu", "simulated"]

SLOT_BYTES: Final = 32 << 20
"""Bytes of each of two bounce slots: a few milliseconds of a link's time, and little beside the weights."""

_REGISTER_READ_ONLY: Final = 0x08
"""`cudaHostRegisterReadOnly` of CUDA's runtime: the device reads, so the pages needn't be writable."""


class Device(Protocol):
    """Device of a flat buffer. Called by one thread. Raises `MemoryError` where memory is missing, leaving nothing
    behind."""

    pins: bool
    """Whether copies from host memory gain by pinning it."""

    def allocate(self, nbytes: int) -> torch.Tensor:
        """Allocate a flat uint8 buffer; its content is undefined."""

    def copy(self, target: torch.Tensor, host: torch.Tensor, offset: int, nbytes: int) -> None:
        """Begin to copy a range from the host's flat buffer to the same place of the target."""

    def wait(self) -> None:
        """Wait until all copies are done, and all computation with the weights."""

    def clear(self) -> None:
        """Free what the runtime keeps of freed buffers."""

    def pin(self, host: torch.Tensor, *, wait: bool = False, read_only: bool = False) -> int:
        """Begin to make copies from this buffer faster, in the background; returns how many bytes are done. A buffer
        that is `read_only` is mapped so that a write is a fault."""

    def unpin(self) -> None:
        """End that; call it before the host's buffer is freed."""


def device(kind: DeviceKind) -> Device | None:
    """Return the device of a kind; None for `cpu`."""
    match kind:
        case "cuda":
            return Cuda()
        case "simulated":
            return Simulated()
        case "cpu":
            return None


class Simulated:
    """Memory of the host in the place of a GPU's: allocated, copied to and freed like it."""

    pins = False

    def allocate(self, nbytes: int) -> torch.Tensor:
        try:
            return torch.empty(nbytes, dtype=torch.uint8)
        except RuntimeError as error:  # what torch raises for ENOMEM
            raise MemoryError(f"{nbytes} bytes for a simulated device: {error}") from None

    def copy(self, target: torch.Tensor, host: torch.Tensor, offset: int, nbytes: int) -> None:
        target[offset : offset + nbytes].copy_(host[offset : offset + nbytes])

    def wait(self) -> None:
        pass

    def clear(self) -> None:
        pass

    def pin(self, host: torch.Tensor, *, wait: bool = False, read_only: bool = False) -> int:  # noqa: ARG002
        return 0

    def unpin(self) -> None:
        pass


class Cuda:
    """CUDA device, by its number. Pinned ranges are copied by direct memory access, others through two pinned slots:
    while one is on its way, the other is filled."""

    pins = True

    def __init__(self, index: int = 0) -> None:
        # The first that this process sees. Asking for the current one would start CUDA, which a standby must not.
        self._device = torch.device("cuda", index)
        self._pinning: Pinning | None = None
        self._slots: tuple[_Slot, ...] | None = None
        self._turn = 0

    def allocate(self, nbytes: int) -> torch.Tensor:
        try:
            return torch.empty(nbytes, dtype=torch.uint8, device=self._device)
        except torch.OutOfMemoryError as error:
            # Without the cause: its traceback would hold on to what it failed with.
            raise MemoryError(str(error)) from None

    def copy(self, target: torch.Tensor, host: torch.Tensor, offset: int, nbytes: int) -> None:
        for begin, size in scatter.cut(offset, nbytes, CHUNK_BYTES):
            if self._pinning is not None and self._pinning.covers(begin):
                target[begin : begin + size].copy_(host[begin : begin + size], non_blocking=True)
            else:
                self._bounce(target, host, begin, size)

    def _bounce(self, target: torch.Tensor, host: torch.Tensor, offset: int, nbytes: int) -> None:
        if self._slots is None:
            self._slots = _make_slots(self._device)
        if not self._slots:  # no pinned memory at all: the driver stages the copy
            target[offset : offset + nbytes].copy_(host[offset : offset + nbytes])
            return
        for begin, size in scatter.cut(offset, nbytes, SLOT_BYTES):
            slot = self._slots[self._turn]
            self._turn = (self._turn + 1) % len(self._slots)
            slot.send(host[begin : begin + size], target[begin : begin + size])

    def wait(self) -> None:
        torch.cuda.synchronize(self._device)
        if self._slots is not None:
            # They count as host memory; making them again takes tens of milliseconds, and only before pinning ends.
            self._slots = None
            torch._C._host_emptyCache()

    def clear(self) -> None:
        # Workspaces survive `empty_cache`: https://github.com/pytorch/pytorch/issues/95668
        torch._C._cuda_clearCublasWorkspaces()
        torch.cuda.empty_cache()

    def pin(self, host: torch.Tensor, *, wait: bool = False, read_only: bool = False) -> int:
        if self._pinning is None:
            runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
            registrar = Registrar(self._device, runtime, read_only=read_only)
            self._pinning = Pinning(host.data_ptr(), host.nbytes, registrar)
            self._pinning.start()
        if wait:
            self._pinning.join()
        return self._pinning.pinned_bytes

    def unpin(self) -> None:
        if self._pinning is not None:
            self.wait()
            self._pinning.stop()
            self._pinning = None


class _Slot:
    """Pinned buffer with the event after which it may be filled again."""

    def __init__(self, device: torch.device) -> None:
        self._buffer = torch.empty(SLOT_BYTES, dtype=torch.uint8, pin_memory=True)
        self._sent = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._stream = torch.cuda.current_stream(device)

    def send(self, source: torch.Tensor, target: torch.Tensor) -> None:
        self._sent.synchronize()
        part = self._buffer[: source.nbytes]
        part.copy_(source)
        with torch.cuda.stream(self._stream):
            target.copy_(part, non_blocking=True)
            self._sent.record(self._stream)


def _make_slots(device: torch.device) -> tuple[_Slot, ...]:
    try:
        return (_Slot(device), _Slot(device))
    except RuntimeError as error:
        log.warning("no pinned memory, so copies to the GPU are slow: %s", error)
        return ()


class Registrar:
    """`cudaHostRegister` and its counterpart, by torch's binding, `torch.cuda.cudart()`."""

    def __init__(self, device: torch.device, runtime: Any, *, read_only: bool = False) -> None:
        self._device = device
        self._runtime = runtime
        self._flags = _REGISTER_READ_ONLY if read_only else 0

    def enter(self) -> None:
        # A thread begins on device 0, and would make a context there.
        torch.cuda.set_device(self._device)

    def register(self, address: int, nbytes: int) -> str | None:
        return self._refusal(self._runtime.cudaHostRegister(address, nbytes, self._flags))

    def unregister(self, address: int) -> None:
        if refusal := self._refusal(self._runtime.cudaHostUnregister(address)):
            log.warning("unpinning failed: %s", refusal)

    def _refusal(self, code: Any) -> str | None:
        if code == self._runtime.cudaError.success:
            return None
        _consume_error()
        return str(self._runtime.cudaGetErrorString(code))


def _consume_error() -> None:
    """Clear the error that a failed runtime call leaves for the next one of this thread."""
    major = (torch.version.cuda or "").split(".")[0]
    with contextlib.suppress(OSError, AttributeError):
        # RTLD_NOLOAD: the library that torch has loaded, or none.
        ctypes.CDLL(f"libcudart.so.{major}", mode=os.RTLD_NOLOAD | os.RTLD_LAZY).cudaGetLastError()
