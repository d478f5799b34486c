"""The worker process: one engine, driven by the server's calls in the order in which they come.

The main thread runs the engine and nothing else, since some runtimes insist on one thread. A second thread receives
the calls (`call_reader`). Standard error is the log; standard output isn't used.

A page comes as a descriptor of its file, which is closed when the page is answered.

Pages go to an engine in batches, or, where it reads in steps (`SteppingEngine`), as it has free slots: then pages come
and go while other pages are being read.
"""

import ctypes
import functools
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from msgspec import structs

from ocr_inference import engines
from ocr_inference.protocol import frames
from ocr_inference.protocol.engine import (
    Answer,
    Begun,
    Broken,
    CleanUpCall,
    Delta,
    Engine,
    EngineError,
    Event,
    Failure,
    FailureKind,
    Footprint,
    LifeCycleCall,
    ModelSpec,
    PageResult,
    Progress,
    Start,
    SteppingEngine,
    SupervisingEngine,
)
from ocr_inference.protocol.host_tier import HostTier
from ocr_inference.protocol.memory_use import CleanedUp, MemoryUse
from ocr_inference.workers import failures, own_memory, swap_file
from ocr_inference.workers.call_reader import CallReader, PageCall, Work
from ocr_wire import redaction

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_PR_SET_PDEATHSIG = 1
_PROGRESS_SECONDS = 0.25
"""Least time between two reports of the same phase."""
_LOOK_SECONDS = 2.0
"""Between two looks at processes that an engine supervises."""
BROKEN_EXIT_CODE = 70
"""Exit code of a worker that ends because its engine can't go on in this process."""


