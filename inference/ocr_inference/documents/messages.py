"""What the server and the process that renders a document say to each other, one message a packet.

A picture travels as a descriptor beside `Rendered`: a bitmap in a file in memory, sealed, so that neither side can
change it any more.
"""

import fcntl
import os
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
MAX_MESSAGE: Final = 1000
"""Characters of an error's message."""


_Status = Annotated[int, Meta(ge=400, le=599)]
_Code = Annotated[str, Meta(pattern=r"^[a-z_]{1,40}\Z")]
_Message = Annotated[str, Meta(max_length=MAX_MESSAGE)]


class Render(Struct, frozen=True, tag="render"):
    """Request for a page."""

    index: int
    dpi: float


class Opened(Struct, frozen=True, tag="opened"):
    """Document that can be read."""

    count: int


class Refused(Struct, frozen=True, tag="refused"):
    """Document that can't be read."""

    status: _Status
    code: _Code
    message: _Message


class Rendered(Struct, frozen=True, tag="rendered"):
    """Page as a picture; the descriptor beside it is its file."""

    index: int
    width: int
    height: int
    dpi: float | None
    """Pixels per inch; None where the document doesn't say."""


class Failed(Struct, frozen=True, tag="failed"):
    """Page that can't be rendered."""

    index: int
    status: _Status
    code: _Code
    message: _Message


Answer = Opened | Refused | Rendered | Failed

requests: Final = msgspec.msgpack.Decoder(Render)
answers: Final = msgspec.msgpack.Decoder(Answer)


def create_file() -> int:
    """Create the file of a picture, to be sealed when it is complete."""
    return os.memfd_create("ocr-rendered", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def seal(fd: int) -> None:
    """End all changes of the file; raises `OSError` while it is mapped for writing."""
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)


def is_sealed(fd: int) -> bool:
    """Whether the file stays as it is."""
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS == SEALS
    except OSError:
        return False  # it is no file in memory
