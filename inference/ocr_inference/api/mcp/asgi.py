"""An ASGI application as a handler of aiohttp: one request, whose body is here already, and its answer as it comes.

A client that leaves ends the handler, and so the application: aiohttp cancels it. Where that shows only by an answer
that can't be sent, the application gets the message that says so, and its further answers go nowhere.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from aiohttp import web

Message = dict[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

_HOP_BY_HOP: Final = frozenset({b"connection", b"keep-alive", b"transfer-encoding"})
"""Headers about the connection, which is aiohttp's."""
_OF_BODIES: Final = _HOP_BY_HOP | {b"content-length", b"expect"}
"""Headers about a body as it came."""


async def respond(
    request: web.Request, application: Application, body: bytes, extras: Mapping[str, object]
) -> web.StreamResponse:
    """Return the application's answer to the request; `extras` are added to its scope."""
    exchange = _Exchange(request, body)
    await application(_scope(request, len(body)) | dict(extras), exchange.receive, exchange.send)
    if exchange.response is None:
        raise RuntimeError("the application ended without an answer")
    return exchange.response


def _scope(request: web.Request, size: int) -> Message:
    """Return what ASGI says of a request; its length is that of the body that the application gets."""
    length = (b"content-length", str(size).encode())
    path = request.rel_url.raw_path.encode("ascii")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": f"{request.version.major}.{request.version.minor}",
        "method": request.method,
        "scheme": request.scheme,
        "path": request.path,
        "raw_path": path,
        "root_path": "",
        "query_string": request.rel_url.raw_query_string.encode("ascii"),
        "headers": [
            *((name.lower(), value) for name, value in request.raw_headers if name.lower() not in _OF_BODIES),
            length,
        ],
    }


class _Exchange:
    def __init__(self, request: web.Request, body: bytes) -> None:
        self.response: web.StreamResponse | None = None
        """None until its head is sent."""
        self._request = request
        self._body: bytes | None = body
        self._gone = asyncio.Event()

    async def receive(self) -> Message:
        if self._body is None:
            await self._gone.wait()
            return {"type": "http.disconnect"}
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        try:
            await self._send(message)
        except ConnectionError:
            self._gone.set()
            await asyncio.sleep(0)  # an application that only sends would hold up all others

    async def _send(self, message: Message) -> None:
        match message["type"]:
            case "http.response.start":
                self.response = web.StreamResponse(status=message["status"])
                for name, value in message.get("headers", ()):
                    if name.lower() not in _HOP_BY_HOP:
                        self.response.headers.add(name.decode("latin-1"), value.decode("latin-1"))
                await self.response.prepare(self._request)
            case "http.response.body":
                assert self.response is not None
                if piece := message.get("body", b""):
                    await self.response.write(piece)
                if not message.get("more_body", False):
                    await self.response.write_eof()
