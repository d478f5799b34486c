"""Bodies that stall, and that nothing reads a body but what keeps their time."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer
from aiohttp.test_utils import TestServer as LoopbackServer

import ocr_inference
from ocr_inference.api import appkeys, forms, middleware
from ocr_inference.api.bodies import Bodies, Times
from ocr_inference.metrics import Metrics, Uploads
from ocr_wire import state
from ocr_wire.states import DeviceKind
from tests.support.patience import PATIENCE

NOTHING = state.PodState(pod=state.Identity(name="pod"), device=state.Device(kind=DeviceKind.CPU), models=())
LIMIT = 100_000

Read = Callable[[web.Request], Awaitable[object]]


def drop(_: bytes) -> None:
    pass


async def upload(request: web.Request) -> object:
    return await forms.read_upload(request, LIMIT, drop)


async def body(request: web.Request) -> object:
    return await forms.read_body(request, LIMIT)


@asynccontextmanager
async def serving(read: Read, times: Times) -> AsyncIterator[BaseTestServer]:
    async def handler(request: web.Request) -> web.Response:
        await read(request)
        return web.Response(text="read")

    app = web.Application(middlewares=(middleware.observe, middleware.render_errors))
    app[appkeys.METRICS] = Metrics("0", lambda: NOTHING, lambda: 0, lambda: Uploads(0, 0, 0, 0))
    app[appkeys.BODIES] = Bodies(LIMIT, times)
    app.router.add_post("/try", handler)
    async with LoopbackServer(app) as server:
        yield server


async def answer(server: BaseTestServer, pieces: list[bytes], length: int = 1000) -> str:
    """The first line of the answer to a body of which only these pieces are sent."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    kind = "multipart/form-data; boundary=cut"
    head = f"POST /try HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    writer.write(head.encode())
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
    async with asyncio.timeout(PATIENCE):
        line = await reader.readline()
    writer.close()
    return line.decode()


PART = b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'


@pytest.mark.parametrize(
    ("read", "pieces"),
    [
        (upload, []),
        (upload, [b"--cu"]),
        (upload, [PART]),
        (upload, [PART + b"x" * 300]),
        (upload, [PART.replace(b"file", b"model"), b"abc\r\n"]),
        (upload, [PART + b"x\r\n--cut--\r\n"]),
        (body, []),
        (body, [b"x"]),
        (forms.is_empty, []),
    ],
)
@pytest.mark.parametrize("times", [Times(stall=0.01), Times(total=0.01)])
async def test_a_body_that_stalls_is_refused(read: Read, pieces: list[bytes], times: Times) -> None:
    async with serving(read, times) as server:
        assert "408" in await answer(server, pieces)


async def test_a_slow_body_that_goes_on_is_read() -> None:
    """It takes longer in all than it may pause."""
    async with serving(body, Times(stall=PATIENCE)) as server:
        assert "200" in await answer(server, [b"x"] * 100, 100)


async def test_who_claims_and_does_not_send_makes_way() -> None:
    """It claims all there is and stays silent; who comes next is read long before that stalls."""
    times = Times(total=PATIENCE, stall=PATIENCE, wait=PATIENCE, look=0.05)
    claimed = asyncio.Event()

    async def claim(request: web.Request) -> object:
        async with request.app[appkeys.BODIES].admitted(LIMIT):
            claimed.set()
            return await forms.read_body(request, LIMIT)

    async with serving(claim, times) as server:
        silent = asyncio.create_task(answer(server, []))
        await claimed.wait()
        assert "200" in await answer(server, [b"x"] * 10, 10)
        assert "408" in await silent


def test_bodies_are_read_in_one_place() -> None:
    root = Path(ocr_inference.__file__).parent
    reading = re.compile(r"request\.(content\.|read\(|text\(|json\(|post\(|multipart\()")
    found = {path.name for path in root.rglob("*.py") if reading.search(path.read_text())}
    assert found == {"bodies.py"}
