"""The queue of objects to reconcile: keys in, one pass at a time per object out, failed passes again later.

An entry carries no data, so any number of them merge into one pass. What decides is the state that the pass reads,
never the change that caused it.
"""

import asyncio
import heapq
import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from ocr_operator.kube import api
from ocr_operator.metrics import Metrics
from ocr_operator.resources.observed import Key

Reconcile = Callable[[Key], Awaitable[float | None]]
"""One pass: returns the seconds until the next one, None for "when something changes"."""


class AtLatest(float):
    """Seconds until the next pass over what waits since there is much to do: it comes earlier once none is due and all
    is calm, without the spacing.
    """


SPACING_SECONDS: Final = 0.2
"""Between the starts of two passes over one object that aren't urgent: a pod's start is five events and more
within a second, and a pass costs about a millisecond.
"""
CALM_SECONDS: Final = 0.5
"""Between two looks whether all is calm, while something waits for that."""
MAX_BACKOFF_SECONDS: Final = 60.0

log = logging.getLogger(__name__)


def soonest(waits: Iterable[float | None]) -> float | None:
    """Return the shortest of some waits, None where there is none; it is `AtLatest` where one of them is: what comes
    earlier anyway keeps nothing from coming as soon as there is little to do.
    """
    known = [each for each in waits if each is not None]
    if not known:
        return None
    return AtLatest(min(known)) if any(isinstance(each, AtLatest) for each in known) else min(known)


@dataclass(slots=True)
class _Object:
    """Written only by `WorkQueue`."""

    due: float | None = None
    """When the next pass starts; None while nothing asks for one."""
    started: float = float("-inf")
    ended: float = float("-inf")
    """When the last pass was done: the next one can't begin before."""
    running: bool = False
    failures: int = 0
    """In a row."""
    gone: bool = False
    """Forgotten while a pass runs; a new entry brings it back."""


@dataclass(order=True, slots=True)
class _Entry:
    due: float
    key: Key = field(compare=False)