class WorkerProcess:
    """Drives one engine by the server's calls."""

    def __init__(self, calls: socket.socket, answers: socket.socket, host: HostTier) -> None:
        self._calls = CallReader(calls, lambda number, failure: self._answer(Answer(number, failure)))
        self._answers = answers
        self._redact = redaction.environment(os.environ)
        self._host = host
        self._sending = threading.Lock()
        self._broken = False
        self._progress = ("", 0.0)
        self._serving = 0
        """Number of the life-cycle call that is being carried out."""
        self._spec: ModelSpec | None = None
        self._engine: Engine | None = None
        self._bound = own_memory.Bound(enabled=False)

    def run(self) -> int:
        """Run until the server calls `exit`, or the engine can't go on; returns the exit code."""
        self._calls.start()
        while not self._broken:
            match self._next():
                case Start(spec, secrets):
                    self._spec = spec
                    os.environ.update(secrets)
                    self._redact = redaction.environment(os.environ)
                    self._bound = own_memory.Bound(enabled=own_memory.is_bounded(spec))
                case LifeCycleCall(number, "exit"):
                    self._answer(Answer(number, Footprint()))
                    return 0
                case LifeCycleCall(number, name):
                    self._serving = number
                    result = self._guard(functools.partial(self._life_cycle, name))
                    if name == "stand_by":
                        own_memory.trim()
                        swap_file.give_back()
                    self._answer(Answer(number, result))
                case CleanUpCall():
                    self._clean_up()
                case PageCall() as page:
                    if isinstance(self._engine, SteppingEngine):
                        self._infer_in_steps(self._engine, self._gather(page))
                        self._bound.lift()
                    else:
                        self._infer(self._gather(page))
        return BROKEN_EXIT_CODE

    def _next(self) -> Work | None:
        """Take the next call, and look at what the engine supervises until one comes; None once that has ended."""
        engine = self._engine
        while isinstance(engine, SupervisingEngine) and not self._broken:
            if (work := self._calls.next(_LOOK_SECONDS)) is not None:
                return work
            self._guard(engine.look)
        return None if self._broken else self._calls.next(None)

    def redact(self, text: str) -> str:
        """Return a text without the secrets that this process knows, and without those that have the shape of one."""
        return self._redact(text)

    def _engine_of_model(self) -> Engine:
        if self._engine is None:
            if self._spec is None:
                raise EngineError(Failure(kind=FailureKind.FAILED, message="called before Start"))
            self._engine = engines.create(self._spec, self._host, self._report)
        return self._engine

    def _life_cycle(self, name: str) -> Footprint:
        engine = self._engine_of_model()
        calls: dict[str, Callable[[], Footprint]] = {
            "load": engine.load,
            "offload": engine.offload,
            "stand_by": engine.stand_by,
            "restore": engine.restore,
            "unload": engine.unload,
        }
        return calls[name]()

    def _gather(self, first: PageCall) -> list[PageCall]:
        """Gather a batch: as many pages as the engine can use and the settings allow, within the settings' time."""
        batch = [first]
        size = min(first.call.max_pages, self._engine.max_batch if self._engine else 1)
        end = time.monotonic() + first.call.max_wait_seconds
        while len(batch) < size:
            work = self._calls.next(max(0.0, end - time.monotonic()))
            if isinstance(work, PageCall):
                batch.append(work)
            elif isinstance(work, CleanUpCall):
                self._clean_up()
            else:
                if work is not None:
                    self._calls.put_back(work)
                break
        return batch

    def _infer(self, batch: list[PageCall]) -> None:
        wanted = [page for page in batch if not self._left_out(page)]
        if not wanted:
            return
        self._answer(*(Answer(page.id, Begun()) for page in wanted))
        before = self._memory_use()
        self._bound.set()
        results = self._guard(lambda: self._engine_of_model().infer([page.request for page in wanted]))
        self._bound.lift()
        if self._broken:
            return
        if isinstance(results, Failure):
            self._free_after(results)
            results = [structs.replace(results, shared=len(wanted) > 1)] * len(wanted)
        after = self._memory_use()
        for page, result in zip(wanted, results, strict=True):
            self._answer(Answer(page.id, _with_memory(result, before, after)))

    def _infer_in_steps(self, engine: SteppingEngine, waiting: list[PageCall]) -> None:
        """Read pages until none is left in the engine. Other calls wait for that: they concern the whole model."""
        inside: dict[int, PageCall] = {}
        before: dict[int, MemoryUse] = {}
        limit = waiting[-1].call.max_pages
        while waiting or inside:
            while waiting and engine.free_slots:
                page = waiting.pop(0)
                if not self._left_out(page):
                    before[page.id] = self._memory_use()
                    if self._admit(engine, page):
                        inside[page.id] = page
            self._leave_cancelled(engine, inside)
            self._clean_up()
            events = self._guard(engine.step) if inside and not self._broken else []
            if self._broken:
                return
            if isinstance(events, Failure):
                self._free_after(events)
                failure = structs.replace(events, shared=len(inside) > 1)
                events = [(number, failure) for number in inside]
            self._send_events(events, inside, before)
            if self._has_ended(engine, events):
                return
            limit = self._take_more(waiting, len(inside), limit)

    def _take_more(self, waiting: list[PageCall], inside: int, limit: int) -> int:
        """Take pages that have come, up to the limit, which is the newest page's and is returned."""
        while inside + len(waiting) < limit and not self._calls.has_returned:
            match self._calls.next(0.0):
                case None:
                    break
                case PageCall() as page:
                    waiting.append(page)
                    limit = page.call.max_pages
                case CleanUpCall():
                    self._clean_up()
                case other:
                    self._calls.put_back(other)
        return limit

    def _has_ended(self, engine: SteppingEngine, events: Sequence[Event]) -> bool:
        """After a failure, return whether what the engine supervises has ended: no other page may begin in it."""
        if isinstance(engine, SupervisingEngine) and any(isinstance(event, Failure) for _, event in events):
            self._guard(engine.look)
        return self._broken

    def _admit(self, engine: SteppingEngine, page: PageCall) -> bool:
        """Let a page into the engine; return whether it is inside. One that isn't has its answer."""
        self._answer(Answer(page.id, Begun()))
        self._bound.set()
        failure = self._guard(functools.partial(engine.admit, page.id, page.request))
        if failure is not None and not self._broken:
            self._answer(Answer(page.id, failure))
        return failure is None

    def _leave_cancelled(self, engine: SteppingEngine, inside: dict[int, PageCall]) -> None:
        """Have the engine leave pages that nothing waits for; those that it can leave are out of `inside` then."""
        for number in [number for number in inside if self._calls.is_cancelled(number)]:
            if engine.cancel(number):
                self._left_out(inside.pop(number))

    def _send_events(
        self, events: Sequence[Event], inside: dict[int, PageCall], before: dict[int, MemoryUse]
    ) -> None:
        """Send the events of a step; pages that are done leave `inside`. `before`: memory when they began."""
        answers = []
        for number, event in events:
            if isinstance(event, Delta):
                if inside[number].call.stream:
                    answers.append(Answer(number, event))
            else:
                del inside[number]
                answers.append(Answer(number, _with_memory(event, before.pop(number), self._memory_use())))
        self._answer(*answers)

    def _clean_up(self) -> None:
        """Carry out the clean-ups that have come."""
        while self._calls.clean_ups and not self._broken:
            before = self._memory_use()
            failure = self._guard(self._free_unneeded)
            after = self._memory_use()
            self._answer(
                Answer(self._calls.clean_ups.popleft().id, failure or CleanedUp(before=before, after=after))
            )

    def _free_unneeded(self) -> None:
        """Free caches of the engine, of Python and of the C library. Makes no engine where none is made yet."""
        if self._engine is not None:
            self._engine.clean_up()
        else:
            gc.collect()
        own_memory.trim()

    def _free_after(self, failure: Failure) -> None:
        """Free what isn't needed after memory ran out: the next try needs it."""
        if failure.kind is FailureKind.OUT_OF_MEMORY:
            self._guard(self._free_unneeded)

    def _memory_use(self) -> MemoryUse:
        device = None if self._engine is None else self._engine.device_use()
        return MemoryUse(rss_bytes=own_memory.rss_bytes(), device=device)

    def _left_out(self, page: PageCall) -> bool:
        """Answer a page that was cancelled; return whether it was."""
        if not self._calls.is_cancelled(page.id):
            return False
        self._answer(Answer(page.id, Failure(kind=FailureKind.FAILED, message="cancelled")))
        return True

    def _report(self, progress: Progress) -> None:
        """Report a load's progress: the begin of each phase and file, then a few times a second. Thread-safe."""
        what, last = self._progress
        now = time.monotonic()
        if what != progress.phase + progress.file or now - last >= _PROGRESS_SECONDS:
            self._progress = (progress.phase + progress.file, now)
            self._answer(Answer(self._serving, progress))

    def _answer(self, *answers: Answer) -> None:
        for answer in answers:
            if not isinstance(answer.result, Begun | Delta | Progress):
                self._calls.forget(answer.id)
        clean = (failures.without_secrets(answer, self.redact) for answer in answers)
        with self._sending:
            self._answers.sendall(b"".join(_packed(answer) for answer in clean))

    def _guard(self, call: Callable[[], _T]) -> _T | Failure:
        """Return what `call` returns, or as a `Failure` what it raises: only `Broken` and the system end a worker."""
        try:
            return call()
        except Broken as error:
            self._broken = True
            log.error("%s", error)  # noqa: TRY400 the engine has logged the traceback
            return error.failure
        except EngineError as error:
            return error.failure
        except Exception as error:  # noqa: BLE001 engines raise what their libraries do
            failure = failures.explained(error)
            if failure.kind is FailureKind.OUT_OF_MEMORY:
                own_memory.release(error)
            return failure


