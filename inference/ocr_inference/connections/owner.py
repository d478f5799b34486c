"""Accepts the connections of one server and ends them: the only place that does either."""

import asyncio
import logging
import socket
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from aiohttp import web

from ocr_inference.connections import arrivals, listening, phases
from ocr_inference.connections.arrivals import Arrivals
from ocr_inference.connections.connection import Connection, Render
from ocr_inference.connections.limits import Limits
from ocr_inference.connections.phases import Ending, Kind, Phase
from ocr_inference.connections.resets import Resets
from ocr_inference.connections.turns import Turns
from ocr_wire.sparse import Sparse

log = logging.getLogger(__name__)

ACCEPTED_AT_ONCE: Final = 256
"""Connections that are accepted in one turn of the loop, which costs little."""
TAKEN_AT_ONCE: Final = 4
"""Those of them that get a transport in one turn."""
_RESET: Final = struct.pack("ii", 1, 0)
"""Closes at once (socket(7), SO_LINGER): nothing of a connection that is turned away stays, here or at its client."""
RETRY_SECONDS: Final = 0.2
"""Wait after the system has refused to accept, such as for want of open files."""


class Connections:
    """All connections of one server."""

    def __init__(
        self, server: web.Server, limits: Limits, render: Render, ended: Callable[[Ending], None]
    ) -> None:
        """Nothing is accepted before `accepting`. `ended` is called for each connection that is ended here."""
        self._server = server
        self._limits = limits
        self._render = render
        self.ended = ended
        self.turns = Turns()
        self._all: set[Connection] = set()
        self._waiting: dict[Connection, None] = {}
        """Those of them without a request, in the order in which they began to wait."""
        self._phases: Counter[Phase] = Counter()
        self._arrivals = Arrivals[tuple[socket.socket, str]](limits.arrivals)
        """Those that wait to be taken, with the addresses that they come from."""
        self._arrived = asyncio.Event()
        self._arriving = 0
        """Connections that are taken and don't have their transport yet."""
        self._moved = asyncio.Event()
        self._resets = Resets()
        self._sparse = Sparse(time.monotonic)

    @asynccontextmanager
    async def accepting(self, listener: socket.socket) -> AsyncIterator[None]:
        """Accept while the block runs; connections that are open when it ends are left to the runner's cleanup."""
        try:
            async with asyncio.TaskGroup() as tasks:
                running = (
                    tasks.create_task(self._accept(listener), name="accept"),
                    tasks.create_task(self._take(tasks), name="take"),
                    tasks.create_task(self._end_overdue(), name="overdue"),
                )
                try:
                    yield
                finally:
                    for task in running:
                        task.cancel()
        finally:
            self._resets.close()
            while (waiting := self._arrivals.take()) is not None:
                waiting[0].close()

    def count(self, phase: Phase) -> int:
        """Return how many are in this phase."""
        return self._phases[phase]

    # --- what a connection needs -------------------------------------------------------------------------

    def now(self) -> float:
        return time.monotonic()

    def admits(self, kind: Kind) -> bool:
        if phases.admits(kind, self._phases[Phase.SERVING], self._limits):
            return True
        if kind is not Kind.ORDINARY:
            for connection in tuple(self._all):
                connection.progress()
            untaken = phases.untaken((each, each.seen) for each in self._all)
            if untaken is not None:
                self._end(untaken, Ending.DISPLACED)
                if phases.admits(kind, self._phases[Phase.SERVING], self._limits):
                    return True
        self._say("busy", "all places are taken, requests are refused limit=%d", self._limits.ordinary)
        return False

    def made(self, connection: Connection) -> None:
        self._all.add(connection)
        self._waiting[connection] = None
        self._phases[connection.seen.phase] += 1

    def moved(self, connection: Connection, before: Phase) -> None:
        if connection not in self._all:
            return
        self._phases[before] -= 1
        self._phases[connection.seen.phase] += 1
        self._waiting.pop(connection, None)
        if connection.seen.phase not in (Phase.READY, Phase.SERVING):
            self._waiting[connection] = None
        self._moved.set()

    def watch(self, number: int, gone: Callable[[], None]) -> None:
        self._resets.watch(number, gone)

    def left(self, connection: Connection, number: int) -> None:
        self._resets.forget(number)
        self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        if connection in self._all:
            self._all.remove(connection)
            self._waiting.pop(connection, None)
            self._phases[connection.seen.phase] -= 1
            self._moved.set()

    def malformed(self, remote: str | None, reason: str) -> None:
        self._say("malformed", "not HTTP: %s remote=%s", reason, listening.client(remote))

    # --- the three tasks ---------------------------------------------------------------------------------

    async def _accept(self, listener: socket.socket) -> None:
        loop, accepted = asyncio.get_running_loop(), 0
        while True:
            if seconds := self._arrivals.patience(self.now()):
                await self._until_moved(seconds)
                continue
            try:
                client, address = await loop.sock_accept(listener)
            except OSError as error:
                # Files run out only where something else than connections takes them.
                self._say("accept", "can't accept a connection: %s", error.strerror or error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            remote: str = address[0]
            self._arrivals.put(arrivals.source(remote), (client, remote), self.now())
            if (refused := self._arrivals.turn_away()) is not None:
                self._turn_away(*refused)
            self._arrived.set()
            accepted += 1
            if accepted % ACCEPTED_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _take(self, tasks: asyncio.TaskGroup) -> None:
        taken = 0
        while True:
            if not self._arrivals:
                self._arrived.clear()
                await self._arrived.wait()
            await self._make_room()
            # Chosen now: whoever has arrived meanwhile has a turn, too.
            if (waiting := self._arrivals.take()) is None:
                continue
            self._moved.set()
            self._arriving += 1
            tasks.create_task(self._connect(waiting[0]), name="connect")
            taken += 1
            if taken % TAKEN_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _turn_away(self, client: socket.socket, remote: str) -> None:
        self._say(
            "turned away",
            "connections arrive faster than they can be taken remote=%s",
            listening.client(remote),
        )
        self.ended(Ending.TURNED_AWAY)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        client.close()

    async def _make_room(self) -> None:
        while True:
            waiting = ((connection, connection.seen.since) for connection in self._waiting)
            taken = len(self._all) + self._arriving
            match phases.make_room(taken, self._limits.total, waiting, self.now()):
                case phases.Take():
                    return
                case phases.End(connection):
                    self._say("displaced", "all connections are taken limit=%d", self._limits.total)
                    self._forget(connection)  # Its socket is closed in the loop's next turn.
                    self._end(connection, Ending.DISPLACED)
                    return
                case phases.Wait(seconds):
                    await self._until_moved(seconds)

    async def _until_moved(self, seconds: float | None) -> None:
        """Wait for something to change, for so many seconds at most."""
        self._moved.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._moved.wait()

    async def _connect(self, client: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: Connection(self._server, self, self._render), client
            )
        except OSError:  # It has left already.
            client.close()
        finally:
            self._arriving -= 1
            self._moved.set()

    async def _end_overdue(self) -> None:
        times = self._limits.times
        pause = min(1.0, times.head / 4, times.idle / 4, times.stalled / 4)
        while True:
            await asyncio.sleep(pause)
            for connection in tuple(self._all):
                connection.progress()
                if (ending := phases.overdue(connection.seen, times, self.now())) is not None:
                    self._end(connection, ending)

    def _end(self, connection: Connection, ending: Ending) -> None:
        self.ended(ending)
        connection.end(ending)

    def _say(self, kind: str, message: str, *values: object) -> None:
        if (left_out := self._sparse.due(kind)) is not None:
            log.warning(f"{message} left_out=%d", *values, left_out)  # noqa: G004 -- our own words only
