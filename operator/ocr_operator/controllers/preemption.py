"""Preemption: asks idle models to make way when a pod reports that a model lacks memory, and records Events.

The one owner of the asks. It remembers those of the last minute and nothing else: a restarted operator finds waiters
in the pods' first states, and the pods themselves see to it that a model which became ready a moment ago stays.
"""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from ocr_operator.controllers.cluster_state import ClusterState
from ocr_operator.controllers.recorder import Recorder
from ocr_operator.decide import preemption
from ocr_operator.decide.placement.messages import size
from ocr_operator.decide.preemption import Asked, Copy, Outcome, PlannedAsk, ReportedPod, Rules, Waiter
from ocr_operator.decide.status import Event
from ocr_operator.metrics import Metrics
from ocr_operator.pods.client import PodClient
from ocr_operator.pods.wire import PodError
from ocr_operator.resources.observed import Key
from ocr_wire.states import State

FAULT_SECONDS: Final = 5.0
"""Until the next pass after one that failed by a fault of ours."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Wait:
    """A waiter's wait, to be measured when it ends."""

    began: float
    copy: Copy


@dataclass(frozen=True, slots=True)
class _Sent:
    """An ask that was sent, by monotonic seconds: a wall clock that is set must neither forget it nor keep it."""

    asked: Asked
    at: float
    ended: float | None = None

    def at_time(self, now: datetime, time: float) -> Asked:
        """Return it with the times that the wall clock, as it is set now, would have had then."""
        ended = None if self.ended is None else now - timedelta(seconds=time - self.ended)
        return replace(self.asked, at=now - timedelta(seconds=time - self.at), ended=ended)