def _packed(answer: Answer) -> bytes:
    """Return the answer as bytes; one that is too long is a failure of its page."""
    try:
        return frames.pack(answer)
    except frames.BrokenFrame as error:
        message = f"the answer is too long ({error}); ask for less, by max_tokens or a part of the page"
        return frames.pack(Answer(answer.id, Failure(kind=FailureKind.FAILED, message=message)))


def _with_memory(result: _T, before: MemoryUse, after: MemoryUse) -> _T:
    """Return a page's result with the memory before and after it; any other as it is."""
    if isinstance(result, PageResult):
        return structs.replace(result, memory=(before, after))
    return result


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, however it ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before this call
        os._exit(0)


def serve(calls: int, answers: int, host: int) -> int:
    """Serve the server's calls with these descriptors, those of `processes.Inherited`. Returns the exit code."""
    # A terminal's Ctrl-C and a signal to the group come here, too; only the server ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    connections = socket.socket(fileno=calls), socket.socket(fileno=answers)
    worker = WorkerProcess(*connections, HostTier(host))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(failures.Lines(worker.redact))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("ocr_inference").setLevel(logging.INFO)
    try:
        return worker.run()
    except Exception:
        log.critical("the worker ends by a fault of its own", exc_info=True)
        return 1


def main(arguments: list[str]) -> None:
    *inherited, parent = (int(argument) for argument in arguments)
    die_with(parent)
    sys.exit(serve(*inherited))


if __name__ == "__main__":
    main(sys.argv[1:])
