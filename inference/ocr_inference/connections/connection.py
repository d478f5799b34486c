"""One connection: aiohttp's protocol, which also tells what it does and can be ended."""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from typing import Final, Protocol, cast

import msgspec
from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpVersion11
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from ocr_inference.connections.phases import MIN_PROGRESS_BYTES, Ending, Kind, Phase, Seen
from ocr_inference.connections.turns import Turns
from ocr_inference.errors import ApiError

Render = Callable[[ApiError | None, web.BaseRequest], web.Response]
"""Makes the answer of an error; None is a fault of ours, which is in the log."""

BUFFER_BYTES: Final = 1 << 12
"""Bytes of a body after which a connection that isn't read from stops receiving; those of one receive come on top.
Besides, aiohttp parses one chunk at a time for each 16 of them: 256, which take a millisecond."""
LINGER_SECONDS: Final = 10.0
"""Time for which a body is read on and dropped after its answer: a client that still sends would lose the answer if the
connection were reset."""
_OVER: Final = (TimeoutError, RuntimeError, ConnectionError, HttpProcessingError, web.RequestPayloadError)
"""What ends the reading of a body: its time is over, the connection is, or what comes is no body."""
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Owner(Protocol):
    """Owner of all connections, as one of them sees it."""

    turns: Turns

    def now(self) -> float: ...

    def admits(self, kind: Kind) -> bool:
        """Return whether one more request of this kind is served."""
        ...

    def made(self, connection: "Connection") -> None: ...

    def moved(self, connection: "Connection", before: Phase) -> None: ...

    def watch(self, number: int, gone: Callable[[], None]) -> None:
        """Call `gone` when the socket with this number is reset."""

    def ended(self, ending: Ending) -> None: ...

    def left(self, connection: "Connection", number: int) -> None: ...

    def malformed(self, remote: str | None, reason: str) -> None: ...


