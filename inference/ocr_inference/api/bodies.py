"""Bodies from outside, read within bounds of memory and time; the only place that reads from a request.

Memory: the body of a page is read once its bytes are admitted (`upload_budget`), and they stay so until it is
answered. A body that waits isn't read, so its client's system stops sending after what the connection buffers. A body
takes what its head says (`Content-Length`); one that doesn't say so takes as much as the largest until it is complete.
Bodies of other calls are small, and no budget makes them wait.

Time: a body ends within `Times.total` and never pauses for longer than `Times.stall`; while others wait for their
turn, it makes way if it hardly comes. What its parsing takes of the loop is taken in `turns`.
"""

import asyncio
import threading
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, cast

from aiohttp import HttpVersion11, MultipartReader, StreamReader, web

from ocr_inference import errors
from ocr_inference.api import upload_budget
from ocr_inference.api.upload_budget import Budget, Claim, TooManyWait
from ocr_inference.connections.turns import Turns, Work
from ocr_inference.errors import ApiError
from ocr_inference.metrics import Uploads
from ocr_inference.protocol.page_file import PageFile

MAX_WAITING: Final = 256
"""Bodies that wait at a time; one more is refused at once."""
RETRY_AFTER_SECONDS: Final = 5.0
MAX_LINES: Final = 2048
"""Lines of a form outside of its fields' contents: boundaries, heads, and what stands before the first boundary."""


@dataclass(frozen=True)
class Times:
    """Seconds that bodies are given."""

    total: float = 120.0
    stall: float = 20.0
    """Between two pieces."""
    wait: float = 30.0
    """Until a body is admitted."""
    look: float = 1.0
    """Between two looks of a body that waits at those that are read."""


_SENT_CONTINUE: Final = web.RequestKey("sent_continue", bool)


class Reserved:
    """Bytes that are admitted for one body, until its request is answered and its files are closed: a worker may go on
    reading a page whose client has left."""

    def __init__(self, size: int, give_back: Callable[[int], None]) -> None:
        self._size = size
        self._give_back = give_back
        self._holders = 1
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()

    @property
    def size(self) -> int:
        """Bytes that are admitted."""
        return self._size

    def file(self) -> PageFile:
        """Create a file for the body's page; raises 503."""
        try:
            page = PageFile.create(self._freed)
        except OSError as error:
            raise errors.of(
                errors.FAILURES["out_of_descriptors"], f"no file for the page: {error.strerror}"
            ) from error
        self._holders += 1
        return page

    def shrink(self, size: int) -> None:
        """Keep at most `size` bytes, and give the others back."""
        excess = self._size - size
        if excess > 0:
            self._size = size
            self._give_back(excess)

    def _freed(self) -> None:
        """Note that a file is closed, in whichever thread had its last handle."""
        if threading.get_ident() == self._thread:
            self.let_go()
        else:
            with suppress(RuntimeError):  # the loop is over, and the budget with it
                self._loop.call_soon_threadsafe(self.let_go)

    def let_go(self) -> None:
        """Note that the request is answered, or that one of its files is closed."""
        self._holders -= 1
        if not self._holders:
            self._give_back(self._size)


