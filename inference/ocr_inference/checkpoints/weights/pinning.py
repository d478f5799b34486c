"""Pins a flat buffer in the background, a chunk at a time, so that a device can fetch it by itself.

A system may refuse to pin (a limit on locked memory, a runtime without support): then what is pinned stays so, the rest
isn't, and copies of it take the slower way. Chunks matter: one call for gigabytes would block all other users of the
process's memory map, and a copy must not cross from one registered range to another.
"""

import logging
import threading
from typing import Final, Protocol

log = logging.getLogger(__name__)

CHUNK_BYTES: Final = 128 << 20
"""About 15 ms of pinning where pages are there already (0.1 s per GB)."""
PAUSE_SECONDS: Final = 0.005
"""Pause between chunks, in which other threads get the memory map."""


class Registrar(Protocol):
    """Calls of the runtime. `enter` is called once, by the thread that pins."""

    def enter(self) -> None: ...
    def register(self, address: int, nbytes: int) -> str | None:
        """Pin; returns the reason where it's refused, with nothing of the failure left in the runtime."""

    def unregister(self, address: int) -> None: ...


class Pinning:
    def __init__(
        self,
        address: int,
        nbytes: int,
        registrar: Registrar,
        *,
        chunk_bytes: int = CHUNK_BYTES,
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        """Prepare to pin `nbytes` from `address`, which must be the start of a page, as must be each chunk."""
        self._address = address
        self._nbytes = nbytes
        self._registrar = registrar
        self._chunk_bytes = chunk_bytes
        self._pause_seconds = pause_seconds
        self._pinned = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pin-weights", daemon=True)

    @property
    def pinned_bytes(self) -> int:
        """Bytes pinned from the start of the buffer. Only grows until `stop`; written by the thread alone."""
        return self._pinned

    def start(self) -> None:
        self._thread.start()

    def covers(self, offset: int) -> bool:
        """Whether the chunk that holds this byte is pinned."""
        return offset < self._pinned

    def join(self, timeout: float | None = None) -> None:
        """Wait until pinning has ended, completely or not."""
        self._thread.join(timeout)

    def stop(self) -> None:
        """End it and unpin everything; returns when nothing is pinned. No copy may be running."""
        self._stopped.set()
        self._thread.join()
        while self._pinned > 0:
            begin = (self._pinned - 1) // self._chunk_bytes * self._chunk_bytes
            self._registrar.unregister(self._address + begin)
            self._pinned = begin

    def _run(self) -> None:
        self._registrar.enter()
        while self._pinned < self._nbytes and not self._stopped.is_set():
            size = min(self._chunk_bytes, self._nbytes - self._pinned)
            if refusal := self._registrar.register(self._address + self._pinned, size):
                done = f"{self._pinned} of {self._nbytes} bytes"
                log.warning("host memory can't be pinned beyond %s: %s", done, refusal)
                return
            self._pinned += size
            self._stopped.wait(self._pause_seconds)
