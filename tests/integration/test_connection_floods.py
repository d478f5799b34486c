"""Clients that open connections faster than a server can take them: those of others are taken in between."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager

from aiohttp import web

from ocr_inference.connections import listening
from ocr_inference.connections.limits import Limits, Times
from ocr_inference.connections.owner import TAKEN_AT_ONCE, Connections
from ocr_inference.connections.phases import Ending, Kind
from ocr_inference.errors import ApiError
from tests.support.patience import PATIENCE

FLOOD, PROBE = "127.0.0.9", "127.0.0.1"
LIMITS = Limits(ordinary=1000, looks=1000, total=1000, arrivals=64, times=Times())


class Seen:
    """The addresses from which requests came, in their order."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.ended = Counter[Ending]()
        self.arrived = asyncio.Event()
        self.go_on = asyncio.Event()
        """Until it is set no request is answered."""
        self.go_on.set()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        assert request.protocol.begin(request, Kind.LOOK)  # type: ignore[attr-defined]
        self.order.append(request.remote or "")
        self.arrived.set()
        await self.go_on.wait()
        return web.Response()

    def count(self, ending: Ending) -> None:
        self.ended[ending] += 1
        self.arrived.set()

    async def until(self, number: int) -> None:
        """Until so many requests are answered or connections turned away."""
        async with asyncio.timeout(PATIENCE):
            while len(self.order) + self.ended[Ending.TURNED_AWAY] < number:
                self.arrived.clear()
                await self.arrived.wait()


def _render(error: ApiError | None, _request: web.BaseRequest) -> web.Response:
    return web.Response(status=error.status if error else 500)


@asynccontextmanager
async def taken(sources: Sequence[str], limits: Limits) -> AsyncIterator[Seen]:
    """A server that begins to accept when all of these wait at its socket, each with a request sent."""
    seen = Seen()
    with ExitStack() as stack:
        listener = stack.enter_context(listening.listen("127.0.0.1", 0, 30.0))
        for source in sources:
            client = stack.enter_context(socket.socket())
            client.bind((source, 0))
            client.connect(listener.getsockname())
            client.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        server = web.Server(seen.handle)
        runner = web.ServerRunner(server, shutdown_timeout=1.0)
        await runner.setup()
        connections = Connections(server, limits, _render, ended=seen.count)
        async with connections.accepting(listener):
            yield seen
        await runner.cleanup()


async def test_a_probe_behind_a_flood_is_answered_among_the_first() -> None:
    async with taken([FLOOD] * 50 + [PROBE] + [FLOOD] * 10, LIMITS) as seen:
        await seen.until(61)
    assert seen.order.index(PROBE) <= 2 * TAKEN_AT_ONCE
    assert not seen.ended


async def test_a_flood_that_fills_all_places_is_turned_away_and_not_the_probe() -> None:
    """Eight requests take all places, for long; sixteen connections may wait."""
    limits = Limits(ordinary=8, looks=8, total=8, arrivals=16, times=Times())
    async with taken([FLOOD] * 60 + [PROBE], limits) as seen:
        seen.go_on.clear()
        await seen.until(61 - 16)
        assert seen.order == [FLOOD] * 8
        assert seen.ended == {Ending.TURNED_AWAY: 37}
        seen.go_on.set()
        await seen.until(61)
    assert len(seen.order) == 8 + 16
    assert PROBE in seen.order
