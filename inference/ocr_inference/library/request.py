"""A command that waits for its answer, in a thread or in an event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from ocr_inference.scheduling.commands import Cancel


@dataclass(frozen=True)
class Request:
    """Posted command. A caller that stops waiting gives back what it would have got."""

    ticket: int
    answer: Future[Any]
    post: Callable[[Cancel], None]

    def wait(self) -> Any:
        """Return the answer, or raise it."""
        try:
            return self.answer.result()
        except BaseException:
            self.post(Cancel(self.ticket))  # changes nothing where the answer was a refusal
            raise

    async def wait_async(self) -> Any:
        try:
            return await asyncio.wrap_future(self.answer)
        except BaseException:
            self.post(Cancel(self.ticket))
            raise
