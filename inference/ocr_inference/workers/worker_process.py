"""The worker process: one engine, one connection to the server, calls in the order in which they come.

The main thread runs the engine and nothing else, since some runtimes insist on one thread. A second thread reads
the connection, so that a page that was cancelled is left out, and the process ends at once when the server has ended.
Standard error is the log; standard output isn't used.

Pages go to an engine in batches, or, where it reads in steps (`SteppingEngine`), as it has free slots: then pages come
and go while other pages are being read.
"""

import ctypes
import errno
import functools
import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from ocr_inference import engines
from ocr_inference.checkpoints.sources import faults
from ocr_inference.checkpoints.weights.header import BadWeights
from ocr_inference.protocol import frames
from ocr_inference.protocol.engine import (
    Answer,
    Begun,
    Broken,
    Call,
    CancelCall,
    Delta,
    Engine,
    EngineError,
    Event,
    Failure,
    FailureKind,
    Footprint,
    InferCall,
    LifeCycleCall,
    ModelSpec,
    Progress,
    Start,
    SteppingEngine,
)
from ocr_inference.protocol.host_tier import HostTier

_T = TypeVar("_T")
_PR_SET_PDEATHSIG = 1
_MAX_MESSAGE = 2000
"""Most characters of an exception's text in an answer; libraries put whole tracebacks there."""
_PROGRESS_SECONDS = 0.25
"""Least time between two reports of the same phase."""
BROKEN_EXIT_CODE = 70
"""Exit code of a worker that ends because its engine can't go on in this process."""


