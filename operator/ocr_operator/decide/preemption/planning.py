"""Which models are asked to offload for which waiter, now: `plan(waiters, residents, asked, rules, now) -> Plan`."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from ocr_operator.decide.preemption import messages, policies
from ocr_operator.decide.preemption.policies import VictimPolicy
from ocr_operator.decide.preemption.types import (
    Asked,
    NoVictim,
    Outcome,
    Plan,
    PlannedAsk,
    Resident,
    Rules,
    Waiter,
)

WINDOW: Final = timedelta(minutes=1)
"""Asks are counted, and remembered, for so long."""
SETTLE: Final = timedelta(seconds=0.3)
"""After an offload its waiter looks again within 0.1 s: until then the GPU's state is in between."""
COOL: Final = {Outcome.BUSY: timedelta(seconds=2), Outcome.FAILED: timedelta(seconds=10)}
"""A model whose pod said no, or nothing, isn't asked again sooner."""
REPORT: Final = timedelta(seconds=1)
"""After so long without help a waiter gets its Event."""


def plan(
    waiters: Iterable[Waiter],
    residents: Iterable[Resident],
    asked: Iterable[Asked],
    rules: Rules,
    now: datetime,
    *,
    policy: VictimPolicy = policies.DEFAULT,
) -> Plan:
    """Plan, for each GPU, the asks for at most one waiter: the next one has its turn when these are answered.

    The order of the inputs is irrelevant. First served are waiters whose memory was promised to them, then those of
    the highest priority, then those for which fewer were asked in the last minute, then the oldest.
    """
    if rules.asks_per_minute <= 0:
        return Plan()
    held, known = list(residents), [each for each in asked if now - each.at < WINDOW]
    groups: dict[str, list[Waiter]] = {}
    for waiter in waiters:
        groups.setdefault(waiter.gpu, []).append(waiter)
    plans = [
        _Gpu(
            [each for each in held if each.gpu == gpu],
            [each for each in known if each.gpu == gpu],
            rules,
            now,
            policy,
        ).plan(group)
        for gpu, group in sorted(groups.items())
    ]
    return Plan(
        asks=tuple(ask for each in plans for ask in each.asks),
        no_victims=tuple(no_victim for each in plans for no_victim in each.no_victims),
        retry_seconds=min(
            (each.retry_seconds for each in plans if each.retry_seconds is not None), default=None
        ),
    )


class _Gpu:
    """One GPU's decision; `_later` collects the moments at which another look may find more."""

    def __init__(
        self,
        residents: Sequence[Resident],
        asked: Sequence[Asked],
        rules: Rules,
        now: datetime,
        policy: VictimPolicy,
    ) -> None:
        self._residents = residents
        self._asked = asked
        self._rules = rules
        self._now = now
        self._policy = policy
        self._later: list[datetime] = []

    def plan(self, waiters: Sequence[Waiter]) -> Plan:
        if any(each.ended is None for each in self._asked):
            return Plan()  # its end is news
        self._later += [
            each.ended + SETTLE for each in self._asked if each.ended and each.outcome is Outcome.OFFLOADED
        ]
        if any(at > self._now for at in self._later):
            return Plan(retry_seconds=self._seconds())
        no_victims: list[NoVictim] = []
        for waiter in sorted(waiters, key=self._rank):
            chosen = self._policy.choose(waiter.lack_bytes, self._candidates(waiter))
            if chosen and len(self._asked) + len(chosen) <= self._rules.asks_per_minute:
                asks = (
                    PlannedAsk(
                        victim=each,
                        waiter=waiter,
                        why=messages.why(each, waiter, self._policy.reason(len(chosen))),
                    )
                    for each in chosen
                )
                return Plan(asks=tuple(asks), no_victims=tuple(no_victims), retry_seconds=self._seconds())
            if chosen:
                self._later.extend(each.at + WINDOW for each in self._asked)
            if waiter.since + REPORT <= self._now:
                no_victims.append(NoVictim(waiter=waiter, why=self._why_not(waiter, spent=bool(chosen))))
            else:
                self._later.append(waiter.since + REPORT)
        return Plan(no_victims=tuple(no_victims), retry_seconds=self._seconds())

    def _rank(self, waiter: Waiter) -> tuple[object, ...]:
        helped = sum(each.waiter == waiter.copy for each in self._asked)
        copy = waiter.copy
        return (
            not waiter.reserved,
            -waiter.priority,
            helped,
            waiter.since,
            (copy.key, copy.pod, copy.uid, copy.model),
        )

    def _candidates(self, waiter: Waiter) -> list[Resident]:
        there = [each for each in self._residents if each.copy.uid != waiter.copy.uid]
        for each in there:
            if messages.bar(waiter, each) is None:
                self._later.append(self._free_at(each))
        return [
            each for each in there if messages.bar(waiter, each) is None and self._free_at(each) <= self._now
        ]

    def _free_at(self, resident: Resident) -> datetime:
        """From when on a model may be asked, as far as time alone decides."""
        times = [
            each.ended + COOL[each.outcome]
            for each in self._asked
            if each.victim == resident.copy and each.ended and each.outcome in COOL
        ]
        since = resident.ready_since or self._now
        return max((since + timedelta(seconds=self._rules.min_resident_seconds), *times))

    def _why_not(self, waiter: Waiter, *, spent: bool) -> str:
        if spent:
            return messages.spent(waiter, self._rules.asks_per_minute)
        there = [each for each in self._residents if each.copy.uid != waiter.copy.uid]
        bars = [messages.bar(waiter, each) for each in there]
        return messages.no_victim(waiter, [each or messages.SOON for each in bars])

    def _seconds(self) -> float | None:
        return min(((at - self._now).total_seconds() for at in self._later if at > self._now), default=None)
