"""Messages between the server and a forkserver, with the descriptors that travel beside them (`protocol.packets`)."""

from msgspec import Struct

DESCRIPTORS = 4
"""Number of descriptors beside an order."""


SWAPS = "swaps"
"""Argument of a forkserver that swaps its memory out."""


class Fork(Struct, frozen=True, tag="fork"):
    """Request to fork a worker. Descriptors: those of `processes.Inherited`, and the log to write to."""

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
