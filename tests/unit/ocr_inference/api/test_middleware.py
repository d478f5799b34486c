"""The middleware around small handlers, on a real server."""

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer as LoopbackServer

from ocr_inference.api import appkeys, middleware
from ocr_inference.metrics import Metrics, Uploads
from ocr_wire import state
from ocr_wire.states import DeviceKind

NOTHING = state.PodState(pod=state.Identity(name="pod"), device=state.Device(kind=DeviceKind.CPU), models=())


@asynccontextmanager
async def serving(handler: appkeys.Handler) -> AsyncIterator[ClientSession]:
    app = web.Application(middlewares=(middleware.observe, middleware.render_errors))
    app[appkeys.METRICS] = Metrics("0", lambda: NOTHING, lambda: 0, lambda: Uploads(0, 0, 0, 0))
    app.router.add_post("/try", handler)
    app.on_response_prepare.append(middleware.add_headers)
    async with LoopbackServer(app) as server, ClientSession(server.make_url("/")) as http:
        yield http


async def test_an_unexpected_fault_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        raise RuntimeError("the secret path /srv/x")

    async with serving(broken) as http, http.post("/try", headers={"X-Request-ID": "mine"}) as response:
        body: dict[str, Any] = await response.json()
    assert (response.status, body["code"]) == (500, "internal_error")
    assert "mine" in body["error"]
    assert "secret" not in body["error"]
    assert "the secret path" in caplog.text
    assert "request_id=mine" in caplog.text


async def test_a_body_over_the_limit_is_a_413_in_our_shape() -> None:
    async def greedy(request: web.Request) -> web.StreamResponse:
        return web.Response(body=await request.read())

    async with serving(greedy) as http:
        async with http.post("/try", data="x" * 1_000_000) as response:
            assert response.status == 200
        async with http.post("/try", data=io.BytesIO(b"x" * 1_100_000)) as response:
            body = await response.json()
            assert (response.status, body["code"]) == (413, "body_too_large")
