"""Which bodies may be read: pages in memory have a budget of bytes, and a body that doesn't fit waits its turn unread.

First come, first served: a small body doesn't overtake a large one that waits, since the large one would never get its
turn. What is claimed has to be used: while others wait, a body that hardly comes makes way. Values in, values out;
`bodies` acts.
"""

from dataclasses import dataclass, replace
from typing import Final

SLOW_BYTES_PER_SECOND: Final = 1 << 18
"""What a body brings at least while others wait, on average."""
GRACE_SECONDS: Final = 3.0
"""Time that it has to begin."""


@dataclass(frozen=True)
class Claim:
    """Bytes that one body may take."""

    ticket: int
    size: int


@dataclass(frozen=True)
class Budget:
    """Budget, and what is taken of it. Each function returns the next one and the claims that it admits."""

    limit: int
    """At least as many bytes as any claim."""
    most_waiting: int
    admitted_bytes: int = 0
    waiting: tuple[Claim, ...] = ()
    """In the order of their coming."""


class TooManyWait(Exception):
    """Refusal of a claim, since too many wait."""


def claim(budget: Budget, wanted: Claim) -> tuple[Budget, tuple[Claim, ...]]:
    """Admit the claim or let it wait; raises `TooManyWait`."""
    asked = replace(budget, waiting=(*budget.waiting, wanted))
    after, admitted = _admit(asked)
    if len(after.waiting) > budget.most_waiting:
        raise TooManyWait
    return after, admitted


def withdraw(budget: Budget, ticket: int) -> tuple[Budget, tuple[Claim, ...]]:
    """Forget a claim that waits: its client has left or has waited for long enough."""
    rest = tuple(each for each in budget.waiting if each.ticket != ticket)
    return _admit(replace(budget, waiting=rest))


def give_back(budget: Budget, size: int) -> tuple[Budget, tuple[Claim, ...]]:
    """Take back bytes of an admitted claim: all of them, or what turned out not to be needed."""
    return _admit(replace(budget, admitted_bytes=budget.admitted_bytes - size))


def is_slow(received: int, seconds: float) -> bool:
    """Return whether a body that brought so many bytes in that time has to make way for others."""
    return received < (seconds - GRACE_SECONDS) * SLOW_BYTES_PER_SECOND


def _admit(budget: Budget) -> tuple[Budget, tuple[Claim, ...]]:
    taken, count = budget.admitted_bytes, 0
    for each in budget.waiting:
        if taken + each.size > budget.limit:
            break
        taken += each.size
        count += 1
    after = replace(budget, admitted_bytes=taken, waiting=budget.waiting[count:])
    return after, budget.waiting[:count]
