"""Places for processes that render documents: each takes memory, so there are few, first come, first served."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from ocr_inference.errors import ApiError

MOST: Final = 4
WAIT_SECONDS: Final = 60.0
RETRY_AFTER_SECONDS: Final = 5.0


class Places:
    """Places of one server."""

    def __init__(self, most: int = MOST, wait_seconds: float = WAIT_SECONDS) -> None:
        self._most = most
        self._wait_seconds = wait_seconds
        self._free = asyncio.Semaphore(most)

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Take a place for the block; raises 429 where none becomes free in time."""
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._free.acquire()
        except TimeoutError:
            raise ApiError(
                429,
                "renderers_busy",
                f"queue full: {self._most} documents are read at a time; send this one again later, or as a job",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            ) from None
        try:
            yield
        finally:
            self._free.release()
