"""The worker process: one engine, one connection to the server, calls in the order in which they come.

The main thread runs the engine and nothing else, since some runtimes insist on one thread. A second thread reads
the connection, so that a page that nobody waits for any more is left out, and the process ends at once when the
server is gone. Standard error is the log; standard output carries nothing.
"""

import ctypes
import functools
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import TypeVar

import msgspec

from ocr_inference import engines, frames
from ocr_inference.engine import (
    Answer,
    Call,
    CancelCall,
    Engine,
    EngineError,
    Failure,
    FailureKind,
    Footprint,
    InferCall,
    LifeCycleCall,
    ModelSpec,
    Start,
)
from ocr_inference.hosttier import HostTier

_T = TypeVar("_T")
_PR_SET_PDEATHSIG = 1
_MAX_MESSAGE = 2000
"""Characters of an exception's text that go into an answer; libraries put whole tracebacks there."""


class Host:
    def __init__(self, connection: socket.socket, host: HostTier) -> None:
        self._connection = connection
        self._host = host
        self._calls: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self._returned: list[Call] = []
        self._cancelled: set[int] = set()
        self._spec: ModelSpec | None = None
        self._engine: Engine | None = None

    def run(self) -> None:
        """Until the server asks for the exit."""
        threading.Thread(target=self._read, name="reader", daemon=True).start()
        while True:
            match self._next(None):
                case Start(spec):
                    self._spec = spec
                case LifeCycleCall(number, "exit"):
                    self._answer(Answer(number, Footprint()))
                    return
                case LifeCycleCall(number, name):
                    self._answer(Answer(number, _guard(functools.partial(self._life_cycle, name))))
                case InferCall() as call:
                    self._infer(self._gather(call))

    def _read(self) -> None:
        """The reader thread. Ends the process with the connection: nothing that it could do is wanted then."""
        decoder = msgspec.msgpack.Decoder(Call)
        try:
            while (call := frames.read(self._connection, decoder)) is not None:
                if isinstance(call, CancelCall):
                    self._cancelled.add(call.id)
                else:
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
            self._engine = engines.create(self._spec, self._host)
        return self._engine

    def _life_cycle(self, name: str) -> Footprint:
        engine = self._engine_of_model()
        calls: dict[str, Callable[[], Footprint]] = {
            "load": engine.load,
            "offload": engine.offload,
            "restore": engine.restore,
            "unload": engine.unload,
        }
        return calls[name]()

    def _gather(self, first: InferCall) -> list[InferCall]:
        """A batch: as many pages as the engine can use and the settings allow, waiting no longer than they say."""
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
        wanted = []
        for call in batch:
            if call.id in self._cancelled:
                self._cancelled.discard(call.id)
                self._answer(Answer(call.id, Failure(kind=FailureKind.FAILED, message="cancelled")))
            else:
                wanted.append(call)
        if not wanted:
            return
        results = _guard(lambda: self._engine_of_model().infer([call.request for call in wanted]))
        if isinstance(results, Failure):
            results = [results] * len(wanted)
        for call, result in zip(wanted, results, strict=True):
            self._answer(Answer(call.id, result))

    def _answer(self, answer: Answer) -> None:
        self._connection.sendall(frames.pack(answer))


def _guard(call: Callable[[], _T]) -> _T | Failure:
    """Whatever an engine raises is an answer: only the system ends a worker."""
    try:
        return call()
    except EngineError as error:
        return error.failure
    except MemoryError as error:
        return Failure(kind=FailureKind.OUT_OF_MEMORY, message=f"out of memory: {error}"[:_MAX_MESSAGE])
    except Exception as error:  # noqa: BLE001 engines raise what their libraries do
        traceback.print_exc()
        return Failure(kind=FailureKind.FAILED, message=f"{type(error).__name__}: {error}"[:_MAX_MESSAGE])


def die_with(parent: int) -> None:
    """Have the kernel kill this process when the server ends, however it ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we could say so
        os._exit(0)


def main(arguments: list[str]) -> None:
    connection, host, parent = (int(argument) for argument in arguments)
    die_with(parent)
    # A terminal's Ctrl-C and a signal to the group reach us, too; the server decides what becomes of us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Host(socket.socket(fileno=connection), HostTier(host)).run()


if __name__ == "__main__":
    main(sys.argv[1:])
