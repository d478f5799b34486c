"""History of pages that were being read when a worker died, for leases to ask. While no worker has died for some
minutes, no page is hashed."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence

import msgspec

from ocr_inference.protocol.engine import InferRequest
from ocr_inference.scheduling import suspects
from ocr_inference.scheduling.suspects import Suspects


class PageHistory:
    """Owner of the suspected pages of all models."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._suspects: Suspects = {}
        self._recording = 0
        self._recorded = asyncio.Event()
        self._recorded.set()

    async def record_death(self, model: str, begun: Sequence[InferRequest]) -> None:
        """Record the death of a worker that had begun these pages. `kills` waits for the end of this."""
        if not begun:
            return
        self._recording += 1
        self._recorded.clear()
        try:
            digests = await asyncio.to_thread(lambda: {_digest(model, each) for each in begun})
            self._suspects = suspects.died(self._suspects, digests, self._now())
        finally:
            self._recording -= 1
            if not self._recording:
                self._recorded.set()

    async def kills(self, model: str, request: InferRequest) -> int:
        """Return how many workers died while they read this page."""
        await self._recorded.wait()
        self._suspects = suspects.current(self._suspects, self._now())
        if not self._suspects:
            return 0
        digest = await asyncio.to_thread(_digest, model, request)
        return suspects.kills(self._suspects, digest, self._now())

    async def acquit(self, model: str, request: InferRequest) -> None:
        """Suspect a page no more."""
        digest = await asyncio.to_thread(_digest, model, request)
        self._suspects = suspects.acquitted(self._suspects, digest)


def _digest(model: str, request: InferRequest) -> bytes:
    """Return a digest of the picture and of all that is requested of it."""
    return hashlib.sha256(msgspec.msgpack.encode((model, request))).digest()
