"""The owner of all models. One task, `Manager.run`, takes commands in, has `scheduler.decide` decide, and carries
the effects out; everybody else holds leases or snapshots. There are no locks: whatever changes is changed here.

Life-cycle calls run as tasks beside it (`calls`) and come back as commands. Leases (`lease`) post and ask through its
`inbox` like everybody.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Literal

from ocr_inference.config.settings import Config, Effective
from ocr_inference.device.gpu import Device, NoDevice
from ocr_inference.device.memory_accounting import Books, Ledger, NoBooks
from ocr_inference.manager.calls import Calls, Taken, specs
from ocr_inference.manager.inbox import Inbox, Refused
from ocr_inference.manager.lease import Lease
from ocr_inference.manager.snapshot import LastFailure, ModelSnapshot, Snapshot, take
from ocr_inference.protocol.engine import EngineError, Failure, FailureKind, Footprint
from ocr_inference.protocol.latest import Newest
from ocr_inference.scheduling import scheduler
from ocr_inference.scheduling.lifecycle import Event, State
from ocr_inference.scheduling.state import (
    Apply,
    Ask,
    Cancel,
    Close,
    Closed,
    Command,
    Effect,
    Finished,
    Grant,
    Look,
    Model,
    NoRoom,
    Observed,
    Reason,
    Refusal,
    Reject,
    Revoke,
    Settled,
    StartCall,
    Tick,
    WakeAt,
    World,
    Yield,
)
from ocr_inference.workers.forkserver_client import Nurseries

__all__ = ["LastFailure", "Lease", "Manager", "ModelSnapshot", "Refusal", "Refused", "Snapshot"]

log = logging.getLogger(__name__)


class Manager:
    """All attributes are written by `run` (and `__init__`) only."""

    def __init__(
        self,
        config: Config,
        effective: Effective,
        device: Device,
        *,
        environ: Mapping[str, str],
        cuda_engines: Iterable[str] = (),
        standby_engines: Iterable[str] = (),
        books: Books | None = None,
        cache_dir: str = "",
        nursery: bool = True,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`environ` is what workers inherit from, `cuda_engines` are those that compute on a CUDA device: models of
        others stay in host memory beside it. With `nursery`, workers are forked from processes that have their
        imports done, and models of `standby_engines` have standbys in deep idle. `now` must be the event loop's kind of
        clock (monotonic seconds)."""
        self.now = now
        self._epoch = wall() - now()
        self._device = device
        self._ledger = Ledger(NoBooks() if books is None else books)
        self._specs = specs(config, device, set(cuda_engines), cache_dir)
        self._inbox = Inbox()
        nurseries = Nurseries(environ, enabled=nursery)
        self._calls = Calls(
            self._specs,
            device,
            self._ledger,
            nurseries,
            self._inbox.post,
            standby_engines=frozenset(standby_engines) if nursery else frozenset(),
        )
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._ended = asyncio.Event()
        models = {
            each.name: Model(
                name=each.name,
                policy=effective.models[each.name],
                declared_bytes=each.gpu_memory_bytes if self._specs[each.name].device != "cpu" else 0,
                since=now(),
                last_activity=now(),
            )
            for each in config.models
        }
        budget = device.memory_total_bytes if device.kind != "cpu" else None
        self._world = World(models, effective, budget)
        self._newest = Newest(self._take())

    # --- for everybody ----------------------------------------------------------------------------------------

    @property
    def effective(self) -> Effective:
        return self._world.effective

    @property
    def ended(self) -> bool:
        """Whether the owner task is over: drained, or broken. Nothing is served any more."""
        return self._ended.is_set()

    @asynccontextmanager
    async def lease(self, model: str, deadline: float | None = None) -> AsyncIterator[Lease]:
        """Wait until the model is ready, waking it, and hold it; raises `Refused`.

        `deadline` is a time of `now`'s clock; the queue's deadline applies in any case, to waiting and reading
        together. Cancelling leaves the queue; a lease ends when the worker's work ends, not when the client goes.
        """
        since = self.now()
        limit = since + self.effective.queue.deadline_seconds
        lease = Lease(
            self._inbox,
            model,
            limit if deadline is None else min(limit, deadline),
            since=since,
            now=self.now,
            batching=lambda: self.effective.batching,
        )
        await lease.acquire()
        try:
            yield lease
        finally:
            lease.release()

    async def offload(self, model: str | None = None) -> None:
        """Offload a model, or all (None); returns when that is done, after their leases ended."""
        await self._ask(model, Event.OFFLOAD)

    async def offload_idle(self, model: str, min_resident_seconds: float = 0.0) -> None:
        """Offload a model that nobody uses; returns when that is done. Raises `Refused` at once where somebody does, or
        where it is ready for less than that time."""
        self._check_name(model)
        ticket, answer = self._inbox.question()
        self._inbox.post(Yield(ticket, model, min_resident_seconds))
        await answer

    async def release(self, model: str | None = None) -> None:
        """Unload a model, or all (None); returns when that is done, after their leases ended."""
        await self._ask(model, Event.UNLOAD)

    def apply(self, effective: Effective) -> None:
        """From now on work by these settings; running timers count anew from the last activity."""
        self._inbox.post(Apply(effective))

    async def close(self, grace_seconds: float = 20.0) -> None:
        """Refuse what comes, let what is queued and running end, unload everything; kill what is left then."""
        self._inbox.post(Close())
        try:
            async with asyncio.timeout(grace_seconds):
                await self._ended.wait()
        except TimeoutError:
            log.warning("not drained after %s seconds: killing the workers", grace_seconds)
            for ticket in self._inbox.unanswered():
                self._inbox.post(Cancel(ticket))
                self._inbox.refuse(ticket, Refusal(Reason.DRAINING, "the server is shutting down", 1.0))
            self._calls.kill()
            await self._ended.wait()

    def snapshot(self) -> Snapshot:
        return self._newest.value

    def changes(self) -> AsyncIterator[Snapshot]:
        """The snapshot now, and the newest after each change; a slow reader skips what is in between. Ends with
        the manager."""
        return self._newest.follow()

    async def _ask(self, model: str | None, event: Literal[Event.OFFLOAD, Event.UNLOAD]) -> None:
        if model is not None:
            self._check_name(model)
        answers = []
        for name in self._specs if model is None else (model,):
            ticket, answer = self._inbox.question()
            self._inbox.post(Ask(ticket, name, event))
            answers.append(answer)
        await asyncio.gather(*answers)

    def _check_name(self, model: str) -> None:
        if model not in self._specs:
            message = f"no model {model!r}; there are {', '.join(self._specs)}"
            raise Refused(Refusal(Reason.UNKNOWN_MODEL, message))

    # --- the owner task ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Own everything until `close` has drained it. Cancelled, it kills the workers and gives all memory back."""
        try:
            async with self._calls.open() as self._tasks:
                self._step(Tick())
                self._publish()
                while not self._world.closed:
                    self._step(await self._inbox.get())
                    while (command := self._inbox.get_nowait()) is not None:
                        self._step(command)
                    self._publish()
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._inbox.close()
            self._ledger.close()
            self._ended.set()
            self._newest.close()

    def _step(self, command: Command) -> None:
        if isinstance(command, Finished):
            self._ledger.settle(command.model)  # from now on the world says what the model holds
        self._world, effects = scheduler.decide(self._world, command, self.now())
        for effect in effects:
            self._perform(effect)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case StartCall():
                assert self._tasks is not None
                fields = {"model": effect.model, "call": effect.call, "reason": effect.why}
                log.info("%s %s: %s", effect.call, effect.model, effect.why, extra=fields)
                call = self._call(effect, self._world.models[effect.model])
                self._tasks.create_task(call, name=f"{effect.call} {effect.model}")
            case Grant(ticket, model):
                # It may have died a moment ago; then the lease's first call says so.
                self._inbox.answer(ticket, self._calls.worker(model))
            case Reject(ticket, refusal):
                self._inbox.refuse(ticket, refusal)
            case Settled(ticket):
                self._inbox.answer(ticket)
            case WakeAt(time):
                self._wake_at(time)
            case Look():
                self._inbox.post(Observed(self._others()))
            case Revoke() | Closed():
                pass  # a lease notices by its worker, `run` by the world

    def _wake_at(self, at: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, at - self.now()), self._inbox.post, Tick())

    def _publish(self) -> None:
        snapshot = self._take()
        self._ledger.report(snapshot.memory_used_bytes, 1.0 if snapshot.in_flight else 0.0)
        models = self._world.models.values()
        self._calls.retain([each.name for each in models if each.state is not State.UNLOADED or each.waiters])
        self._newest.publish(snapshot)

    def _take(self) -> Snapshot:
        return take(self._world, self._specs, self._calls.processes(), self._device, self._epoch)

    def _others(self, without: str = "") -> int:
        """Bytes of the device that others hold; `without`: our model that certainly holds none."""
        models = self._world.models.values()
        ours = sum(each.charged_bytes for each in models if each.name != without)
        try:
            return self._ledger.others_bytes(ours)
        except NoDevice as error:
            log.warning("what others hold of the GPU can't be read: %s", error)
            return self._world.others_bytes

    async def _call(self, effect: StartCall, model: Model) -> None:
        outcome: Footprint | Failure | NoRoom
        try:
            outcome = await self._calls.carry_out(effect, model)
        except Taken:
            outcome = NoRoom(self._others(without=effect.model))
        except EngineError as error:
            outcome = error.failure
        except OSError as error:
            message = f"{effect.call} of model {effect.model}: {error}"
            outcome = Failure(kind=FailureKind.FAILED, message=message)
        except Exception as error:
            # A bug, yet one model's: its waiters get an answer and the others are served on.
            log.exception("%s of model %s", effect.call, effect.model)
            outcome = Failure(kind=FailureKind.FAILED, message=f"{type(error).__name__}: {error}")
        if isinstance(outcome, Failure):
            if outcome.kind is FailureKind.OUT_OF_MEMORY:
                self._inbox.post(Observed(self._others(without=effect.model)))
            fields = {"model": effect.model, "call": effect.call, "reason": outcome.kind}
            log.warning("%s %s failed: %s", effect.call, effect.model, outcome.message, extra=fields)
        self._inbox.post(Finished(effect.model, effect.serial, outcome))
