"""Memory that a worker process uses at one moment, and what a clean-up freed of it."""

from msgspec import Struct


class DeviceUse(Struct, frozen=True, kw_only=True):
    """Use of the device by one process, in bytes."""

    allocated_bytes: int
    """Bytes that tensors take."""
    reserved_bytes: int
    """Bytes that the process's allocator holds: tensors, and its cache of freed ones."""
    free_bytes: int
    """Bytes that no process holds."""

    @property
    def available_bytes(self) -> int:
        """Bytes that this process may still take: what no process holds, and its own cache."""
        return self.free_bytes + max(0, self.reserved_bytes - self.allocated_bytes)


class MemoryUse(Struct, frozen=True, kw_only=True):
    """Memory of a worker process."""

    rss_bytes: int = 0
    """Host memory (resident set): its own, and pages of the host tier and of libraries that it has touched."""
    device: DeviceUse | None = None
    """None where the engine computes on no CUDA device, or hasn't begun to."""

    def __str__(self) -> str:
        """Return a few words for the log."""
        words = f"rss {_mib(self.rss_bytes)}"
        if self.device is not None:
            words += (
                f", device {_mib(self.device.allocated_bytes)} allocated, {_mib(self.device.reserved_bytes)} reserved, "
                f"{_mib(self.device.free_bytes)} free"
            )
        return words


class CleanedUp(Struct, frozen=True, kw_only=True, tag="cleaned_up"):
    """Answer to a `CleanUpCall`."""

    before: MemoryUse
    after: MemoryUse


def _mib(nbytes: int) -> str:
    return f"{nbytes / (1 << 20):.0f} MiB"
