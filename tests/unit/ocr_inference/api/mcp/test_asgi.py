"""ASGI applications behind a real server of aiohttp."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import ClientConnectionResetError, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_writer import StreamWriter
from aiohttp.test_utils import TestServer, make_mocked_request

from ocr_inference.api.mcp import asgi
from tests.support.patience import PATIENCE

Receive = Callable[[], Awaitable[asgi.Message]]
Send = Callable[[asgi.Message], Awaitable[None]]


@asynccontextmanager
async def client(application: asgi.Application) -> AsyncIterator[aiohttp.ClientSession]:
    async def handler(request: web.Request) -> web.StreamResponse:
        return await asgi.respond(request, application, await request.read(), {"extra": "our own"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    async with TestServer(app) as server, aiohttp.ClientSession(server.make_url("")) as http:
        yield http


async def test_a_request_and_its_answer_pass_as_they_are() -> None:
    seen: list[asgi.Message] = []

    async def application(scope: asgi.Message, receive: Receive, send: Send) -> None:
        seen.extend((scope, await receive()))
        headers = [(b"x-answer", b"1"), (b"x-answer", b"2"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 418, "headers": headers})
        await send({"type": "http.response.body", "body": b"one ", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})

    async with (
        client(application) as http,
        http.post("/a%20b?c=d%26e", data=b"body", headers={"X-Sent": "Value"}) as response,
    ):
        assert response.status == 418
        assert response.headers.getall("x-answer") == ["1", "2"]
        assert "connection" not in response.headers, "that is between aiohttp and its client"
        assert await response.read() == b"one two"
    scope, message = seen
    assert (scope["method"], scope["path"], scope["raw_path"]) == ("POST", "/a b", b"/a%20b")
    assert scope["query_string"] == b"c=d%26e"
    assert (b"x-sent", b"Value") in scope["headers"]
    assert [value for name, value in scope["headers"] if name == b"content-length"] == [b"4"]
    assert scope["extra"] == "our own"
    assert message == {"type": "http.request", "body": b"body", "more_body": False}


async def test_an_application_ends_with_its_client() -> None:
    ended = asyncio.Event()

    async def application(_: asgi.Message, receive: Receive, send: Send) -> None:
        try:
            await receive()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
        finally:
            ended.set()

    async with asyncio.timeout(PATIENCE), client(application) as http:
        async with http.get("/") as response:
            await response.content.readexactly(65_536)
            response.close()
        await ended.wait()


class Closing(StreamWriter):
    """Writer of a connection that is about to close."""

    async def write(self, *_: object, **__: object) -> None:
        raise ClientConnectionResetError("Cannot write to closing transport")


async def test_an_application_is_told_of_a_connection_that_closes() -> None:
    told: list[asgi.Message] = []

    async def application(_: asgi.Message, receive: Receive, send: Send) -> None:
        await receive()
        left = asyncio.ensure_future(receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not left.done():
            await send({"type": "http.response.body", "body": b"one", "more_body": True})
        told.append(left.result())

    request = make_mocked_request(
        "GET", "/", writer=Closing(BaseProtocol(asyncio.get_running_loop()), asyncio.get_running_loop())
    )
    async with asyncio.timeout(PATIENCE):
        await asgi.respond(request, application, b"", {})
    assert told == [{"type": "http.disconnect"}]


async def test_an_application_that_answers_nothing_is_a_fault() -> None:
    async def application(_: asgi.Message, __: Receive, ___: Send) -> None:
        return

    async with client(application) as http, http.get("/") as response:
        assert response.status == 500


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
async def test_methods_pass(method: str) -> None:
    async def application(scope: asgi.Message, _: Receive, send: Send) -> None:
        headers = [(b"x-method", scope["method"].encode())]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body"})

    async with client(application) as http, http.request(method, "/") as response:
        assert (response.status, response.headers["x-method"]) == (204, method)
