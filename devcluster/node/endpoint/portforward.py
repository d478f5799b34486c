"""`kubectl port-forward`: one upgraded connection, on which streams lead to ports of one pod.

kubectl opens two streams for each local connection, with the same `requestid`: `error`, on which the node says why a
port can't be reached, and `data`. See k8s.io/kubelet/pkg/cri/streaming/portforward for a kubelet's side.
"""

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from devcluster.node.endpoint import spdy
from ocr_wire import numbers

PROTOCOL: Final = "portforward.k8s.io"
MAX_STREAMS: Final = 256
MAX_WAITING_BYTES: Final = 64 * 2**20
"""What one stream may hold for a port that doesn't read: SPDY as spoken here can't slow its sender down."""
CHUNK_BYTES: Final = 64 * 1024
CONNECT_SECONDS: Final = 10.0


async def serve(request: web.Request, address: str) -> web.Response:
    """Forward to ports of `address` until the client closes. Refuses with 400 what isn't this protocol."""
    if request.headers.get("Upgrade", "").lower() != "spdy/3.1":
        raise web.HTTPBadRequest(text="port-forward needs an upgrade to SPDY/3.1")
    if PROTOCOL not in request.headers.get("X-Stream-Protocol-Version", PROTOCOL):
        raise web.HTTPBadRequest(text=f"port-forward speaks {PROTOCOL} only")
    with _taken_over(request) as (reader, writer):
        lines = (
            "HTTP/1.1 101 Switching Protocols",
            "Connection: Upgrade",
            "Upgrade: SPDY/3.1",
            f"X-Stream-Protocol-Version: {PROTOCOL}",
        )
        writer.write("\r\n".join((*lines, "", "")).encode())
        await Session(reader, writer, address).run()
    return web.Response()  # to a connection that is closed


@contextmanager
def _taken_over(request: web.Request) -> Iterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Return the request's connection as streams. aiohttp reads and writes nothing on it any more."""
    transport, server, loop = request.transport, request.protocol, asyncio.get_running_loop()
    if transport is None:
        raise ConnectionResetError("the client has gone")
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    try:
        yield reader, asyncio.StreamWriter(transport, protocol, reader, loop)
    finally:
        transport.close()
        server.connection_lost(None)  # aiohttp learns it from no other place


@dataclass
class Stream:
    id: int
    inbound: asyncio.StreamReader = field(default_factory=asyncio.StreamReader)
    waiting: int = 0
    """Bytes that came and weren't read yet."""
    finished: bool = False
    """The client sends nothing more."""


class Session:
    """Both directions of all streams of one connection; `run` reads, a task for each pair of streams answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str) -> None:
        self._reader, self._writer, self._address = reader, writer, address
        self._decoder, self._encoder = spdy.Decoder(), spdy.Encoder()
        self._streams: dict[int, Stream] = {}
        self._halves: dict[tuple[str, str], Stream] = {}
        """Streams that wait for the other one of their pair, by request id and type."""

    async def run(self) -> None:
        """Serve until the client closes, or sends what isn't SPDY; connections to the pod end then."""
        async with asyncio.TaskGroup() as group:
            tasks: set[asyncio.Task[None]] = set()
            with suppress(OSError, spdy.ProtocolError):
                while chunk := await self._reader.read(CHUNK_BYTES):
                    for frame in self._decoder.feed(chunk):
                        if (pair := self._take(frame)) is not None:
                            task = group.create_task(self._carry(*pair))
                            tasks.add(task)
                            task.add_done_callback(tasks.discard)
            for task in tasks:
                task.cancel()

    def _take(self, frame: spdy.Frame) -> tuple[str, Stream, Stream] | None:
        """Act on a frame; (port, data, error) when it completed a pair."""
        match frame:
            case spdy.SynStream(number, headers):
                return self._open(number, headers)
            case spdy.Data(number, chunk, fin) if number in self._streams:
                stream = self._streams[number]
                if stream.finished:
                    return None
                stream.finished = fin
                stream.waiting += len(chunk)
                if stream.waiting > MAX_WAITING_BYTES:
                    self._writer.write(spdy.reset(number, spdy.FLOW_CONTROL_ERROR))
                    self._end(stream)
                else:
                    stream.inbound.feed_data(chunk)
                    if fin:
                        stream.inbound.feed_eof()
            case spdy.Reset(number) if number in self._streams:
                self._end(self._streams[number])
            case spdy.Ping(number):
                self._writer.write(spdy.ping(number))
            case _:
                pass  # what is left of streams that have ended, and what the client may say without an answer
        return None

    def _open(self, number: int, headers: Mapping[str, str]) -> tuple[str, Stream, Stream] | None:
        port, kind, request = (headers.get(each, "") for each in ("port", "streamtype", "requestid"))
        wrong = number in self._streams or kind not in {"error", "data"} or (request, kind) in self._halves
        if wrong or numbers.whole(port, 1, 65_535) is None:
            self._writer.write(spdy.reset(number, spdy.PROTOCOL_ERROR))
            return None
        if len(self._streams) >= MAX_STREAMS:
            self._writer.write(spdy.reset(number, spdy.REFUSED_STREAM))
            return None
        self._writer.write(self._encoder.reply(number))
        stream = self._streams[number] = Stream(number)
        other = self._halves.pop((request, "data" if kind == "error" else "error"), None)
        if other is None:
            self._halves[request, kind] = stream
            return None
        return (port, stream, other) if kind == "data" else (port, other, stream)

    async def _carry(self, port: str, data: Stream, error: Stream) -> None:
        """Connect one pair with the port, and close both streams when the pod's side or the client's has ended."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection(self._address, int(port))
        except OSError as failure:  # TimeoutError too
            why = f"error forwarding port {port} to {self._address}: {str(failure) or 'no answer'}"
            said = json.dumps({"closeConnection": True, "message": why})
            self._writer.write(spdy.data(error.id, said.encode()))
        else:
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(self._send(data, writer))
                try:
                    with suppress(OSError):
                        while chunk := await reader.read(CHUNK_BYTES):
                            self._writer.write(spdy.data(data.id, chunk))
                            await self._writer.drain()
                finally:
                    sending.cancel()
                    writer.close()
        for stream in (data, error):
            self._writer.write(spdy.data(stream.id, b"", fin=True))
            self._end(stream)

    async def _send(self, stream: Stream, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await stream.inbound.read(CHUNK_BYTES):
                stream.waiting -= len(chunk)
                writer.write(chunk)
                await writer.drain()
            writer.write_eof()

    def _end(self, stream: Stream) -> None:
        if self._streams.pop(stream.id, None) is not None:
            stream.inbound.feed_eof()
            self._halves = {key: each for key, each in self._halves.items() if each is not stream}
