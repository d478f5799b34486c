"""Messages that each travel whole, as msgpack, with descriptors beside them: one receive on the socket
(SOCK_SEQPACKET) is one message.

Both ends are ours; what isn't a message means that the other end is broken.
"""

import os
import socket
from array import array
from collections.abc import Iterable
from typing import TypeVar

import msgspec

MAX_BYTES = 1 << 17
"""Bound of one message: well below what a socket buffers by default, and more than the longest prompt takes."""
MAX_DESCRIPTORS = 4
_T = TypeVar("_T")


class Broken(ValueError):
    """Received bytes that aren't a message."""


class TooLong(ValueError):
    """Message that doesn't fit into one packet."""


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def pack(message: msgspec.Struct) -> bytes:
    """Return the message as bytes; raises `TooLong`."""
    data = msgspec.msgpack.encode(message)
    if len(data) > MAX_BYTES:
        raise TooLong(f"a message of {len(data)} bytes is longer than {MAX_BYTES}")
    return data


def send(connection: socket.socket, data: bytes, descriptors: Iterable[int] = ()) -> None:
    """Send a packed message, whole or not at all. Raises `OSError`: `BlockingIOError` from a non-blocking socket."""
    socket.send_fds(connection, [data], list(descriptors))


def receive(
    connection: socket.socket, decoder: msgspec.msgpack.Decoder[_T]
) -> tuple[_T, tuple[int, ...]] | None:
    """Receive a message and its descriptors, which the caller has to close; None at the connection's end.

    There are fewer descriptors than were sent where this process can have no more open.
    """
    # `socket.recv_fds` ignores its flags, up to Python 3.13 at least, and a process that is started meanwhile would
    # inherit them.
    size = socket.CMSG_LEN(MAX_DESCRIPTORS * array("i").itemsize)
    data, ancillary, _, _ = connection.recvmsg(MAX_BYTES, size, socket.MSG_CMSG_CLOEXEC)
    descriptors = array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    if not data:
        return None
    try:
        return decoder.decode(data), tuple(descriptors)
    except (msgspec.DecodeError, RecursionError) as error:
        close(descriptors)
        raise Broken(f"not a message: {error}") from error


def close(descriptors: Iterable[int]) -> None:
    for each in descriptors:
        os.close(each)
