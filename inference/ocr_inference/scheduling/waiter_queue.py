"""Queue of waiters, as a value: by age, by deadline and by ticket, so that no decision goes through all of it."""

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Self

from ocr_inference.scheduling.sorted_tuples import SortedTuples


@dataclass(frozen=True, slots=True)
class Waiter:
    """Request that is queued for a lease."""

    ticket: int
    since: float
    deadline: float
    alone: bool = False
    """Whether it holds the only lease of its model, when it gets one: its page may kill the worker."""
    movable: bool = False
    """Whether another pod may read its page."""


@dataclass(frozen=True, slots=True, eq=False)
class WaiterQueue:
    """Waiters, oldest first; each ticket once."""

    _by_age: SortedTuples[tuple[float, int, Waiter]] = field(default_factory=SortedTuples)
    _by_deadline: SortedTuples[tuple[float, int, Waiter]] = field(default_factory=SortedTuples)
    _by_ticket: SortedTuples[tuple[int, Waiter]] = field(default_factory=SortedTuples)

    @classmethod
    def of(cls, waiters: Iterable[Waiter]) -> Self:
        every = tuple(waiters)
        return cls(
            SortedTuples.of((each.since, each.ticket, each) for each in every),
            SortedTuples.of((each.deadline, each.ticket, each) for each in every),
            SortedTuples.of((each.ticket, each) for each in every),
        )

    def __len__(self) -> int:
        return len(self._by_age)

    def __iter__(self) -> Iterator[Waiter]:
        return (waiter for _, _, waiter in self._by_age)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WaiterQueue) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"WaiterQueue({list(self)})"

    @property
    def oldest(self) -> Waiter | None:
        return next(iter(self), None)

    def get(self, ticket: int) -> Waiter | None:
        found = next(self._by_ticket.since((ticket,)), None)
        return found[1] if found is not None and found[0] == ticket else None

    def add(self, waiter: Waiter) -> Self:
        return type(self)(
            self._by_age.add((waiter.since, waiter.ticket, waiter)),
            self._by_deadline.add((waiter.deadline, waiter.ticket, waiter)),
            self._by_ticket.add((waiter.ticket, waiter)),
        )

    def without(self, waiters: Iterable[Waiter]) -> Self:
        """Return the queue without `waiters`, which are in it."""
        by_age, by_deadline, by_ticket = self._by_age, self._by_deadline, self._by_ticket
        for waiter in waiters:
            by_age = by_age.remove((waiter.since, waiter.ticket, waiter))
            by_deadline = by_deadline.remove((waiter.deadline, waiter.ticket, waiter))
            by_ticket = by_ticket.remove((waiter.ticket, waiter))
        return type(self)(by_age, by_deadline, by_ticket)

    def late(self, now: float) -> Iterator[Waiter]:
        """Yield the waiters whose deadline has passed."""
        return (each[2] for each in itertools.takewhile(lambda each: each[0] <= now, self._by_deadline))

    def next_deadline(self, now: float) -> float:
        """Return the first deadline after `now`; infinity where there is none."""
        first = next(self._by_deadline.since((now, math.inf)), None)
        return math.inf if first is None else first[0]
