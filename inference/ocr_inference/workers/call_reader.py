"""The receiving end of a worker's calls: a thread beside the main one, which may be inside an engine for minutes.

So a page that was cancelled is left out, and the process ends at once when the server has ended.
"""

import logging
import os
import queue
import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import msgspec

from ocr_inference.protocol import packets
from ocr_inference.protocol.engine import (
    Call,
    CancelCall,
    CleanUpCall,
    Failure,
    FailureKind,
    InferCall,
    InferRequest,
    LifeCycleCall,
    Start,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PageCall:
    """Page to read, by its call's number."""

    id: int
    call: InferCall
    request: InferRequest


Work = Start | LifeCycleCall | CleanUpCall | PageCall


class CallReader:
    """Calls in the order in which they come. All but `start` and what it starts is called by the main thread."""

    def __init__(self, connection: socket.socket, refuse: Callable[[int, Failure], None]) -> None:
        """Prepare; `refuse` answers a page that can't be read, from the reading thread."""
        self.clean_ups: deque[CleanUpCall] = deque()
        """Calls that don't wait for those before them; each is work, too, to wake the main thread."""
        self._connection = connection
        self._refuse = refuse
        self._work: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self._returned: list[Work] = []
        self._files: dict[int, BinaryIO] = {}
        """Files of the pages without an answer yet; both threads change these two, an element at a time."""
        self._cancelled: set[int] = set()

    def start(self) -> None:
        """Start to receive. The process ends with the connection: its work isn't needed then."""
        threading.Thread(target=self._receive, name="reader", daemon=True).start()

    def next(self, timeout: float | None) -> Work | None:
        """Return the next work, None where there is none for `timeout` seconds; without a timeout wait for it."""
        if self._returned:
            return self._returned.pop()
        try:
            return self._work.get(timeout=timeout) if timeout != 0 else self._work.get_nowait()
        except queue.Empty:
            return None

    def put_back(self, work: Work) -> None:
        """Have `next` return it again."""
        self._returned.append(work)

    @property
    def has_returned(self) -> bool:
        """Whether there is work that was put back: it comes before all other."""
        return bool(self._returned)

    def is_cancelled(self, number: int) -> bool:
        return number in self._cancelled

    def forget(self, number: int) -> None:
        """Forget a page that is about to be answered, and close its file."""
        if (file := self._files.pop(number, None)) is not None:
            file.close()
        self._cancelled.discard(number)

    def _receive(self) -> None:
        decoder = msgspec.msgpack.Decoder(Call)
        try:
            while (received := packets.receive(self._connection, decoder)) is not None:
                self._take(*received)
        except (OSError, MemoryError, packets.Broken) as error:
            log.error("connection to the server broke: %s", error)  # noqa: TRY400 the message says it all
        os._exit(0)

    def _take(self, call: Call, descriptors: tuple[int, ...]) -> None:
        match call:
            case CancelCall(number):
                if number in self._files:
                    self._cancelled.add(number)
            case InferCall(number) if descriptors:
                file = self._files[number] = os.fdopen(descriptors[0], "rb")
                request = InferRequest(image=file, **msgspec.structs.asdict(call.options))
                self._work.put(PageCall(number, call, request))
            case InferCall(number):
                message = "the worker can't open the page: it has too many files open; send it again later"
                self._refuse(number, Failure(kind=FailureKind.OUT_OF_DESCRIPTORS, message=message))
            case CleanUpCall():
                self.clean_ups.append(call)
                self._work.put(call)
            case Start() | LifeCycleCall():
                self._work.put(call)
