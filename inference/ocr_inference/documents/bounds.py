"""Bounds of time and memory that a process sets for itself before it decodes what came from outside."""

import os
import resource
from pathlib import Path
from typing import Final

from ocr_inference import limits

MEMORY_BYTES: Final = 2 << 30
"""Most address space beyond what the libraries take."""
SPARE_BYTES: Final = 32 << 20
LEAST_BYTES: Final = 32 << 20
_PAGE = os.sysconf("SC_PAGE_SIZE")


def bound_memory(*files: int) -> None:
    """Bound the address space, once all libraries are imported; `files` are descriptors of what is decoded. Raises
    `OutOfHostMemory` where too little is left to decode anything: decoders would take it for damage."""
    limits.require_memory(LEAST_BYTES + SPARE_BYTES, "decoding")
    taken = int(Path("/proc/self/statm").read_bytes().split()[0]) * _PAGE
    taken += sum(os.fstat(file).st_size for file in files)  # each may be mapped as a whole
    most = taken + min(MEMORY_BYTES, max(0, limits.memory_left() - SPARE_BYTES))
    _, allowed = resource.getrlimit(resource.RLIMIT_AS)
    if allowed != resource.RLIM_INFINITY:
        most = min(most, allowed)
    resource.setrlimit(resource.RLIMIT_AS, (most, allowed))


def allow_seconds(cpu_seconds: int) -> None:
    """Let what comes next take its processor time, and no more; a crash leaves no core file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = int(used.ru_utime + used.ru_stime) + 1 + cpu_seconds
    _, allowed = resource.getrlimit(resource.RLIMIT_CPU)
    if allowed == resource.RLIM_INFINITY or most < allowed:
        resource.setrlimit(resource.RLIMIT_CPU, (most, allowed))