class WorkQueue:
    """Runs a pass for every key that was enqueued, at most `concurrency` of them at once.

    A pass that raises is logged, counted and repeated after a growing delay; nothing but cancellation escapes.
    """

    def __init__(
        self,
        *,
        concurrency: int,
        time: Callable[[], float],
        rng: random.Random,
        metrics: Metrics,
        spacing: float = SPACING_SECONDS,
        calm: Callable[[], bool] = lambda: True,
    ) -> None:
        """Prepare; `calm` says whether there is little to do elsewhere, too, for passes that come `AtLatest` then."""
        self._time = time
        self._rng = rng
        self._metrics = metrics
        self._spacing = spacing
        self._calm = calm
        self._slots = asyncio.Semaphore(concurrency)
        self._objects: dict[Key, _Object] = {}
        self._heap: list[_Entry] = []
        self._patient: dict[Key, None] = {}
        """Objects whose next pass comes `AtLatest` when it is due, and hasn't begun; the first ones first."""
        self._begun = float("inf")
        """When passes began to be run: what was due before isn't late, such as at a change of the leader."""
        self._signal = asyncio.Event()
        self.last_heartbeat = time()
        """When the owner loop last came by: an old one means that it hangs."""
        self._late = 0.0

    def enqueue(self, key: Key, *, urgent: bool = False) -> None:
        """Ask for a pass: at once, or, unless `urgent`, at least `spacing` after the last one began."""
        thing = self._objects.setdefault(key, _Object())
        now = self._time()
        self._ask(key, thing, now if urgent else max(now, thing.started + self._spacing))

    def enqueue_after(self, key: Key, seconds: float) -> None:
        """Ask for a pass after that time; an earlier entry doesn't cancel it but makes it superfluous."""
        self._ask(key, self._objects.setdefault(key, _Object()), self._time() + seconds)

    def forget(self, key: Key) -> None:
        """Drop an object that is gone, until it is enqueued again."""
        if thing := self._objects.get(key):
            thing.due, thing.gone = None, True
            self._patient.pop(key, None)
            if not thing.running:
                del self._objects[key]

    def __len__(self) -> int:
        """Count the objects that are due now."""
        now = self._time()
        return sum(thing.due is not None and thing.due <= now for thing in self._objects.values())

    def longest_pass(self) -> float:
        """Return the seconds that the oldest running pass has taken so far."""
        now = self._time()
        return max((now - each.started for each in self._objects.values() if each.running), default=0.0)

    def lateness(self) -> float:
        """Return by how many seconds the last pass began later than it could: how much there is to do. A pass that goes
        on for long makes the next one over the same object no later.
        """
        return self._late

    async def run(self, reconcile: Reconcile) -> None:
        """Start passes until it is cancelled, and cancel those that run then. The one owner of the queue."""
        self._begun = self._time()
        async with asyncio.TaskGroup() as passes:
            while True:
                self.last_heartbeat = self._time()
                self._signal.clear()
                while (key := self._next()) is not None:
                    await self._slots.acquire()
                    self._start(passes, key, reconcile)
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

    def _next(self) -> Key | None:
        """Take the next object that is due, else a patient one; entries that an earlier one overtook are dropped on the
        way.
        """
        while self._heap and self._heap[0].due <= self._time():
            entry = heapq.heappop(self._heap)
            thing = self._objects.get(entry.key)
            if thing is not None and thing.due == entry.due and not thing.running:
                return entry.key
        return None if self._slots.locked() or not self._calm() else next(iter(self._patient), None)

    def _start(self, passes: asyncio.TaskGroup, key: Key, reconcile: Reconcile) -> None:
        thing, now = self._objects[key], self._time()
        due = now if thing.due is None else thing.due
        self._late = max(0.0, now - max(due, thing.ended, self._begun))
        self._patient.pop(key, None)
        thing.due, thing.running, thing.started = None, True, now
        passes.create_task(self._pass(key, thing, reconcile))

    async def _pass(self, key: Key, thing: _Object, reconcile: Reconcile) -> None:
        try:
            again = await self._attempt(key, thing, reconcile)
            if again is not None and not thing.gone:
                self.enqueue_after(key, again)
                if isinstance(again, AtLatest):
                    self._patient[key] = None
        finally:
            thing.running, thing.ended = False, self._time()
            self._slots.release()
            if self._patient:
                self._signal.set()
        if thing.gone:
            del self._objects[key]
        elif thing.due is not None:
            self._push(thing.due, key)

    async def _attempt(self, key: Key, thing: _Object, reconcile: Reconcile) -> float | None:
        try:
            again = await reconcile(key)
        except api.KubeError as error:
            return self._failed(key, thing, error)
        except Exception as error:
            log.exception("pass failed resource=%s/%s", *key)
            return self._failed(key, thing, error)
        self._metrics.reconciles.labels("done").inc()
        if thing.failures:
            log.info("pass works again resource=%s/%s", *key)
        thing.failures = 0
        return again

    def _failed(self, key: Key, thing: _Object, error: Exception) -> float:
        """Return the growing delay until the next pass. A conflict is no failure: the newest state is here already."""
        conflict = isinstance(error, api.Conflict)
        self._metrics.reconciles.labels("conflict" if conflict else "failed").inc()
        thing.failures = failures = thing.failures + 1
        if conflict and failures < 5:
            return 0.0
        if failures == 1:
            log.warning("pass failed resource=%s/%s error=%s", *key, error)
        asked = (error.retry_after if isinstance(error, api.KubeError) else None) or 0.0
        grown = min(MAX_BACKOFF_SECONDS, 0.5 * 2.0 ** min(failures - 1, 10))
        return max(asked, grown * self._rng.uniform(0.5, 1.0))

    async def _sleep(self) -> None:
        """Wait until the next entry is due, or something is enqueued, or it is time for a heartbeat."""
        longest = CALM_SECONDS if self._patient else 5.0
        wait = min(longest, max(0.0, self._heap[0].due - self._time())) if self._heap else longest
        try:
            async with asyncio.timeout(wait):
                await self._signal.wait()
        except TimeoutError:
            return
