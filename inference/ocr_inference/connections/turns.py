"""Work on the event loop that grows with what a client sends, done in turns, so that other requests go on meanwhile.

    work = turns.work()
    while piece := await content.readany():
        parse(piece)
        await work.pause()

The bytes of a body don't tell what they cost: a megabyte takes milliseconds in one piece, and seconds as a million
chunks or lines of one byte. So processor time is counted. A request that has used a slice of it waits until the loop
has been around, and of several that wait one goes on in each round, the one first that has waited longest. Probes,
other requests and answers have their time in between, however many clients send such bodies.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

SLICE_SECONDS: Final = 0.001
"""Processor time that a request may use before others have theirs: a probe takes ten rounds of the loop."""


class Turns:
    """Turns of one server. Belongs to the loop that it is used in."""

    def __init__(self, clock: Callable[[], float] = time.thread_time) -> None:
        self.clock = clock
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._given = False
        """Whether a turn is given in the next round of the loop."""

    def work(self) -> "Work":
        """Return the work of one request."""
        return Work(self)

    async def take(self) -> None:
        """Wait for a turn."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        self._give_next(loop)
        await turn

    def _give_next(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._waiting and not self._given:
            self._given = True
            loop.call_soon(self._give, loop)

    def _give(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the next one go on. Those whose client has left are passed over."""
        self._given = False
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                break
        self._give_next(loop)


class Work:
    """Work of one request. What others do on the loop while it waits for its client counts as its own: where the loop
    is busy, it makes way sooner."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._since = turns.clock()

    async def pause(self) -> None:
        """Wait for a turn, where a slice was used since the last one."""
        if self._turns.clock() - self._since >= SLICE_SECONDS:
            await self._turns.take()
            self._since = self._turns.clock()
