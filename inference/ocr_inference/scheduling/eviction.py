"""Decides which ready models give up device memory, and in which order; `memory_plan` decides when."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ocr_inference.scheduling.state import Model
from ocr_wire.states import State


@dataclass(frozen=True, slots=True)
class Candidate:
    """Model whose device memory could be taken back."""

    name: str
    bytes: int
    busy: bool
    """Whether it is leased or about to be: its memory is free only after its leases have ended."""
    priority: int
    preload: bool
    last_granted: float
    """Seconds on the scheduler's clock. Not the last activity: a model whose door is closed gets no grants, so
    it stays the least recently used one until it has drained, and the choice can't alternate between two."""


def choose(needed_bytes: int, candidates: Sequence[Candidate]) -> tuple[Candidate, ...] | None:
    """Choose the fewest of least worth that free at least `needed_bytes`; None where all of them don't suffice.

    Worth, from low to high: idle before busy, low priority before high, not preloaded before preloaded, least
    recently used first; the name decides between equals, so that equal states give equal answers.
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
    # A large one that was chosen late may make small ones before it superfluous: spare the worthiest of these.
    for candidate in reversed(chosen[:-1]):
        if freed - candidate.bytes >= needed_bytes:
            chosen.remove(candidate)
            freed -= candidate.bytes
    return tuple(chosen)


def idle_for_page(models: Mapping[str, Model], name: str) -> tuple[str, ...]:
    """Return the models that make way for a page of this one for which memory ran out: ready, idle, and of no higher
    priority. All of them, since how much the page lacks isn't known."""
    priority = models[name].policy.priority
    return tuple(
        each.name
        for each in models.values()
        if each.name != name
        and each.state is State.READY
        and not (each.leases or each.waiting or each.admin_request)
        and (
            each.policy.priority < priority or (each.policy.priority == priority and not each.policy.preload)
        )
    )


def _worth(candidate: Candidate) -> tuple[bool, int, bool, float, str]:
    return (
        candidate.busy,
        candidate.priority,
        candidate.preload,
        candidate.last_granted,
        candidate.name,
    )
