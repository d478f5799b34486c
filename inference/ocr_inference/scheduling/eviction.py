"""Who makes room on the device, and in which order. Decides only; when a victim may be taken is `scheduler`'s."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model whose device memory could be taken back."""

    name: str
    bytes: int
    busy: bool
    """Leased or about to be: it can be had only after its leases have ended."""
    priority: int
    preload: bool
    last_granted: float
    """Seconds on the scheduler's clock. Not the last activity: a model whose door is closed gets no grants, so
    it stays the least recently used one until it has drained, and the choice can't wander between two."""


def choose(needed_bytes: int, candidates: Sequence[Candidate]) -> tuple[Candidate, ...] | None:
    """The fewest that are worth least and free at least `needed_bytes`; None where all of them don't suffice.

    Worth, from low to high: idle before busy, low priority before high, not preloaded before preloaded, least
    recently used first; the name decides between equals, so that equal worlds give equal answers.
    """
    freed, chosen = 0, []
    for candidate in sorted(candidates, key=_worth):
        if freed >= needed_bytes:
            break
        if candidate.bytes > 0:
            chosen.append(candidate)
            freed += candidate.bytes
    if freed < needed_bytes:
        return None
    # A large one that came late may have made small ones before it superfluous: spare the worthiest of these.
    for candidate in reversed(chosen[:-1]):
        if freed - candidate.bytes >= needed_bytes:
            chosen.remove(candidate)
            freed -= candidate.bytes
    return tuple(chosen)


def _worth(candidate: Candidate) -> tuple[bool, int, bool, float, str]:
    return (
        candidate.busy,
        candidate.priority,
        candidate.preload,
        candidate.last_granted,
        candidate.name,
    )
