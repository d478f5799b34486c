"""Host memory of this process: how much it is, a bound on it, and giving back to the system what it only keeps."""

import contextlib
import ctypes
import gc
import logging
import os
import resource
import traceback
from pathlib import Path
from typing import Final

from ocr_inference import limits
from ocr_inference.protocol.engine import ModelSpec
from ocr_wire import engines

log = logging.getLogger(__name__)

SPARE_BYTES: Final = 32 << 20
"""Memory that pages leave to the server and to other models' workers."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


def rss_bytes(statm: Path = Path("/proc/self/statm")) -> int:
    """Return the resident set in bytes; 0 where the system doesn't say."""
    try:
        return int(statm.read_text().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


def trim() -> None:
    """Return freed memory to the system: the C library keeps it for the next allocation. Only glibc has the call, which
    leaves the end of each thread's memory: a large picture that was the last thing there stays whole."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def release(error: BaseException) -> None:
    """Return what an error's frames hold to the system: where memory ran out, it is most of what is missing."""
    traceback.clear_frames(error.__traceback__)
    gc.collect()
    trim()


def is_bounded(spec: ModelSpec) -> bool:
    """Return whether a worker of this model is bounded: what CUDA's runtime does with a bound isn't known."""
    return spec.device != "cuda" or not engines.BY_NAME[spec.engine].uses_cuda


def data_limit(data_bytes: int, left_bytes: int) -> int:
    """Return the most data that a process may have which has `data_bytes` of it, where `left_bytes` are left."""
    return data_bytes + max(0, left_bytes - SPARE_BYTES)


class Bound:
    """Bound on this process's memory while it reads pages: what is left when a page begins, and no more.

    Allocations beyond it fail in this process, as errors of the page that needs them. Without it the kernel kills,
    since Kubernetes 1.28 all processes of the container. The system bounds a process's data (`RLIMIT_DATA`), its own
    memory that it may write; neither mapped files nor address space, of which runtimes reserve much more than they use.
    """

    def __init__(self, *, enabled: bool, root: Path = limits.ROOT) -> None:
        """Prepare; one that isn't enabled does nothing."""
        self._enabled = enabled
        self._root = root

    def set(self) -> None:
        """Bound the process by what is left now."""
        if not self._enabled:
            return
        try:
            data = _data_bytes(self._root / "proc/self/status")
            self._limit(data_limit(data, limits.memory_left(self._root)))
        except (OSError, ValueError, KeyError) as error:
            log.warning("the memory of pages isn't bounded: %s", error)
            self._enabled = False

    def lift(self) -> None:
        """End the bound: weights have checks of their own."""
        if self._enabled:
            self._limit(resource.RLIM_INFINITY)

    def _limit(self, wanted: int) -> None:
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        if most != resource.RLIM_INFINITY:
            wanted = most if wanted == resource.RLIM_INFINITY else min(wanted, most)
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, most))


def _data_bytes(status: Path) -> int:
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return int(fields["VmData"].split()[0]) * 1024
