"""Answers of a worker to the server: a length in four bytes, then msgpack. Bounded."""

import asyncio
import struct
from typing import TypeVar

import msgspec

MAX_FRAME_BYTES = 1 << 26
"""Bound of one message: a page's text with its lines takes a hundredth of this, so a longer frame means a broken
peer."""

_LENGTH = struct.Struct(">I")
HEAD_BYTES = _LENGTH.size
_T = TypeVar("_T")


class BrokenFrame(ValueError):
    """Received bytes that aren't a message; nothing after them can be understood."""


def pack(message: msgspec.Struct) -> bytes:
    body = msgspec.msgpack.encode(message)
    if len(body) > MAX_FRAME_BYTES:
        raise BrokenFrame(f"a message of {len(body)} bytes is longer than {MAX_FRAME_BYTES}")
    return _LENGTH.pack(len(body)) + body


async def read_async(reader: asyncio.StreamReader, decoder: msgspec.msgpack.Decoder[_T]) -> _T | None:
    """Return the next message, or None at the connection's end, clean or not."""
    try:
        head = await reader.readexactly(_LENGTH.size)
        body = await reader.readexactly(checked_length(head))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BrokenFrame(f"not a message: {error}") from error


def checked_length(head: bytes) -> int:
    """Return the length that a head says; raises `BrokenFrame` for one that no message has."""
    (length,) = _LENGTH.unpack(head)
    if length > MAX_FRAME_BYTES:
        raise BrokenFrame(f"a frame of {length} bytes is longer than {MAX_FRAME_BYTES}")
    return int(length)
