"""Idle models that make way for others, in simulated time, by the operator's own decision."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from bench.simulated import MODEL, Clock, Pod
from ocr_operator.decide import preemption
from ocr_operator.decide.preemption import Asked, Copy, Outcome, PlannedAsk, Resident, Rules, Waiter
from ocr_wire.states import State

BEGIN: Final = datetime(2026, 11, 30, tzinfo=UTC)
LOOK, CALL = 0.02, 0.02
"""Seconds from a change to the operator's look at it, and from there to the pod that is called."""
RULES: Final = Rules()


class MakingWay:
    """The operator as far as it has models make way; `pods` are set before the clock runs."""

    def __init__(self, clock: Clock) -> None:
        self.pods: Sequence[Pod] = ()
        self.moves = 0
        self._clock = clock
        self._asked: list[Asked] = []
        self._next_look = math.inf

    def changed(self, pod: Pod) -> None:
        """Look soon where a pod lacks memory, or where that may have been waited for."""
        if pod.model.waits_for is not None or self._waits(pod):
            self._ask(self._clock.now + LOOK)

    def _waits(self, pod: Pod) -> bool:
        gpu = pod.gpu
        return gpu is not None and any(each.model.waits_for is not None for each in gpu.pods)

    def _ask(self, time: float) -> None:
        if time < self._next_look:
            self._next_look = time
            self._clock.at(time, lambda: self._look() if self._next_look == time else None)

    def _look(self) -> None:
        self._next_look = math.inf
        now = self._at(self._clock.now)
        waiters = [found for pod in self.pods if (found := self._waiter(pod)) is not None]
        self._asked = [each for each in self._asked if now - each.at < preemption.WINDOW]
        if not waiters:
            return
        residents = [self._resident(pod) for pod in self.pods if pod.model.state is State.READY]
        plan = preemption.plan(waiters, residents, self._asked, RULES, now)
        for ask in plan.asks:
            self._asked.append(
                Asked(victim=ask.victim.copy, waiter=ask.waiter.copy, gpu=ask.victim.gpu, at=now)
            )
            self._clock.after(CALL, partial(self._send, ask))
        if plan.retry_seconds is not None:
            self._ask(self._clock.now + plan.retry_seconds)

    def _send(self, ask: PlannedAsk) -> None:
        pod = next(each for each in self.pods if each.name == ask.victim.copy.pod)
        pod.offload_if_idle(RULES.min_resident_seconds, partial(self._ended, ask))

    def _ended(self, ask: PlannedAsk, went: bool) -> None:
        self.moves += went
        outcome = Outcome.OFFLOADED if went else Outcome.BUSY
        now = self._at(self._clock.now)
        self._asked = [
            Asked(
                victim=each.victim, waiter=each.waiter, gpu=each.gpu, at=each.at, ended=now, outcome=outcome
            )
            if each.ended is None and each.victim == ask.victim.copy
            else each
            for each in self._asked
        ]
        self._ask(self._clock.now + LOOK)

    def _waiter(self, pod: Pod) -> Waiter | None:
        lack = pod.model.waits_for
        if lack is None or pod.gpu is None:
            return None
        return Waiter(
            copy=_copy(pod),
            gpu=pod.gpu.uuid,
            lack_bytes=lack.needed_bytes - lack.free_bytes,
            since=self._at(lack.since),
            priority=0,
            reserved=False,
        )

    def _resident(self, pod: Pod) -> Resident:
        model = pod.model
        used = bool(model.leases or model.waiting)
        return Resident(
            copy=_copy(pod),
            gpu="" if pod.gpu is None else pod.gpu.uuid,
            held_bytes=model.charged_bytes,
            priority=0,
            preload=False,
            reserved=False,
            ready_since=self._at(model.since),
            idle_since=None if used else self._at(model.last_activity),
        )

    def _at(self, seconds: float) -> datetime:
        return BEGIN + timedelta(seconds=seconds)


def _copy(pod: Pod) -> Copy:
    return Copy(key=("day", pod.name), pod=pod.name, uid=pod.name, model=MODEL)
