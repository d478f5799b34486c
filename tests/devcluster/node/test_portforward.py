"""Port forwarding of a process node, over real connections and with a client that speaks SPDY as kubectl does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from devcluster.node.endpoint import portforward, spdy
from tests.support.patience import PATIENCE
from tests.support.spdyclient import Client, control

UPGRADE = "GET /pod HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(1000):
        writer.write(chunk)
    writer.write(b"bye")
    writer.close()


@dataclass
class Kubectl:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    port: int
    spdy: Client = field(default_factory=Client)
    frames: list[tuple[str, int, bytes]] = field(default_factory=list)

    def pair(self, first: int, request: str, port: int | None = None) -> None:
        headers = {"port": str(port or self.port), "requestid": request}
        self.writer.write(self.spdy.open(first, headers | {"streamtype": "error"}))
        self.writer.write(spdy.data(first, b"", fin=True))
        self.writer.write(self.spdy.open(first + 2, headers | {"streamtype": "data"}))

    async def until(self, kind: str, stream: int) -> bytes:
        """Read up to this frame; all data that came on its stream so far."""
        async with asyncio.timeout(PATIENCE):
            while not any(frame[:2] == (kind, stream) for frame in self.frames):
                chunk = await self.reader.read(65536)
                assert chunk, f"the connection ended before {kind} of {stream}: {self.frames}"
                self.frames += self.spdy.receive(chunk)
        return b"".join(data for what, number, data in self.frames if number == stream and what != "reset")


@asynccontextmanager
async def forwarding(handler: Handler = echo) -> AsyncIterator[Kubectl]:
    target = await asyncio.start_server(handler, "127.0.0.1", 0)
    app = web.Application()

    async def forward(request: web.Request) -> web.Response:
        return await portforward.serve(request, "127.0.0.1")

    app.router.add_get("/pod", forward)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
    try:
        writer.write(UPGRADE.encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        yield Kubectl(reader, writer, target.sockets[0].getsockname()[1])
    finally:
        writer.close()
        await runner.cleanup()
        target.close()


async def test_bytes_go_both_ways_and_the_end_follows() -> None:
    async with forwarding() as kubectl:
        kubectl.pair(1, "0")
        kubectl.writer.write(spdy.data(3, b"hello ") + spdy.data(3, b"there"))
        kubectl.writer.write(spdy.data(3, b"", fin=True))
        assert await kubectl.until("end", 3) == b"hello therebye"
        assert await kubectl.until("end", 1) == b""  # no error


async def test_several_connections_share_one_and_dont_mix() -> None:
    async with forwarding() as kubectl:
        for number in range(8):
            kubectl.pair(1 + 4 * number, str(number))
        large = b"x" * 300_000
        for number in range(8):
            kubectl.writer.write(spdy.data(3 + 4 * number, bytes([65 + number]) + large, fin=True))
        for number in range(8):
            assert await kubectl.until("end", 3 + 4 * number) == bytes([65 + number]) + large + b"bye"


async def test_a_port_where_nobody_listens_is_told_on_the_error_stream() -> None:
    async with forwarding() as kubectl:
        listener = await asyncio.start_server(echo, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        listener.close()
        await listener.wait_closed()
        kubectl.pair(1, "0", port)
        assert f"error forwarding port {port}".encode() in await kubectl.until("end", 1)
        assert await kubectl.until("end", 3) == b""


async def test_a_reset_ends_the_connection_to_the_pod() -> None:
    ended = asyncio.Event()

    async def target(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        ended.set()
        writer.close()

    async with forwarding(target) as kubectl:
        kubectl.pair(1, "0")
        await kubectl.until("reply", 3)
        kubectl.writer.write(control(3, b"\0\0\0\3\0\0\0\5"))
        async with asyncio.timeout(PATIENCE):
            await ended.wait()


async def test_the_end_of_the_client_ends_the_connections_to_the_pod() -> None:
    ended = asyncio.Event()

    async def target(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        ended.set()
        writer.close()

    async with forwarding(target) as kubectl:
        kubectl.pair(1, "0")
        await kubectl.until("reply", 3)
        kubectl.writer.close()
        async with asyncio.timeout(PATIENCE):
            await ended.wait()


@pytest.mark.parametrize(
    "headers",
    [
        {"port": "0", "streamtype": "data", "requestid": "0"},
        {"port": "65536", "streamtype": "data", "requestid": "0"},
        {"port": "²", "streamtype": "data", "requestid": "0"},
        {"port": "9" * 9000, "streamtype": "data", "requestid": "0"},
        {"streamtype": "data", "requestid": "0"},
        {"port": "80", "streamtype": "other", "requestid": "0"},
    ],
    ids=str,
)
async def test_streams_that_mean_nothing_are_reset(headers: dict[str, str]) -> None:
    async with forwarding() as kubectl:
        kubectl.writer.write(kubectl.spdy.open(1, headers))
        await kubectl.until("reset", 1)
        kubectl.pair(3, "1")
        kubectl.writer.write(spdy.data(5, b"still here", fin=True))
        assert await kubectl.until("end", 5) == b"still herebye"


async def test_data_after_the_end_and_of_unknown_streams_is_passed_over_and_pings_are_answered() -> None:
    async with forwarding() as kubectl:
        kubectl.pair(1, "0")
        kubectl.writer.write(spdy.data(3, b"a", fin=True) + spdy.data(3, b"b") + spdy.data(99, b"c"))
        kubectl.writer.write(control(6, b"\0\0\0\7"))
        await kubectl.until("ping", 7)
        assert await kubectl.until("end", 3) == b"abye"


async def test_what_is_no_spdy_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async with forwarding() as kubectl:
        kubectl.pair(1, "0")
        await kubectl.until("reply", 3)
        kubectl.writer.write(control(6, b"\0\0\0\7", version=2))
        async with asyncio.timeout(PATIENCE):
            assert await kubectl.reader.read() == b""
    assert not caplog.records


async def test_a_half_that_was_reset_is_forgotten() -> None:
    async with forwarding() as kubectl:
        headers = {"port": str(kubectl.port), "requestid": "0"}
        kubectl.writer.write(kubectl.spdy.open(1, headers | {"streamtype": "error"}))
        kubectl.writer.write(control(3, b"\0\0\0\1\0\0\0\5"))
        kubectl.pair(3, "0")  # the same request id again
        kubectl.writer.write(spdy.data(5, b"again", fin=True))
        assert await kubectl.until("end", 5) == b"againbye"


@pytest.mark.parametrize(
    "head",
    [
        "GET /pod HTTP/1.1\r\nHost: x\r\n\r\n",
        UPGRADE.replace("\r\n\r\n", "\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"),
    ],
)
async def test_other_requests_are_refused(head: str) -> None:
    async with forwarding() as kubectl:
        host, port = kubectl.writer.get_extra_info("peername")
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(head.encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
        writer.close()