class Connection(web.RequestHandler):
    """Connection of one client. Middleware calls `begin` for each request; the owner calls `progress` and `end`.

    aiohttp's own time limit of idle connections stays as it is, an hour: the owner's is shorter.
    """

    __slots__ = (
        *("_body", "_finished", "_interim", "_number", "_owner", "_render", "_taken", "_wire", "_writer"),
        "seen",
    )

    def __init__(self, server: web.Server, owner: Owner, render: Render) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # None is documented for the runner, which passes it on
            # A compressed body would be larger inside than its limit outside; pictures are compressed already.
            auto_decompress=False,
            read_bufsize=BUFFER_BYTES,
            lingering_time=0,  # `_drop_rest` does it, in turns
        )
        self._owner = owner
        self._render = render
        self.seen = Seen(Phase.SILENT, owner.now())
        self._number = -1
        self._wire: asyncio.Transport | None = None
        self._body: StreamReader | None = None
        """Of the newest request, while it isn't read to its end."""
        self._writer: AbstractStreamWriter | None = None
        """Of the request that is answered."""
        self._interim = False
        """Whether that request's client understands answers before the answer."""
        self._finished = 0
        """Bytes of the answers before that one."""
        self._taken = 0
        """Bytes of all answers that the system had taken at the last progress."""

    # --- what arrives ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast("asyncio.Transport", transport)
        self._number = transport.get_extra_info("socket").fileno()
        super().connection_made(transport)
        self._owner.made(self)

    def data_received(self, data: bytes) -> None:
        if data and self.seen.phase in (Phase.SILENT, Phase.IDLE) and self._body_is_read():
            self._enter(Phase.HEAD)
        super().data_received(data)
        if self.seen.phase is Phase.HEAD and self._messages:  # Requests that are parsed and have not begun.
            self._enter(Phase.READY)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio's signature; aiohttp never stays open
        """Stay open where an answer is due: the client may have closed its sending side only."""
        due = self.seen.phase is Phase.READY or (self.seen.phase is Phase.SERVING and self._body_is_read())
        if due:
            self.seen = replace(self.seen, half_closed_since=self._owner.now())
            self._ask()
        return due

    def connection_lost(self, exc: BaseException | None) -> None:
        if isinstance(exc, TimeoutError):  # ETIMEDOUT: the other machine doesn't answer the system any more.
            self._owner.ended(Ending.GONE)
        self._owner.left(self, self._number)
        super().connection_lost(exc)

    # --- what is answered --------------------------------------------------------------------------------

    def begin(self, request: web.BaseRequest, kind: Kind) -> bool:
        """Note that a request is served from now on; returns False, and notes nothing, where it has no place."""
        if not self._owner.admits(kind):
            return False
        self._body, self._writer = request.content, request.writer
        self._interim = request.version >= HttpVersion11
        self._enter(Phase.SERVING)
        if self.seen.half_closed_since is not None:
            if self._body_is_read():
                self._ask()
            else:
                self._owner.ended(Ending.GONE)
                self.end(Ending.GONE)
        return True

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        self._writer = request.writer
        try:
            answered = await super().finish_response(request, resp, start_time)
        finally:
            self._finished += request.writer.output_size
            self._writer = None
            if self._body_is_read():
                self._body = None
            if self._messages:
                self._enter(Phase.READY)
            elif self.seen.half_closed_since is not None:
                self._enter(Phase.CLOSING)
                self.force_close()  # When the answer is sent: nothing follows.
            elif self.seen.phase is not Phase.CLOSING:
                self._enter(Phase.IDLE)
        await self._drop_rest(request.content)
        return answered

    async def _drop_rest(self, content: StreamReader) -> None:
        """Read the rest of a body whose request was answered before its end, for a while."""
        if content.is_eof() or self._wire is None or self._wire.is_closing():
            return
        work = self._owner.turns.work()
        with suppress(*_OVER):
            async with asyncio.timeout(LINGER_SECONDS):
                while not content.is_eof():
                    await content.readany()
                    await work.pause()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a fault that no handler saw, and close. Raises `ConnectionError` where an answer has begun."""
        if status >= 500:
            super().handle_error(request, status, exc, message)  # logs it
            response = self._render(None, request)
        else:
            error = _malformed(exc, self.max_line_size)
            self._owner.malformed(request.remote, error.message)
            response = self._render(error, request)
        response.force_close()
        return response

    def _ask(self) -> None:
        """Send a half-closed client something: one that has left answers it with a reset.

        HTTP/1.1 lets a server send `100 Continue` before any answer, and its clients skip it (RFC 9110, 15.2). HTTP/1.0
        has nothing like it.
        """
        if self._wire is None or self._writer is None or self._wire.is_closing():
            return
        self._owner.watch(self._number, self._reset)
        if self._writer.output_size == 0 and self._interim:
            self._wire.write(_CONTINUE)
            self.seen = replace(self.seen, asked=True)

    def _reset(self) -> None:
        if self.seen.phase is not Phase.CLOSING:
            self._owner.ended(Ending.GONE)
            self.end(Ending.GONE)

    def _body_is_read(self) -> bool:
        return self._body is None or self._body.is_eof()

    def _enter(self, phase: Phase) -> None:
        before, self.seen = self.seen.phase, replace(self.seen, phase=phase, since=self._owner.now())
        self._owner.moved(self, before)

    # --- for the owner -----------------------------------------------------------------------------------

    def progress(self) -> None:
        """Look whether the answer gets on."""
        wire, now = self._wire, self._owner.now()
        if wire is None:
            return
        if wire.is_closing() and self.seen.phase is not Phase.CLOSING:
            self._enter(Phase.CLOSING)
        written = self._writer.output_size if self._writer is not None else 0
        if written and self.seen.half_closed_since is not None and not self.seen.asked:
            self.seen = replace(self.seen, asked=True)  # By the answer itself.
        if not (unsent := wire.get_write_buffer_size()):
            if self.seen.stuck_since is not None:
                self.seen = replace(self.seen, stuck_since=None)
            return
        taken = self._finished + written - unsent
        if self.seen.stuck_since is None or taken - self._taken >= MIN_PROGRESS_BYTES:
            self._taken = taken
            self.seen = replace(self.seen, stuck_since=now)

    def end(self, ending: Ending) -> None:
        """Close it. What is answered already is still sent, unless the client doesn't take it or isn't there."""
        wire = self._wire
        if self.seen.phase is not Phase.CLOSING:
            self._enter(Phase.CLOSING)
        if wire is None:
            return
        if ending is Ending.HEAD:
            wire.write(_canned(408, "head_timeout", "the head of the request took too long"))
        self.force_close()
        if ending in (Ending.STALLED, Ending.DISPLACED, Ending.GONE):
            wire.abort()


def _malformed(error: BaseException | None, longest: int) -> ApiError:
    # What the parser says isn't repeated: it may quote a header, and so a token.
    if isinstance(error, LineTooLong):
        reason = f"the request line or a header is longer than {longest} bytes"
    else:
        reason = "what was sent can't be read as an HTTP/1.1 request"
    return ApiError(400, "malformed_request", reason)


def _canned(status: int, code: str, message: str) -> bytes:
    """Make an answer for a client whose request never arrived, so that nothing of aiohttp's answers it."""
    body = msgspec.json.encode(ApiError(status, code, message).body())
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\nX-Content-Type-Options: nosniff\r\n"
        f"X-Request-ID: {secrets.token_hex(8)}\r\n\r\n"
    )
    return head.encode() + body
