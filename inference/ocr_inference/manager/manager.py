"""The owner of all models.

One task, `Manager.run`, takes commands from the inbox, lets `scheduler.decide` decide, and carries out the effects; all
other code holds leases or snapshots. There are no locks: every change is made in this task. Life-cycle calls run as
tasks beside it (`calls`) and report their end as commands. Leases (`lease`) post commands to its `inbox`.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Literal

from ocr_inference.config.settings import Config, Effective
from ocr_inference.device.gpu import Device, NoDevice
from ocr_inference.device.memory_accounting import MemoryAccounting, MemoryReservations, NoMemoryAccounting
from ocr_inference.manager.calls import Calls, specs
from ocr_inference.manager.clock import CHECK_SECONDS, WallClock
from ocr_inference.manager.inbox import Inbox, Refused
from ocr_inference.manager.lease import STUCK_SECONDS, Lease
from ocr_inference.manager.page_history import PageHistory
from ocr_inference.manager.snapshot import Snapshot, take
from ocr_inference.protocol.latest import Latest
from ocr_inference.protocol.memory_use import CleanedUp
from ocr_inference.protocol.page_file import Page
from ocr_inference.scheduling import eviction, scheduler, stuck, timers, waiters
from ocr_inference.scheduling.commands import (
    AdminRequest,
    Apply,
    Cancel,
    Close,
    Command,
    Finished,
    Help,
    HelpEnded,
    MemoryProbed,
    OffloadIfIdle,
    Tick,
)
from ocr_inference.scheduling.lifecycle import Event
from ocr_inference.scheduling.state import (
    Closed,
    Done,
    Effect,
    FailureRecord,
    Grant,
    HandOver,
    KillWorker,
    LeaseLost,
    Model,
    ProbeMemory,
    Reason,
    Refusal,
    Reject,
    SchedulerState,
    StartCall,
    WakeAt,
)
from ocr_inference.workers.forkservers import Forkservers
from ocr_inference.workers.limits import LIMITS, Limits
from ocr_inference.workers.pending import Reads
from ocr_wire import engines, states

__all__ = ["Elsewhere", "Lease", "Manager", "Refusal", "Refused", "Snapshot", "nowhere"]

log = logging.getLogger(__name__)

Elsewhere = Callable[[str, str, float, Callable[[], object]], Reads]
"""Makes what reads a page in another pod: of a helper, the model, the seconds for which the page has waited, and what
to call when the helper is lost."""


def nowhere(helper: str, model: str, waited: float, lost: Callable[[], object]) -> Reads:
    """Refuse, in a program whose pages are all read here."""
    raise AssertionError(f"nothing leads to {helper} for {model}: {waited}, {lost}")


class Manager:
    """Owner task of all models and the calls that other code makes to it.

    All attributes are written by `run` (and `__init__`) only.
    """

    def __init__(
        self,
        config: Config,
        effective: Effective,
        device: Device,
        *,
        environ: Mapping[str, str],
        unusable: Mapping[str, str] | None = None,
        cuda_engines: Iterable[str] = (),
        standby_engines: Iterable[str] = (),
        accounting: MemoryAccounting | None = None,
        cache_dir: str = "",
        shared_weights: bool = False,
        forkserver: bool = True,
        forkservers: Forkservers | None = None,
        stuck_seconds: float = STUCK_SECONDS,
        limits: Limits = LIMITS,
        elsewhere: Elsewhere = nowhere,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Prepare to serve the models of `config` on `device`.

        Workers inherit from `environ`. `unusable` models are never loaded: their engine is missing, which the text
        says. `cuda_engines` compute on a CUDA device; models of other engines stay in host
        memory beside it. With `shared_weights` their weights in host memory are those of all servers that have the
        `cache_dir`. With `forkserver`, workers are forked from processes that have their imports done, and models
        of `standby_engines` have standbys in deep idle. A page that isn't read `stuck_seconds` after its deadline
        ends its worker, as a call does that makes no progress for the time of the `limits`. `elsewhere` makes what
        reads pages in another pod. `now` must be the event
        loop's kind of clock (monotonic seconds)."""
        self.now = now
        self._clock = WallClock(now, wall)
        self._clock_timer: asyncio.TimerHandle | None = None
        self._stuck_seconds = stuck_seconds
        self._hopeless_seconds = limits.hopeless
        self._elsewhere = elsewhere
        self._device = device
        self._memory = MemoryReservations(NoMemoryAccounting() if accounting is None else accounting)
        self._specs = specs(config, device, set(cuda_engines), cache_dir, share_weights=shared_weights)
        self._inbox = Inbox()
        self._history = PageHistory(now)
        forkservers = forkservers or Forkservers(environ, enabled=forkserver)
        self._calls = Calls(
            self._specs,
            device,
            self._memory,
            forkservers,
            self._inbox.post,
            history=self._history,
            external_bytes=self._external_bytes,
            standby_engines=frozenset(standby_engines) if forkserver else frozenset(),
            limits=limits,
        )
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._ended = asyncio.Event()
        self._unusable = unusable or {}
        models = {
            each.name: Model(
                name=each.name,
                can_offload=self._specs[each.name].device in engines.BY_NAME[each.engine].offloads_on,
                outlives_worker=engines.BY_NAME[each.engine].outlives_worker,
                unusable=self._unusable.get(each.name, ""),
                last_failure=self._missing(each.name),
                policy=effective.models[each.name],
                declared_bytes=each.gpu_memory_bytes if self._specs[each.name].device != "cpu" else 0,
                since=now(),
                last_activity=now(),
            )
            for each in config.models
        }
        budget = device.memory_total_bytes if device.kind != "cpu" else None
        self._state = SchedulerState(models, effective, budget)
        self._latest = Latest(self._take())

    # --- calls of other tasks ---------------------------------------------------------------------------------

    @property
    def effective(self) -> Effective:
        return self._state.effective

    @property
    def ended(self) -> bool:
        """Whether the owner task has ended, drained or broken. Nothing is served any more."""
        return self._ended.is_set()

    @property
    def unhealthy_reason(self) -> str | None:
        """Why the process should be restarted; None where it needn't."""
        return stuck.unhealthy_reason(self._state, self._hopeless_seconds)

    @property
    def unready_reason(self) -> str | None:
        """Why no request can be served for as long as this process runs: no model can ever be loaded."""
        models = self._state.models
        if not models or not all(each.unusable for each in models.values()):
            return None
        return "; ".join(dict.fromkeys(self._unusable[name] for name in models))

    def refuse_when_full(self) -> None:
        """Raise `Refused` where a new request can't queue: before its body is read, so that it takes no memory."""
        if (refusal := waiters.full(self._state)) is not None:
            raise Refused(refusal)

    @asynccontextmanager
    async def lease(
        self,
        model: str,
        deadline: float | None = None,
        *,
        page: Page | None = None,
        waited: float | None = None,
    ) -> AsyncIterator[Lease]:
        """Wake the model, wait until it is ready, and hold it; raises `Refused`. For a `page` that is refused because
        it killed workers nothing is woken: raises `EngineError`. Another pod that helps may read the page, unless it
        comes from one, in which it has `waited` for so many seconds: they count here.

        `deadline` is a time of `now`'s clock. The queue's deadline applies in any case, to waiting and reading
        together, and counts from this call. Cancelling leaves the queue; a lease ends when the worker's work ends, not
        when the client leaves.
        """
        since = self.now()
        limit = since + self.effective.queue.deadline_seconds
        lease = Lease(
            self._inbox,
            self._history,
            model,
            limit if deadline is None else min(limit, deadline),
            since=since,
            now=self.now,
            batching=lambda: self.effective.batching,
            stuck_seconds=self._stuck_seconds,
            evict_idle=lambda: self._evict_idle(model),
        )
        await lease.begin(page, waited=waited)
        try:
            yield lease
        finally:
            lease.release()

    async def offload(self, model: str | None = None, *, force: bool = False) -> None:
        """Offload a model, or all (None); returns when that is done, after their leases ended. With `force` workers
        that are at work are killed, which drops weights; the pages are read again afterwards."""
        await self._request(model, Event.OFFLOAD, force=force)

    async def offload_idle(self, model: str, min_resident_seconds: float = 0.0) -> None:
        """Offload an idle model; returns when that is done. Raises `Refused` at once where the model is in use, or has
        been ready for less than that time."""
        self._check_name(model)
        ticket, answer = self._inbox.ticket()
        self._inbox.post(OffloadIfIdle(ticket, model, min_resident_seconds))
        try:
            await answer
        finally:
            del answer  # what it raises has a traceback with this frame: a circle

    async def release(self, model: str | None = None, *, force: bool = False) -> None:
        """Unload a model, or all (None); returns when that is done, after their leases ended. `force` as of
        `offload`."""
        await self._request(model, Event.UNLOAD, force=force)

    def help(self, helper: str, model: str) -> None:
        """Have another pod, in which the model is ready, read pages that wait here, until none waits. `helper` is what
        `elsewhere` knows it by."""
        self._check_name(model)
        self._inbox.post(Help(helper, model, self.effective.batching.max_pages))

    async def clean_up(self, model: str | None = None) -> Mapping[str, CleanedUp | None]:
        """Have the running workers of a model, or of all (None), empty their caches; no model moves or is woken, and
        idle timers run on. Returns what came of it, by model, as `Calls.clean_up` does."""
        if model is not None:
            self._check_name(model)
        return await self._calls.clean_up(tuple(self._specs) if model is None else (model,))

    def apply(self, effective: Effective) -> None:
        """Work by these settings from now on; running timers are set anew, from the last activity."""
        self._inbox.post(Apply(effective))

    async def close(self, grace_seconds: float = 20.0) -> None:
        """Refuse new requests, let queued and running ones end, unload everything; then kill the workers that are
        left."""
        self._inbox.post(Close())
        try:
            async with asyncio.timeout(grace_seconds):
                await self._ended.wait()
        except TimeoutError:
            log.warning("not drained after %s seconds: killing the workers", grace_seconds)
            for ticket in self._inbox.unanswered():
                self._inbox.post(Cancel(ticket))
                self._inbox.refuse(ticket, Refusal(Reason.DRAINING, "the server is shutting down", 1.0))
            self._calls.kill_blameless(f"the server shuts down, and waited {grace_seconds:g} seconds for it")
            await self._ended.wait()

    def snapshot(self) -> Snapshot:
        return self._latest.value

    def idle_seconds(self, model: str) -> float:
        """Return for how long the model has been idle, as its timers count: 0 while requests run or wait."""
        since = self.snapshot().moments[model].idle_since
        return 0.0 if since is None else max(0.0, self.now() - since)

    def ages(self) -> Mapping[str, stuck.Ages]:
        """Return what grows older as long as something is stuck, by model."""
        return {name: stuck.ages(each, self.now()) for name, each in self._state.models.items()}

    def changes(self) -> AsyncIterator[Snapshot]:
        """Yield the snapshot now, and the latest after each change; a slow reader skips those in between. Ends with
        the manager."""
        return self._latest.follow()

    async def _evict_idle(self, model: str) -> bool:
        """Offload the models that make way for a page of this one; returns, when that is done, whether one went."""
        answers = []
        for name in eviction.idle_for_page(self._state.models, model):
            ticket, answer = self._inbox.ticket()
            self._inbox.post(OffloadIfIdle(ticket, name, made_way_for=f"a page of {model}"))
            answers.append(answer)
        outcomes = await asyncio.gather(*answers, return_exceptions=True)
        return not all(isinstance(outcome, Refused) for outcome in outcomes)

    async def _request(
        self, model: str | None, event: Literal[Event.OFFLOAD, Event.UNLOAD], *, force: bool
    ) -> None:
        if model is not None:
            self._check_name(model)
        answers = []
        for name in self._specs if model is None else (model,):
            ticket, answer = self._inbox.ticket()
            self._inbox.post(AdminRequest(ticket, name, event, force))
            answers.append(answer)
        await asyncio.gather(*answers)

    def _check_name(self, model: str) -> None:
        if model not in self._specs:
            message = f"no model {model!r}; there are {', '.join(self._specs)}"
            raise Refused(Refusal(Reason.UNKNOWN_MODEL, message))

    def _missing(self, model: str) -> FailureRecord | None:
        why = self._unusable.get(model)
        return None if why is None else FailureRecord(states.ENGINE_MISSING, why, self.now())

    # --- the owner task ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run the owner task until `close` has drained it. Cancelled, it kills the workers and frees all memory."""
        try:
            async with self._calls.open() as self._tasks:
                self._step(Tick())
                self._publish()
                self._check_clock()
                while not self._state.closed:
                    self._step(await self._inbox.get())
                    while (command := self._inbox.get_nowait()) is not None:
                        self._step(command)
                    self._publish()
        finally:
            for timer in (self._timer, self._clock_timer):
                if timer is not None:
                    timer.cancel()
            self._inbox.close()
            self._memory.close()
            self._ended.set()
            self._latest.close()

    def _step(self, command: Command) -> None:
        if isinstance(command, Finished):
            # From now on the scheduler's state counts what the model holds.
            self._memory.release(command.model)
        self._state, effects = scheduler.decide(self._state, command, self.now())
        for effect in effects:
            self._perform(effect)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case StartCall():
                assert self._tasks is not None
                fields = {"model": effect.model, "call": effect.call, "reason": effect.why}
                log.info("%s %s: %s", effect.call, effect.model, effect.why, extra=fields)
                call = self._calls.run(effect, self._state.models[effect.model])
                self._tasks.create_task(call, name=f"{effect.call} {effect.model}")
            case Grant(ticket, model):
                # It may have died a moment ago; then the lease's first call fails.
                self._inbox.answer(ticket, self._calls.worker(model))
            case HandOver(ticket, model, helper, since):
                lost = partial(self._inbox.post, HelpEnded(helper))
                self._inbox.answer(ticket, self._elsewhere(helper, model, self.now() - since, lost))
            case Reject(ticket, refusal):
                self._inbox.refuse(ticket, refusal)
            case Done(ticket):
                self._inbox.answer(ticket)
            case KillWorker(model):
                self._calls.kill_blameless("requested by an administrator", model)
            case WakeAt(time):
                self._wake_at(time)
            case ProbeMemory():
                self._inbox.post(MemoryProbed(self._external_bytes()))
            case LeaseLost() | Closed():
                pass  # a lease learns it from its worker, `run` from the state

    def _wake_at(self, at: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, at - self.now()), self._inbox.post, Tick())

    def _publish(self) -> None:
        self._keep_processes()  # first: the snapshot says which are left
        snapshot = self._take()
        self._memory.report(snapshot.memory_used_bytes, 1.0 if snapshot.queue.in_flight else 0.0)
        self._latest.publish(snapshot)

    def _keep_processes(self) -> None:
        models, now = self._state.models.values(), self.now()
        self._calls.retain({each.name for each in models if timers.keeps_forkserver(each, now)})
        if not self._state.draining:
            self._calls.keep_standbys({each.name for each in models if timers.has_standby(each, now)})

    def _take(self) -> Snapshot:
        self._clock.check()
        processes, epoch = self._calls.processes(), self._clock.epoch
        return take(self._state, self._specs, processes, self._device, epoch=epoch, now=self.now())

    def _check_clock(self) -> None:
        """Write the times anew where the wall clock was set, also while nothing happens."""
        self._clock_timer = asyncio.get_running_loop().call_later(CHECK_SECONDS, self._check_clock)
        if self._clock.check():
            self._publish()

    def _external_bytes(self, without: str = "") -> int:
        """Return bytes of the device that other processes hold; `without`: model of ours that holds no more than before
        the call that failed."""
        models = self._state.models.values()
        ours = sum(each.resident_bytes if each.name == without else each.charged_bytes for each in models)
        try:
            return self._memory.external_bytes(ours)
        except NoDevice as error:
            log.warning("the GPU's memory can't be read: %s", error)
            return self._state.external_bytes
