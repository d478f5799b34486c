"""Messages between the server and its workers: a length in four bytes, then msgpack. Bounded in both directions."""

import asyncio
import socket
import struct
from typing import TypeVar

import msgspec

MAX_FRAME_BYTES = 1 << 30
"""Bound of one message: a page with its request. Uploads are bounded far below this, so a longer frame means a broken
peer."""

_LENGTH = struct.Struct(">I")
_T = TypeVar("_T")


class BrokenFrame(ValueError):
    """Received bytes that aren't a message; nothing after them can be understood."""


def pack(message: msgspec.Struct) -> bytes:
    body = msgspec.msgpack.encode(message)
    if len(body) > MAX_FRAME_BYTES:
        raise BrokenFrame(f"a message of {len(body)} bytes is longer than {MAX_FRAME_BYTES}")
    return _LENGTH.pack(len(body)) + body


def read(connection: socket.socket, decoder: msgspec.msgpack.Decoder[_T]) -> _T | None:
    """Return the next message, or None at the connection's end. Blocks."""
    if (head := _receive(connection, _LENGTH.size)) is None:
        return None
    body = _receive(connection, _checked_length(head))
    return None if body is None else _decode(body, decoder)


async def read_async(reader: asyncio.StreamReader, decoder: msgspec.msgpack.Decoder[_T]) -> _T | None:
    """Return the next message, or None at the connection's end, clean or not."""
    try:
        head = await reader.readexactly(_LENGTH.size)
        body = await reader.readexactly(_checked_length(head))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return _decode(body, decoder)


def _checked_length(head: bytes | bytearray) -> int:
    (length,) = _LENGTH.unpack(head)
    if length > MAX_FRAME_BYTES:
        raise BrokenFrame(f"a frame of {length} bytes is longer than {MAX_FRAME_BYTES}")
    return int(length)


def _decode(body: bytes | bytearray, decoder: msgspec.msgpack.Decoder[_T]) -> _T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BrokenFrame(f"not a message: {error}") from error


def _receive(connection: socket.socket, length: int) -> bytearray | None:
    body = bytearray(length)
    view, got = memoryview(body), 0
    while got < length:
        count = connection.recv_into(view[got:])
        if count == 0:
            return None
        got += count
    return body
