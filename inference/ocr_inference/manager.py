"""The owner of all models. One task, `Manager.run`, takes commands in, has `scheduler.decide` decide, and carries
the effects out; everybody else holds leases or snapshots. There are no locks: whatever changes is changed here.

Life-cycle calls run as tasks beside it and come back as commands. A page goes from the request's own task straight
to the worker (`Lease.infer`), since a lease guarantees that the model stays ready.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Literal

import msgspec

from ocr_inference import scheduler
from ocr_inference.engine import (
    Delta,
    EngineError,
    Failure,
    FailureKind,
    Footprint,
    InferRequest,
    ModelSpec,
    PageResult,
)
from ocr_inference.gpu import Books, Device, NoBooks, NoDevice
from ocr_inference.hosttier import HostTier
from ocr_inference.lifecycle import Event, State
from ocr_inference.nursery import Nurseries
from ocr_inference.progress import Telling
from ocr_inference.settings import Config, Effective, ModelConfig
from ocr_inference.snapshot import LastFailure, ModelSnapshot, Processes, Snapshot, take
from ocr_inference.standby import Standbys
from ocr_inference.worker import Result, Worker
from ocr_inference.world import (
    Acquire,
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
    Progressed,
    Reason,
    Refusal,
    Reject,
    Release,
    Revoke,
    Settled,
    StartCall,
    Tick,
    WakeAt,
    WorkerDied,
    World,
    Yield,
)

__all__ = ["LastFailure", "Lease", "Manager", "ModelSnapshot", "Refusal", "Refused", "Snapshot"]

log = logging.getLogger(__name__)

Job = asyncio.Future[Result]

STUCK_SECONDS = 60.0
"""A page that is still being read so long after its deadline counts as stuck, and its worker is killed: else it
would hold its lease, and with it the device, for ever."""


class Refused(Exception):
    """No lease, or none any more; `refusal` says why and when to try again."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class Lease:
    """The right to use a ready model, from a `Manager.lease` block; one page at a time."""

    def __init__(self, manager: "Manager", model: str, deadline: float, since: float) -> None:
        self.model = model
        self.deadline = deadline
        self.since = since
        self._manager = manager
        self._ticket = 0
        self._worker: Worker | None = None
        self._job: Job | None = None

    async def infer(self, request: InferRequest) -> PageResult:
        """Read one page. Raises `EngineError` (a bad page, an engine that fails) and `Refused` (deadline).

        Reading a page changes nothing, so where the worker dies under it, it is tried once more, by a new worker.
        """
        async with aclosing(self._read(request, stream=False)) as answers:
            async for answer in answers:
                if isinstance(answer, PageResult):
                    return answer
        raise AssertionError("an answer ends with a result")

    def stream(self, request: InferRequest) -> AsyncGenerator[Delta | PageResult, None]:
        """Read one page and yield its answer as it is written: any number of `Delta`, then the `PageResult`.

        The pieces, joined, are the result's text; from engines that don't write in pieces comes one. Raises what
        `infer` raises; a worker that dies is tried again only while no piece has come. Use it in
        `contextlib.aclosing`: leaving early tells the worker to stop writing.
        """
        return self._read(request, stream=True)

    async def _read(self, request: InferRequest, *, stream: bool) -> AsyncGenerator[Delta | PageResult, None]:
        begun = False
        try:
            async with aclosing(self._attempt(request, stream=stream)) as answers:
                async for answer in answers:
                    begun = True
                    yield answer
        except EngineError as error:
            if begun or error.failure.kind is not FailureKind.WORKER_DIED:
                raise
            log.warning("worker died while reading a page; reading it again", extra={"model": self.model})
        else:
            return
        await self.acquire(again=True)
        async with aclosing(self._attempt(request, stream=stream)) as answers:
            async for answer in answers:
                yield answer

    async def _attempt(
        self, request: InferRequest, *, stream: bool
    ) -> AsyncGenerator[Delta | PageResult, None]:
        assert self._worker is not None
        worker, batching = self._worker, self._manager.effective.batching
        pieces: asyncio.Queue[Delta | None] = asyncio.Queue()
        job = worker.infer(
            request,
            max_pages=batching.max_pages,
            max_wait_seconds=batching.max_wait_milliseconds / 1000,
            on_delta=pieces.put_nowait if stream else None,
        )
        job.add_done_callback(lambda _: pieces.put_nowait(None))
        self._job = job
        streamed = False
        try:
            while (piece := await self._next(pieces, worker, job)) is not None:
                streamed = True
                yield piece
            result = job.result()
            assert isinstance(result, PageResult)
            if stream and result.text and not streamed:
                yield Delta(
                    text=result.text,
                    prompt_tokens=result.prompt_tokens,
                    completion_tokens=result.completion_tokens,
                )
            yield result
        finally:
            if not job.done():
                worker.forget(job)

    async def _next(self, pieces: "asyncio.Queue[Delta | None]", worker: Worker, job: Job) -> Delta | None:
        try:
            async with asyncio.timeout(max(0.0, self.deadline - self._manager.now())):
                # The worker goes on when the client has gone: the lease ends with its work, not with the wait.
                return await pieces.get()
        except TimeoutError:
            self._manager.kill_if_stuck(worker, job)
            message = f"the deadline passed while model {self.model} was reading the page"
            raise Refused(Refusal(Reason.DEADLINE, message)) from None

    async def acquire(self, *, again: bool = False) -> None:
        """Queue and wait; for `Manager.lease` and for the second try."""
        if again:
            self.release()
        self._ticket, self._worker, self._job = 0, None, None
        since = self.since if again else None
        self._ticket, self._worker = await self._manager.acquire(self.model, self.deadline, since)

    def release(self) -> None:
        """Give the lease back as soon as the worker is done with the page."""
        ticket, job = self._ticket, self._job
        self._ticket = 0
        if not ticket:
            return
        if job is None or job.done():
            self._manager.post(Release(ticket))
        else:
            if self._worker is not None:
                self._worker.forget(job)  # an answer in pieces that nobody reads on
            job.add_done_callback(lambda _: self._manager.post(Release(ticket)))


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
        self._nurseries = Nurseries(environ, enabled=nursery)
        self._standbys = Standbys(self._nurseries, lambda: self.post(Tick()))
        self._standby_engines = frozenset(standby_engines) if nursery else frozenset()
        self._books: Books = NoBooks() if books is None else books
        self._specs = {
            each.name: _spec(each, device, each.engine in set(cuda_engines), cache_dir)
            for each in config.models
        }
        self._hosts: dict[str, HostTier] = {}
        self._workers: dict[str, Worker] = {}
        """The newest of each model, also when it has ended."""
        self._inbox: asyncio.Queue[Command] = asyncio.Queue()
        self._answers: dict[int, asyncio.Future[Worker | None]] = {}
        self._tickets = itertools.count(1)
        self._taken: dict[str, int] = {}
        """Room on the device for loads and restores in flight, in bytes."""
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
        self._snapshot = self._take()
        self._changed = asyncio.Event()

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
        lease = Lease(self, model, limit if deadline is None else min(limit, deadline), since)
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
        ticket, answer = self._question()
        self.post(Yield(ticket, model, min_resident_seconds))
        await answer

    async def release(self, model: str | None = None) -> None:
        """Unload a model, or all (None); returns when that is done, after their leases ended."""
        await self._ask(model, Event.UNLOAD)

    def apply(self, effective: Effective) -> None:
        """From now on work by these settings; running timers count anew from the last activity."""
        self.post(Apply(effective))

    async def close(self, grace_seconds: float = 20.0) -> None:
        """Refuse what comes, let what is queued and running end, unload everything; kill what is left then."""
        self.post(Close())
        try:
            async with asyncio.timeout(grace_seconds):
                await self._ended.wait()
        except TimeoutError:
            log.warning("not drained after %s seconds: killing the workers", grace_seconds)
            for ticket in list(self._answers):
                self.post(Cancel(ticket))
                self._refuse(ticket, Refusal(Reason.DRAINING, "the server is shutting down", 1.0))
            for worker in self._workers.values():
                worker.kill()
            await self._ended.wait()

    def snapshot(self) -> Snapshot:
        return self._snapshot

    async def changes(self) -> AsyncIterator[Snapshot]:
        """The snapshot now, and the newest after each change; a slow reader skips what is in between. Ends with
        the manager."""
        seen: Snapshot | None = None
        while True:
            changed, snapshot = self._changed, self._snapshot
            if snapshot is not seen:
                seen = snapshot
                yield snapshot
            elif self.ended:
                return
            else:
                await changed.wait()

    # --- for leases -------------------------------------------------------------------------------------------

    def post(self, command: Command) -> None:
        self._inbox.put_nowait(command)

    async def acquire(self, model: str, deadline: float, since: float | None) -> tuple[int, Worker]:
        """A ticket that holds a lease, and the worker under it."""
        ticket, answer = self._question()
        self.post(Acquire(ticket, model, deadline, since))
        try:
            worker = await answer
        except asyncio.CancelledError:
            self.post(Cancel(ticket))
            raise
        finally:
            self._answers.pop(ticket, None)
        assert worker is not None
        return ticket, worker

    def kill_if_stuck(self, worker: Worker, job: Job) -> None:
        """Kill the worker if the page isn't done some time after its deadline."""

        def kill() -> None:
            if not job.done():
                log.error("page stuck: killing the worker", extra={"model": worker.name, "pid": worker.pid})
                worker.kill()

        handle = asyncio.get_running_loop().call_later(STUCK_SECONDS, kill)
        job.add_done_callback(lambda _: handle.cancel())

    # --- the owner task ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Own everything until `close` has drained it. Cancelled, it kills the workers and gives all memory back."""
        try:
            for name in self._specs:
                self._hosts[name] = HostTier.create(name)
            async with self._nurseries, self._standbys, asyncio.TaskGroup() as self._tasks:
                self._step(Tick())
                self._publish()
                while not self._world.closed:
                    self._step(await self._inbox.get())
                    while not self._inbox.empty():
                        self._step(self._inbox.get_nowait())
                    self._publish()
        finally:
            if self._timer is not None:
                self._timer.cancel()
            for ticket in list(self._answers):
                self._refuse(ticket, Refusal(Reason.DRAINING, "the server has shut down", 1.0))
            for host in self._hosts.values():
                host.close()
            self._books.close()
            self._ended.set()
            self._changed.set()

    def _step(self, command: Command) -> None:
        if isinstance(command, Finished):
            self._taken.pop(command.model, None)  # from now on the world says what the model holds
        self._world, effects = scheduler.decide(self._world, command, self.now())
        for effect in effects:
            self._perform(effect)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case StartCall():
                assert self._tasks is not None
                fields = {"model": effect.model, "call": effect.call, "reason": effect.why}
                log.info("%s %s: %s", effect.call, effect.model, effect.why, extra=fields)
                self._tasks.create_task(self._call(effect), name=f"{effect.call} {effect.model}")
            case Grant(ticket, model):
                # It may have died a moment ago; then the lease's first call says so.
                self._answer(ticket, self._workers[model])
            case Reject(ticket, refusal):
                self._refuse(ticket, refusal)
            case Settled(ticket):
                self._answer(ticket, None)
            case WakeAt(time):
                self._wake_at(time)
            case Look():
                self.post(Observed(self._others()))
            case Revoke() | Closed():
                pass  # a lease notices by its worker, `run` by the world

    def _wake_at(self, at: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, at - self.now()), self.post, Tick())

    def _publish(self) -> None:
        snapshot = self._take()
        held = snapshot.memory_used_bytes + sum(self._taken.values())
        self._books.report(held, 1.0 if snapshot.in_flight else 0.0)
        used = (
            each for each in self._world.models.values() if each.state is not State.UNLOADED or each.waiters
        )
        self._nurseries.retain({self._specs[each.name].engine for each in used})
        if snapshot != self._snapshot:
            self._snapshot = snapshot
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    def _take(self) -> Snapshot:
        pids = {name: worker.pid for name, worker in self._workers.items() if not worker.ended}
        return take(
            self._world, self._specs, Processes(pids, self._standbys.ready), self._device, self._epoch
        )

    # --- questions and answers --------------------------------------------------------------------------------

    def _question(self) -> tuple[int, "asyncio.Future[Worker | None]"]:
        ticket = next(self._tickets)
        answer: asyncio.Future[Worker | None] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        if self.ended:
            answer.set_exception(Refused(Refusal(Reason.DRAINING, "the server has shut down", 1.0)))
        else:
            self._answers[ticket] = answer
        return ticket, answer

    def _answer(self, ticket: int, worker: Worker | None) -> None:
        answer = self._answers.pop(ticket, None)
        if answer is not None and not answer.done():
            answer.set_result(worker)

    def _refuse(self, ticket: int, refusal: Refusal) -> None:
        answer = self._answers.pop(ticket, None)
        if answer is not None and not answer.done():
            answer.set_exception(Refused(refusal))

    async def _ask(self, model: str | None, event: Literal[Event.OFFLOAD, Event.UNLOAD]) -> None:
        if model is not None:
            self._check_name(model)
        answers = []
        for name in self._specs if model is None else (model,):
            ticket, answer = self._question()
            self.post(Ask(ticket, name, event))
            answers.append(answer)
        await asyncio.gather(*answers)

    def _check_name(self, model: str) -> None:
        if model not in self._specs:
            message = f"no model {model!r}; there are {', '.join(self._specs)}"
            raise Refused(Refusal(Reason.UNKNOWN_MODEL, message))

    # --- what others hold -------------------------------------------------------------------------------------

    def _others(self, without: str = "") -> int:
        """Bytes of the device that others hold; `without`: our model that certainly holds none."""
        models = self._world.models.values()
        try:
            return self._books.others_bytes(
                sum(each.charged_bytes for each in models if each.name != without)
            )
        except NoDevice as error:
            log.warning("what others hold of the GPU can't be read: %s", error)
            return self._world.others_bytes

    def _book(self, model: str) -> bool:
        """Book the room that a load or restore needs, where others left it."""
        need = self._world.models[model].need_bytes
        try:
            taken = self._books.take(need)
        except NoDevice as error:
            log.warning("what is free on the GPU can't be read: %s", error)
            taken = True  # the allocation itself says it
        if taken:
            self._taken[model] = need
        return taken

    # --- calls ------------------------------------------------------------------------------------------------

    async def _call(self, effect: StartCall) -> None:
        outcome: Footprint | Failure | NoRoom
        try:
            outcome = await self._carry_out(effect)
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
                self.post(Observed(self._others(without=effect.model)))
            fields = {"model": effect.model, "call": effect.call, "reason": outcome.kind}
            log.warning("%s %s failed: %s", effect.call, effect.model, outcome.message, extra=fields)
        self.post(Finished(effect.model, effect.serial, outcome))

    async def _carry_out(self, effect: StartCall) -> Footprint | NoRoom:
        model = effect.model
        worker = self._workers.get(model)
        if worker is not None and worker.ended:
            worker = None
        match effect.call:
            case "load" | "restore":
                return await self._make_ready(effect, effect.call, worker)
            case "offload":
                if worker is None:
                    raise EngineError(Failure(kind=FailureKind.WORKER_DIED, message="there is no worker"))
                return await worker.call("offload")
            case "exit":
                if worker is not None:
                    await worker.stop()
                if self._specs[model].engine in self._standby_engines:
                    self._standbys.begin(self._pinned(model), self._hosts[model])
                return Footprint(host_bytes=self._hosts[model].size)
            case "unload":
                if worker is not None:
                    await worker.call("unload")
                    await worker.stop()
            case "kill":
                if worker is not None:
                    worker.kill()
                    await worker.gone()
        self._standbys.drop(model)
        self._hosts[model].resize(0)
        return Footprint()

    async def _make_ready(
        self, effect: StartCall, call: Literal["load", "restore"], worker: Worker | None
    ) -> Footprint | NoRoom:
        model = effect.model
        if not self._book(model):
            return NoRoom(self._others(without=model))
        if worker is None:
            assert effect.worker is not None
            worker = await self._start(model, effect.worker)
        with Telling(model, lambda it: self.post(Progressed(model, effect.serial, it))) as tell:
            return self._charged(model, await worker.call(call, tell))

    async def _start(self, model: str, serial: int) -> Worker:
        assert self._tasks is not None
        if (standby := self._standbys.take(model)) is not None:
            worker, end = standby.worker, standby.end
        else:
            worker = await Worker.start(self._pinned(model), self._hosts[model], self._nurseries)
            end = self._tasks.create_task(worker.run(), name=f"worker of {model}")
        self._workers[model] = worker
        self._tasks.create_task(self._watch(model, serial, end), name=f"watch of {model}")
        self.post(Tick())  # the snapshot has its process id
        return worker

    def _pinned(self, model: str) -> ModelSpec:
        """Once loaded, it stays the same commit: nothing may drift between two loads of one pod."""
        spec = self._specs[model]
        return msgspec.structs.replace(spec, revision=self._world.models[model].revision or spec.revision)

    async def _watch(self, model: str, serial: int, end: "asyncio.Task[Failure]") -> None:
        self.post(WorkerDied(model, serial, await end))

    def _charged(self, model: str, footprint: Footprint) -> Footprint:
        """A simulated GPU holds as much as the model declares, since the real memory is the host's."""
        if self._specs[model].device != "simulated":
            return footprint
        held = max(self._world.models[model].declared_bytes or 0, footprint.device_bytes)
        more = held - self._taken.get(model, 0)
        if more > 0:
            if not self._books.take(more):
                message = (
                    f"model {model} takes {held} bytes of {self._device.uuid}, which hasn't so much left"
                )
                raise EngineError(Failure(kind=FailureKind.OUT_OF_MEMORY, message=message))
            self._taken[model] = held
        return Footprint(device_bytes=held, host_bytes=footprint.host_bytes)


def _spec(model: ModelConfig, device: Device, uses_cuda: bool, cache_dir: str) -> ModelSpec:
    source = model.source
    hub = source.hugging_face if source else None
    return ModelSpec(
        name=model.name,
        engine=model.engine,
        device="cpu" if device.kind == "cuda" and not uses_cuda else device.kind,
        path=source.path if source else None,
        repo=hub.repo if hub else None,
        revision=hub.revision if hub else None,
        gpu_uuid=device.uuid if device.kind == "cuda" else None,
        compute_capability=device.compute_capability,
        dtype=model.dtype,
        attention=model.attention,
        options=dict(model.options),
        cache_dir=cache_dir,
    )