class Bodies:
    """Reads bodies; owner of the budget."""

    def __init__(self, limit: int, times: Times = Times(), *, most_waiting: int = MAX_WAITING) -> None:
        """Prepare; `limit` is at least what the largest body takes."""
        self.turns: Final = Turns()
        """Of all work that grows with what clients send."""
        self._budget = Budget(limit, most_waiting)
        self._times = times
        self._turns: dict[int, asyncio.Event] = {}
        """Of the claims that wait, by ticket."""
        self._reading: set[Body] = set()
        self._tickets = 0
        self._refused = 0
        """Bodies that were refused because the budget was taken."""

    def usage(self) -> Uploads:
        """Return what is taken now."""
        now = self._budget
        return Uploads(now.limit, now.admitted_bytes, len(now.waiting), self._refused)

    @asynccontextmanager
    async def admitted(self, size: int) -> AsyncIterator[Reserved]:
        """Wait until `size` bytes are admitted, and hold them for the block and for files made in it; raises 429."""
        size = min(size, self._budget.limit)
        await self._admit(size)
        reserved = Reserved(size, self._give_back)
        try:
            yield reserved
        finally:
            reserved.let_go()

    @asynccontextmanager
    async def reading(self, request: web.Request) -> AsyncIterator["Body"]:
        """Let the client send its body, and read it inside the block; raises 408."""
        await _let_send(request)
        body = None
        try:
            async with asyncio.timeout(None) as limit:
                body = Body(request, limit, self._times, self.turns.work())
                self._reading.add(body)
                yield body
        except TimeoutError:
            raise _late(self._times) from None
        finally:
            if body is not None:
                self._reading.discard(body)

    async def _admit(self, size: int) -> None:
        self._tickets += 1
        ticket, turn = self._tickets, asyncio.Event()
        self._turns[ticket] = turn
        try:
            self._become(upload_budget.claim(self._budget, Claim(ticket, size)))
            if turn.is_set():
                return
            async with asyncio.timeout(self._times.wait):
                while not turn.is_set():
                    await self._wait(turn)
        except BaseException as error:
            if turn.is_set():
                self._give_back(size)  # admitted in the moment in which it gave up
            else:
                self._become(upload_budget.withdraw(self._budget, ticket))
            if isinstance(error, TooManyWait | TimeoutError):
                self._refused += 1
                raise _busy(self._budget.limit) from None
            raise
        finally:
            del self._turns[ticket]

    async def _wait(self, turn: asyncio.Event) -> None:
        """Wait for a turn for a while, then have slow bodies make way."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._times.look):
                await turn.wait()
                return
        for body in self._reading:
            if upload_budget.is_slow(body.received, body.seconds):
                body.end()

    def _give_back(self, size: int) -> None:
        self._become(upload_budget.give_back(self._budget, size))

    def _become(self, decided: tuple[Budget, tuple[Claim, ...]]) -> None:
        self._budget, admitted = decided
        for each in admitted:
            self._turns[each.ticket].set()


def _late(times: Times) -> ApiError:
    slowest = upload_budget.SLOW_BYTES_PER_SECOND
    return ApiError(
        408,
        "upload_timeout",
        f"the body paused for {times.stall:g} s, took more than {times.total:g} s, or came slower than {slowest} "
        "bytes a second while others waited",
    )


def _busy(limit: int) -> ApiError:
    return ApiError(
        429,
        "uploads_busy",
        f"queue full: the pages that are read and wait take all of {limit} bytes; send this one again later",
        retry_after_seconds=RETRY_AFTER_SECONDS,
    )


class Body:
    """Body of one request, inside a `reading` block."""

    def __init__(self, request: web.Request, limit: asyncio.Timeout, times: Times, work: Work) -> None:
        self.received = 0
        """Bytes so far."""
        self._request = request
        self._work = work
        self._limit = limit
        self._stall_seconds = times.stall
        self._began = asyncio.get_running_loop().time()
        self._end = self._began + times.total
        self.progressed(0)

    @property
    def seconds(self) -> float:
        """Time since it was let in."""
        return asyncio.get_running_loop().time() - self._began

    async def piece(self) -> bytes:
        """Return what has arrived, or wait for more; nothing at the end. Raises 400 where the connection has ended."""
        await self._work.pause()
        try:
            piece = await self._request.content.readany()
        except RuntimeError:
            # What aiohttp raises where the connection has ended already, as the client's end came with its first bytes.
            raise ApiError(400, "broken_body", "the connection ended before the body") from None
        self.progressed(len(piece))
        return piece

    async def parts(self) -> MultipartReader:
        """Return a reader of the form's parts; say `progressed` after each piece that it brings."""
        content = _FormContent(self._request, self._work)
        # Not `Request.multipart`, which reads the content as it is; the limits of a part's head are the same.
        return MultipartReader(self._request.headers, cast("StreamReader", content))

    def progressed(self, size: int) -> None:
        """Note that a piece has arrived, and let the next one have its time."""
        self.received += size
        if self._end:
            self._limit.reschedule(min(self._end, asyncio.get_running_loop().time() + self._stall_seconds))

    def end(self) -> None:
        """End it as late."""
        if self._end and not self._limit.expired():
            self._end = 0.0
            self._limit.reschedule(0.0)


class _FormContent:
    """Content of a form, as aiohttp's reader of forms uses it, in turns and with few lines: the reader goes through
    lines without a pause as long as there are some, and through any number of them before the first boundary."""

    def __init__(self, request: web.Request, work: Work) -> None:
        self._content = request.content
        self._has_length = request.content_length is not None
        self._work = work
        self._lines = 0

    async def readline(self, *, max_line_length: int | None = None) -> bytes:
        """Return a line; raises `ValueError` after too many of them."""
        self._lines += 1
        if self._lines > MAX_LINES:
            raise ValueError(f"it has more than {MAX_LINES} lines besides its fields' contents")
        await self._work.pause()
        return await self._content.readline(max_line_length=max_line_length)

    async def read(self, size: int) -> bytes:
        await self._work.pause()
        if self._has_length:
            return await self._content.read(size)
        # `read` would collect that many bytes, however small the chunks are in which they come.
        data = await self._content.readany()
        if len(data) > size:
            self.unread_data(data[size:])
        return data[:size]

    def unread_data(self, data: bytes) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # aiohttp's own reader goes on using it
            self._content.unread_data(data)

    def at_eof(self) -> bool:
        return self._content.at_eof()


async def _let_send(request: web.Request) -> None:
    if waits(request):
        request[_SENT_CONTINUE] = True
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # an answer follows


def waits(request: web.Request) -> bool:
    """Return whether the client sends its body only when it is asked to, and wasn't yet."""
    return (
        request.version >= HttpVersion11
        and request.headers.get("Expect", "").lower() == "100-continue"
        and not request.get(_SENT_CONTINUE, False)
    )


async def expect(_: web.Request) -> None:
    """Leave `Expect: 100-continue` to `Bodies.reading`, which says it when the body is wanted, not before."""
