"""History of pages that were being read when a worker died, or at which an engine failed, for leases to ask. While
neither has happened for some minutes, no page is hashed."""

import asyncio
from collections.abc import Callable, Sequence

from ocr_inference.protocol.page_file import Page
from ocr_inference.scheduling import suspects
from ocr_inference.scheduling.suspects import Suspect, Suspects


class PageHistory:
    """Owner of the suspected pages of all models."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._suspects: Suspects = {}
        self._recording = 0
        self._recorded = asyncio.Event()
        self._recorded.set()

    async def record_death(self, model: str, begun: Sequence[Page]) -> None:
        """Record the death of a worker that had begun these pages. `find` waits for the end of this."""
        if not begun:
            return
        self._recording += 1
        self._recorded.clear()
        try:
            digests = await asyncio.to_thread(lambda: {each.digest for each in begun})
            keys = {_key(model, digest) for digest in digests}
            self._suspects = suspects.died(self._suspects, keys, self._now())
        finally:
            self._recording -= 1
            if not self._recording:
                self._recorded.set()

    async def find(self, model: str, page: Page) -> Suspect | None:
        """Return what this page is suspected of; None where it isn't."""
        await self._recorded.wait()
        self._suspects = suspects.current(self._suspects, self._now())
        if not self._suspects:
            return None
        digest = await asyncio.to_thread(lambda: page.digest)
        return suspects.find(self._suspects, _key(model, digest), self._now())

    async def record_failure(self, model: str, page: Page) -> None:
        """Record that an engine failed at this page, and so at all that were read with it."""
        digest = await asyncio.to_thread(lambda: page.digest)
        self._suspects = suspects.failed(self._suspects, _key(model, digest), self._now())

    async def acquit(self, model: str, page: Page) -> None:
        """Suspect a page no more."""
        digest = await asyncio.to_thread(lambda: page.digest)
        self._suspects = suspects.acquitted(self._suspects, _key(model, digest))


def _key(model: str, digest: bytes) -> bytes:
    return model.encode() + digest