class WorkerProcess:
    """Drives one engine by the server's calls."""

    def __init__(self, connection: socket.socket, host: HostTier) -> None:
        self._connection = connection
        self._host = host
        self._calls: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self._returned: list[Call] = []
        self._sending = threading.Lock()
        self._unanswered: set[int] = set()
        """Pages without an answer yet; both threads change these two sets, an element at a time."""
        self._cancelled: set[int] = set()
        self._broken = False
        self._progress = ("", 0.0)
        self._serving = 0
        """Number of the life-cycle call that is being carried out."""
        self._spec: ModelSpec | None = None
        self._engine: Engine | None = None

    def run(self) -> int:
        """Run until the server calls `exit`, or the engine can't go on; returns the exit code."""
        threading.Thread(target=self._read, name="reader", daemon=True).start()
        while not self._broken:
            match self._next(None):
                case Start(spec):
                    self._spec = spec
                case LifeCycleCall(number, "exit"):
                    self._answer(Answer(number, Footprint()))
                    return 0
                case LifeCycleCall(number, name):
                    self._serving = number
                    self._answer(Answer(number, self._guard(functools.partial(self._life_cycle, name))))
                case InferCall() as call:
                    if isinstance(self._engine, SteppingEngine):
                        self._infer_in_steps(self._engine, self._gather(call))
                    else:
                        self._infer(self._gather(call))
        return BROKEN_EXIT_CODE

    def _read(self) -> None:
        """Read calls, in a thread of its own. Ends the process with the connection: its work isn't needed then."""
        decoder = msgspec.msgpack.Decoder(Call)
        try:
            while (call := frames.read(self._connection, decoder)) is not None:
                if isinstance(call, CancelCall):
                    if call.id in self._unanswered:
                        self._cancelled.add(call.id)
                    continue
                if isinstance(call, InferCall):
                    self._unanswered.add(call.id)
                self._calls.put(call)
        except (OSError, frames.BrokenFrame) as error:
            sys.stderr.write(f"connection to the server broke: {error}\n")
        os._exit(0)

    def _next(self, timeout: float | None) -> Call | None:
        if self._returned:
            return self._returned.pop()
        try:
            return self._calls.get(timeout=timeout) if timeout != 0 else self._calls.get_nowait()
        except queue.Empty:
            return None

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

    def _gather(self, first: InferCall) -> list[InferCall]:
        """Gather a batch: as many pages as the engine can use and the settings allow, within the settings' time."""
        batch = [first]
        size = min(first.max_pages, self._engine.max_batch if self._engine else 1)
        end = time.monotonic() + first.max_wait_seconds
        while len(batch) < size:
            call = self._next(max(0.0, end - time.monotonic()))
            if isinstance(call, InferCall):
                batch.append(call)
            else:
                if call is not None:
                    self._returned.append(call)
                break
        return batch

    def _infer(self, batch: list[InferCall]) -> None:
        wanted = [call for call in batch if not self._left_out(call)]
        if not wanted:
            return
        self._answer(*(Answer(call.id, Begun()) for call in wanted))
        results = self._guard(lambda: self._engine_of_model().infer([call.request for call in wanted]))
        if self._broken:
            return
        if isinstance(results, Failure):
            results = [results] * len(wanted)
        for call, result in zip(wanted, results, strict=True):
            self._answer(Answer(call.id, result))

    def _infer_in_steps(self, engine: SteppingEngine, waiting: list[InferCall]) -> None:
        """Read pages until none is left in the engine. Other calls wait for that: they concern the whole model."""
        inside: dict[int, InferCall] = {}
        limit = waiting[-1].max_pages
        while waiting or inside:
            while waiting and engine.free_slots:
                call = waiting.pop(0)
                if not self._left_out(call):
                    self._answer(Answer(call.id, Begun()))
                    engine.admit(call.id, call.request)
                    inside[call.id] = call
            for number in [number for number in inside if number in self._cancelled]:
                engine.cancel(number)
                self._left_out(inside.pop(number))
            events = self._guard(engine.step) if inside else []
            if self._broken:
                return
            if isinstance(events, Failure):
                events = [(number, events) for number in inside]
            self._send_events(events, inside)
            while len(inside) + len(waiting) < limit and not self._returned:
                match self._next(0.0):
                    case None:
                        break
                    case InferCall() as call:
                        waiting.append(call)
                        limit = call.max_pages
                    case other:
                        self._returned.append(other)

    def _send_events(self, events: Sequence[Event], inside: dict[int, InferCall]) -> None:
        """Send the events of a step; pages that are done leave `inside`."""
        answers = []
        for number, event in events:
            if isinstance(event, Delta):
                if inside[number].stream:
                    answers.append(Answer(number, event))
            else:
                del inside[number]
                answers.append(Answer(number, event))
        self._answer(*answers)

    def _left_out(self, call: InferCall) -> bool:
        """Answer a page that was cancelled; return whether it was."""
        if call.id not in self._cancelled:
            return False
        self._answer(Answer(call.id, Failure(kind=FailureKind.FAILED, message="cancelled")))
        return True

    def _report(self, progress: Progress) -> None:
        """Report a load's progress: the begin of each phase and file, then a few times a second. Thread-safe."""
        what, last = self._progress
        now = time.monotonic()
        if what != progress.phase + progress.file or now - last >= _PROGRESS_SECONDS:
            self._progress = (progress.phase + progress.file, now)
            self._answer(Answer(self._serving, progress))

    def _answer(self, *answers: Answer) -> None:
        with self._sending:
            self._connection.sendall(b"".join(frames.pack(answer) for answer in answers))
        for answer in answers:
            if not isinstance(answer.result, Begun | Delta | Progress):
                self._unanswered.discard(answer.id)
                self._cancelled.discard(answer.id)

    def _guard(self, call: Callable[[], _T]) -> _T | Failure:
        """Return what `call` returns, or as a `Failure` what it raises: only `Broken` and the system end a worker."""
        try:
            return call()
        except Broken as error:
            self._broken = True
            sys.stderr.write(f"{error}\n")
            return error.failure
        except EngineError as error:
            return error.failure
        except Exception as error:  # noqa: BLE001 engines raise what their libraries do
            return _explained(error)


def _explained(error: Exception) -> Failure:
    """Make a failure of an exception: memory, disk and checkpoint by name, all others with a traceback in the log."""
    kind, message = FailureKind.FAILED, f"{type(error).__name__}: {error}"
    match error:
        case MemoryError() | OSError(errno=errno.ENOMEM):
            kind, message = FailureKind.OUT_OF_MEMORY, f"out of memory: {error}"
        case OSError() if faults.is_disk_full(error):
            kind = FailureKind.DISK_FULL
        case BadWeights():
            kind, message = FailureKind.INVALID_CHECKPOINT, str(error)
        case _:
            traceback.print_exception(error)
    return Failure(kind=kind, message=message[:_MAX_MESSAGE])


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, however it ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before this call
        os._exit(0)


def serve(connection: int, host: int) -> int:
    """Serve the server's calls on `connection`, with the host tier `host`. Returns the exit code."""
    # A terminal's Ctrl-C and a signal to the group come here, too; only the server ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("ocr_inference").setLevel(logging.INFO)
    return WorkerProcess(socket.socket(fileno=connection), HostTier(host)).run()


def main(arguments: list[str]) -> None:
    connection, host, parent = (int(argument) for argument in arguments)
    die_with(parent)
    sys.exit(serve(connection, host))


if __name__ == "__main__":
    main(sys.argv[1:])
