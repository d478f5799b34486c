"""When each object is looked at: signals in, one pass at a time per object, out.

A wake-up carries no data: it only says "look again", so any number of them may merge into one pass. What
decides is the level that the pass reads, never the edge that woke it.
"""

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from ocr_operator.resources.observed import Key

SPACING_SECONDS: Final = 0.2
"""Between the starts of two passes over one object that nobody waits for: a pod's start is five events and more
within a second, and a pass costs about a millisecond.
"""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Object:
    """Written only by `Wakeups`."""

    due: float | None = None
    """When the next pass starts; None while nothing asks for one."""
    started: float = float("-inf")
    running: bool = False
    gone: bool = False
    """Forgotten while a pass runs; a wake-up brings it back."""


@dataclass(order=True, slots=True)
class _Entry:
    due: float
    key: Key = field(compare=False)


class WorkQueue:
    """Runs `look(key)` for every object that was woken, at most `concurrency` of them at once.

    `look` returns after how many seconds it wants to look again, None for "when woken". It handles its own
    errors; one that escapes ends `run`.
    """

    def __init__(
        self,
        reconcile: Callable[[Key], Awaitable[float | None]],
        *,
        concurrency: int,
        time: Callable[[], float],
        spacing: float = SPACING_SECONDS,
    ) -> None:
        self._reconcile = reconcile
        self._time = time
        self._spacing = spacing
        self._slots = asyncio.Semaphore(concurrency)
        self._objects: dict[Key, _Object] = {}
        self._heap: list[_Entry] = []
        self._signal = asyncio.Event()
        self.last_heartbeat = time()
        """When the owner loop last came by: an old one means that it hangs."""

    def enqueue(self, key: Key, *, urgent: bool = False) -> None:
        """Looks again: at once, or, unless `urgent`, at least `spacing` after the last pass began."""
        thing = self._objects.setdefault(key, _Object())
        now = self._time()
        self._ask(key, thing, now if urgent else max(now, thing.started + self._spacing))

    def enqueue_after(self, key: Key, seconds: float) -> None:
        """Looks again after that time; an earlier wake-up doesn't cancel it but makes it superfluous."""
        self._ask(key, self._objects.setdefault(key, _Object()), self._time() + seconds)

    def forget(self, key: Key) -> None:
        """No more passes for an object that is gone, until it is woken again."""
        if thing := self._objects.get(key):
            thing.due, thing.gone = None, True
            if not thing.running:
                del self._objects[key]

    def __len__(self) -> int:
        """Objects that are due now."""
        now = self._time()
        return sum(thing.due is not None and thing.due <= now for thing in self._objects.values())

    def longest_pass(self) -> float:
        """Seconds that the oldest running pass has taken so far."""
        now = self._time()
        return max((now - each.started for each in self._objects.values() if each.running), default=0.0)

    async def run(self) -> None:
        """The owner: starts passes until it is cancelled, and cancels those that run then."""
        async with asyncio.TaskGroup() as passes:
            while True:
                self.last_heartbeat = self._time()
                self._signal.clear()
                while (entry := self._next()) is not None:
                    await self._slots.acquire()
                    self._start(passes, entry.key)
                await self._sleep()

    def _ask(self, key: Key, thing: _Object, due: float) -> None:
        thing.gone = False
        if thing.due is None or due < thing.due:
            thing.due = due
            if not thing.running:
                self._push(due, key)

    def _push(self, due: float, key: Key) -> None:
        heapq.heappush(self._heap, _Entry(due, key))
        self._signal.set()

    def _next(self) -> _Entry | None:
        """The next object that is due; entries that a later wake-up overtook are dropped on the way."""
        while self._heap and self._heap[0].due <= self._time():
            entry = heapq.heappop(self._heap)
            thing = self._objects.get(entry.key)
            if thing is not None and thing.due == entry.due and not thing.running:
                return entry
        return None

    def _start(self, passes: asyncio.TaskGroup, key: Key) -> None:
        thing = self._objects[key]
        thing.due, thing.running, thing.started = None, True, self._time()
        passes.create_task(self._pass(key, thing))

    async def _pass(self, key: Key, thing: _Object) -> None:
        try:
            again = await self._reconcile(key)
            if again is not None and not thing.gone:
                self.enqueue_after(key, again)
        finally:
            thing.running = False
            self._slots.release()
        if thing.gone:
            del self._objects[key]
        elif thing.due is not None:
            self._push(thing.due, key)

    async def _sleep(self) -> None:
        """Until the next entry is due, or somebody wakes something, or it is time to show a heartbeat."""
        wait = min(5.0, max(0.0, self._heap[0].due - self._time())) if self._heap else 5.0
        try:
            async with asyncio.timeout(wait):
                await self._signal.wait()
        except TimeoutError:
            return