class PreemptionController:
    """`run` owns everything; `pods_changed` gets the keys of resources."""

    def __init__(
        self,
        pods: PodClient,
        cluster: ClusterState,
        recorder: Recorder,
        *,
        rules: Rules,
        metrics: Metrics,
        now: Callable[[], datetime],
        time: Callable[[], float],
    ) -> None:
        """Prepare; `time` is monotonic, in seconds."""
        self._pods = pods
        self._cluster = cluster
        self._recorder = recorder
        self._rules = rules
        self._metrics = metrics
        self._now = now
        self._time = time
        self._changed = asyncio.Event()
        self._changed_keys: set[Key] = set()
        self._waiting: set[Key] = set()
        """Resources with a pod that waits, or waited and isn't ready yet."""
        self._waits: dict[tuple[str, str], _Wait] = {}
        """By pod UID and model."""
        self._reported_keys: set[tuple[str, str]] = set()
        """Waits that have their Event: once each, however the reasons change meanwhile."""
        self._asked: dict[int, _Sent] = {}
        self._numbers = itertools.count(1)
        metrics.preemption_waiting.set_function(lambda: len(self._waits))

    def pods_changed(self, key: Key) -> None:
        """Take note that a pod of this resource reported something new, or is unreachable now."""
        self._changed_keys.add(key)
        self._changed.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._changed.clear()
                try:
                    wait = self._reconcile(tasks)
                except Exception:
                    log.exception("preemption failed")
                    wait = FAULT_SECONDS
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._changed.wait()

    def _reconcile(self, tasks: asyncio.TaskGroup) -> float | None:
        """Decide, and start what follows. Costs nothing while no model waits."""
        changed, self._changed_keys = self._changed_keys, set()
        tracked = {wait.copy.key for wait in self._waits.values()}
        for key in changed:
            lacks = any(
                model.waits_for for _, state, _ in self._pods.connected(key) for model in state.models
            )
            (self._waiting.add if lacks or key in tracked else self._waiting.discard)(key)
        if not self._waiting:
            return None
        now, time = self._now(), self._time()
        waiters, residents = preemption.view(self._reported_pods(), now)
        self._measure(waiters, time)
        self._asked = {
            number: each
            for number, each in self._asked.items()
            if each.ended is None or time - each.at < preemption.WINDOW.total_seconds()
        }
        self._waiting = {waiter.copy.key for waiter in waiters} | {
            wait.copy.key for wait in self._waits.values()
        }
        asked = [each.at_time(now, time) for each in self._asked.values()]
        plan = preemption.plan(waiters, residents, asked, self._rules, now)
        for no_victim in plan.no_victims:
            name = (no_victim.waiter.copy.uid, no_victim.waiter.copy.model)
            if name in self._reported_keys:
                continue
            self._reported_keys.add(name)
            event = Event(type="Warning", reason="GpuMemoryShort", message=no_victim.why)
            tasks.create_task(self._record(no_victim.waiter.copy.key, event))
        for ask in plan.asks:
            number = next(self._numbers)
            sent = Asked(victim=ask.victim.copy, waiter=ask.waiter.copy, gpu=ask.waiter.gpu, at=now)
            self._asked[number] = _Sent(sent, time)
            tasks.create_task(self._ask(number, ask))
        return plan.retry_seconds

    def _reported_pods(self) -> Iterator[ReportedPod]:
        """List the pods that report a GPU on which a model waits: few, also where there are hundreds."""
        waiting = {state.device.uuid for key in self._waiting for _, state, _ in self._pods.connected(key)}
        for key, target, state, live in self._pods.all_connected():
            if state.device.uuid not in waiting:
                continue
            pod = self._cluster.pods.get((key[0], target.name))
            if pod is not None and pod.uid == target.uid:
                declared = self._cluster.declared.get(key, {})
                yield ReportedPod(key=key, pod=pod, state=state, live=live.values, declared=declared)

    def _measure(self, waiters: tuple[Waiter, ...], time: float) -> None:
        """Begin and end waits: they end well with a ready model, and otherwise when the model waits no more."""
        for waiter in waiters:
            self._waits.setdefault((waiter.copy.uid, waiter.copy.model), _Wait(time, waiter.copy))
        present = {(waiter.copy.uid, waiter.copy.model) for waiter in waiters}
        for name, wait in list(self._waits.items()):
            if name in present:
                continue
            states = [
                state for target, state, _ in self._pods.connected(wait.copy.key) if target.uid == name[0]
            ]
            model = next((each for state in states for each in state.models if each.name == name[1]), None)
            if model is not None and model.state in (State.LOADING, State.RESTORING):
                continue
            if model is not None and model.state is State.READY:
                self._metrics.preemption_seconds.observe(time - wait.began)
            del self._waits[name]
            self._reported_keys.discard(name)

    async def _ask(self, number: int, ask: PlannedAsk) -> None:
        victim, waiter = ask.victim.copy, ask.waiter.copy
        log.info("asking why=%s", ask.why)
        try:
            gone = await self._pods.offload(
                victim.key, victim.uid, victim.model, self._rules.min_resident_seconds
            )
        except PodError as error:
            outcome = Outcome.FAILED
            log.warning("ask failed victim=%s error=%s", victim, error)
        except Exception:
            outcome = Outcome.FAILED
            log.exception("ask failed victim=%s", victim)
        else:
            outcome = Outcome.OFFLOADED if gone else Outcome.BUSY
            log.info("asked victim=%s waiter=%s outcome=%s", victim, waiter, outcome)
        self._metrics.preemption_asks.labels(outcome).inc()
        sent = self._asked[number]
        self._asked[number] = _Sent(replace(sent.asked, outcome=outcome), sent.at, self._time())
        self._changed.set()
        if outcome is Outcome.OFFLOADED:
            memory = f"{size(ask.victim.held_bytes)} of {ask.waiter.gpu}"
            got = Event(
                type="Normal", reason="GpuMemoryFreed", message=f"{waiter} gets {memory} from {victim}"
            )
            await self._record(victim.key, Event(type="Normal", reason="GpuMemoryYielded", message=ask.why))
            await self._record(waiter.key, got)

    async def _record(self, key: Key, event: Event) -> None:
        if (body := self._cluster.resource(key)) is not None:
            await self._recorder.record(body, event)
