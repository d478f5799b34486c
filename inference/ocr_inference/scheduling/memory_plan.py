"""Decides which models get the device's memory: `plan(models, budget, patience, now) -> Plan`.

Models with waiters claim memory, best claim first: first those that waited longer than `patience` (oldest first), then
by priority, then by age. A claim starts if it fits, waits for memory that is about to be freed, evicts idle models, or
closes the doors of busy ones (no new leases) until they have drained. Patience keeps steady traffic on one model from
starving a waiter for another.

Nothing is remembered between plans: which model waits for which memory is worked out anew. The one exception is a model
that found less free memory than the accounting has (`Model.blocked_on`): it is tried again when certain other models
are off the device.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from ocr_inference.scheduling import eviction
from ocr_inference.scheduling.state import Model
from ocr_wire.states import State

OFF_DEVICE = (State.UNLOADED, State.OFFLOADED)
FREEING = (State.OFFLOADING, State.UNLOADING, State.FAILED)


@dataclass(frozen=True, slots=True)
class Step:
    """Step of a plan about one model."""

    action: Literal["start", "evict", "close"]
    """`start`: load or restore. `evict`: offload now. `close`: grant no new leases, so that it can be evicted when the
    last one has ended."""
    model: str
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps that are due, and the memory that is left."""

    steps: tuple[Step, ...]
    free_bytes: float
    """Memory without a claim; infinity where it isn't bounded."""
    short: Mapping[str, int]
    """Models that would have their memory if other processes didn't hold it → the bytes that they could have."""


def plan(
    models: Mapping[str, Model],
    budget_bytes: int | None,
    patience_seconds: float,
    now: float,
    external_bytes: int = 0,
) -> Plan:
    """Plan what is due now, in order, on a device of which other processes hold `external_bytes`."""
    return _Planner(models, patience_seconds, now, external_bytes).plan(budget_bytes)


def victims_for_retry(
    models: Mapping[str, Model], name: str, patience_seconds: float, now: float
) -> frozenset[str]:
    """Choose the models to evict for a second try of a model that found less free memory than the accounting has:
    enough for all that it needs, or as many as may be evicted. Empty: none may, and a second try wouldn't help."""
    planner = _Planner(models, patience_seconds, now)
    candidates = [each for each in planner.candidates(models[name]) if models[each.name].state is State.READY]
    chosen = eviction.choose(max(1, models[name].lacking_bytes), candidates)
    return frozenset(each.name for each in (candidates if chosen is None else chosen))


class _Planner:
    def __init__(
        self, models: Mapping[str, Model], patience_seconds: float, now: float, external_bytes: int = 0
    ) -> None:
        self._models = models
        self._patience = patience_seconds
        self._now = now
        self._external_bytes = external_bytes
        self._steps: list[Step] = []
        self._short: dict[str, int] = {}
        self._evicted: set[str] = set()

    def plan(self, budget_bytes: int | None) -> Plan:
        free, coming = self._memory(budget_bytes)
        for model in sorted(self._claims(), key=self._rank):
            need = model.lacking_bytes
            waiting = self._clear_blockers(model)
            if not waiting and need <= max(free, 0):
                self._steps.append(Step("start", model.name, "requested"))
                free -= need
                continue
            short = need - free - coming
            if short > 0:
                candidates = self.candidates(model)
                victims = eviction.choose(math.ceil(short), candidates)
                if victims is None:
                    lacks = math.ceil(short) - sum(each.bytes for each in candidates)
                    if lacks <= self._external_bytes:
                        self._short[model.name] = max(0, need - lacks)
                    if self._impatient(model):
                        free = coming = 0  # all that becomes free is this one's: no claim behind it may start
                    continue
                coming += sum(self._take_back(victim.name, model) for victim in victims)
            taken = min(max(free, 0), need)
            free, coming = free - taken, max(0, coming - (need - taken))
        return Plan(tuple(self._steps), free, self._short)

    def candidates(self, claim: Model) -> list[eviction.Candidate]:
        """Return the models whose memory this claim may take: of an offloaded one, what has stayed on the device."""
        return [
            eviction.Candidate(
                name=model.name,
                bytes=model.charged_bytes,
                busy=bool(model.leases or model.servable),
                priority=model.policy.priority,
                preload=model.policy.preload,
                last_granted=model.last_granted,
            )
            for model in self._models.values()
            if self._can_go(model)
            and model.name not in (claim.name, *self._evicted)
            and self._may_take(claim, model)
        ]

    @staticmethod
    def _can_go(model: Model) -> bool:
        asleep = model.state is State.OFFLOADED and model.running is None and model.resident_bytes > 0
        return model.state is State.READY or asleep

    def _may_take(self, claim: Model, model: Model) -> bool:
        outranked = model.policy.priority < claim.policy.priority
        if model.leases or model.servable:
            # A model whose own waiter has the better claim keeps its door open until that one is served.
            behind = not model.servable or self._rank(model) > self._rank(claim)
            return (self._impatient(claim) or outranked) and behind
        equal = model.policy.priority == claim.policy.priority and not model.policy.preload
        return self._impatient(claim) or outranked or equal

    def _clear_blockers(self, claim: Model) -> bool:
        """Evict the models that the second try of `claim` is blocked on; return whether one is still on the device."""
        there = [
            name
            for name in sorted(claim.blocked_on)
            if self._models[name].state in (State.READY, State.OFFLOADING)
        ]
        for name in there:
            if self._models[name].state is State.READY and name not in self._evicted:
                self._take_back(name, claim)
        return bool(there)

    def _take_back(self, name: str, claim: Model) -> int:
        """Offload a victim now, or close its door until its leases have ended. Return the bytes about to be freed."""
        victim, why = self._models[name], f"evicted for {claim.name}"
        if victim.leases:
            self._steps.append(Step("close", name, why))
            return 0
        self._steps.append(Step("evict", name, why))
        self._evicted.add(name)
        return victim.charged_bytes

    def _memory(self, budget_bytes: int | None) -> tuple[float, float]:
        """Return bytes that are free, and bytes that calls in flight are about to free."""
        budget = math.inf if budget_bytes is None else budget_bytes - self._external_bytes
        charged = sum(model.charged_bytes for model in self._models.values())
        return budget - charged, sum(m.charged_bytes for m in self._models.values() if m.state in FREEING)

    def _claims(self) -> Collection[Model]:
        """Return the models with waiters that are off the device."""
        return [
            model
            for model in self._models.values()
            if model.state in OFF_DEVICE and model.running is None and model.servable
        ]

    def _impatient(self, model: Model) -> bool:
        oldest = model.servable.oldest
        return oldest is not None and self._now >= oldest.since + self._patience

    def _rank(self, model: Model) -> tuple[bool, int, float, int]:
        """Return the sort key of a claim, smallest first; only for models with servable waiters."""
        first, impatient = model.servable.oldest, self._impatient(model)
        assert first is not None
        return (not impatient, 0 if impatient else -model.policy.priority, first.since, first.ticket)
