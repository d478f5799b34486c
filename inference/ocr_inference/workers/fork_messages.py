"""Messages between the server and a forkserver, with the descriptors that travel beside them.

The socket keeps messages apart (SOCK_SEQPACKET), so one receive is one message. Both ends are ours; what isn't a
message means that the other end is broken.
"""

import os
import socket
from collections.abc import Sequence
from typing import TypeVar

import msgspec
from msgspec import Struct

_MAX_BYTES = 8192
_MAX_DESCRIPTORS = 3
_T = TypeVar("_T")


class Fork(Struct, frozen=True, tag="fork"):
    """Request to fork a worker. Descriptors: its connection to the server, the host tier, the log to write to."""

    id: int
    name: str
    """Name of the process in `ps` and `top`."""


class Ready(Struct, frozen=True, tag="ready"):
    """Report that the imports are done."""

    seconds: float


class Unfit(Struct, frozen=True, tag="unfit"):
    """Report that this process can't be forked from; it ends."""

    reason: str


class Forked(Struct, frozen=True, tag="forked"):
    """Report of a forked worker. Descriptor: a pidfd, which means this process even when its number is used again."""

    id: int
    pid: int


class NotForked(Struct, frozen=True, tag="not_forked"):
    """Report that the system refused to fork."""

    id: int
    reason: str


class Ended(Struct, frozen=True, tag="ended"):
    """Report that a forked worker has ended."""

    id: int
    code: int
    """Exit code, as `Process.wait` returns it."""


Report = Ready | Unfit | Forked | NotForked | Ended
"""Message from a forkserver."""


class Broken(ValueError):
    """Received bytes that aren't a message."""


def send(connection: socket.socket, message: Struct, descriptors: Sequence[int] = ()) -> None:
    """Send a message; raises `OSError` (`BlockingIOError` from a non-blocking socket)."""
    socket.send_fds(connection, [msgspec.msgpack.encode(message)], list(descriptors))


def receive(
    connection: socket.socket, decoder: msgspec.msgpack.Decoder[_T]
) -> tuple[_T, tuple[int, ...]] | None:
    """Receive a message and its descriptors, which the caller has to close; None at the connection's end."""
    data, descriptors, _, _ = socket.recv_fds(connection, _MAX_BYTES, _MAX_DESCRIPTORS)
    for each in descriptors:
        os.set_inheritable(each, False)
    if not data:
        return None
    try:
        return decoder.decode(data), tuple(descriptors)
    except msgspec.DecodeError as error:
        for each in descriptors:
            os.close(each)
        raise Broken(f"not a message: {error}") from error
