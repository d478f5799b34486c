"""Process that makes one file of pages that were read: `python -m ocr_inference.documents.exporter`.

It reads an `Order` and then the pages' results from standard input, a line each, writes the file to a descriptor that
it got, and says `Made` on standard output. Documents that pages come from may be hostile, and their libraries are
native code: what goes wrong ends with this process.
"""

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Final

import msgspec
from msgspec import Struct

from ocr_inference import limits
from ocr_inference.documents import bounds
from ocr_inference.documents.formats import page
from ocr_inference.documents.formats.kinds import Format
from ocr_inference.documents.formats.page import ReadPage
from ocr_inference.errors import ApiError

PAGE_CPU_SECONDS: Final = 30
END_CPU_SECONDS: Final = 120
"""Processor time to write what was made of all pages."""


class Origin(Struct, frozen=True):
    """Document that pages come from; its descriptor is among the arguments."""

    is_pdf: bool


class Order(Struct, frozen=True, kw_only=True):
    """File that is wanted."""

    format: Format
    title: str = ""
    max_pixels: int
    max_bytes: int
    """Of the file."""
    origins: tuple[Origin, ...] = ()
    places: tuple[tuple[int, int], ...] = ()
    """Of each page: the number of its document, and its own in that, both from 0. Only PDFs need them."""


class Made(Struct, frozen=True):
    """End of the work; what went wrong, or nothing."""

    status: int = 0
    code: str = ""
    message: str = ""


def make(order: Order, results: BinaryIO, out: BinaryIO, origins: Sequence[int]) -> None:
    """Write the file; raises `ApiError`, and whatever libraries raise."""
    # Imported here: each is megabytes, and memory is bounded once they are.
    if order.format is Format.PDF:
        from ocr_inference.documents.formats import searchable  # noqa: PLC0415

        bounds.bound_memory(*origins)
        sources = [
            searchable.Source(fd, each.is_pdf) for fd, each in zip(origins, order.origins, strict=True)
        ]
        searchable.write(
            _pages(results),
            order.places,
            sources,
            out,
            max_pixels=order.max_pixels,
            title=order.title,
        )
    elif order.format is Format.TEXT:
        from ocr_inference.documents.formats import plain  # noqa: PLC0415

        bounds.bound_memory()
        out.writelines(piece.encode() for piece in plain.pieces(_pages(results)))
    else:
        from ocr_inference.documents.formats import word  # noqa: PLC0415

        bounds.bound_memory()
        word.write(_pages(results), out, order.title)


class _Bounded(io.FileIO):
    """File that takes so many bytes; more raise `OSError`."""

    def __init__(self, fd: int, most: int) -> None:
        super().__init__(fd, "wb")
        self._most = most

    def write(self, data: Any, /) -> int:
        if self.tell() + memoryview(data).nbytes > self._most:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return super().write(data)


def _pages(results: BinaryIO) -> Iterator[ReadPage]:
    for line in results:
        bounds.allow_seconds(PAGE_CPU_SECONDS)
        yield page.decode(line)
    bounds.allow_seconds(END_CPU_SECONDS)


def _made(error: Exception) -> Made:
    if isinstance(error, ApiError):
        return Made(error.status, error.code, error.message)
    if limits.ran_out(error):
        return Made(507, "out_of_memory", "the file can't be made: it needs more memory than it may take")
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return Made(
            413, "export_too_large", "the file would be larger than it may be: export fewer pages at a time"
        )
    return Made(422, "export_failed", f"the file can't be made: {str(error)[:300] or type(error).__name__}")


def main(arguments: Sequence[str]) -> None:
    out, *origins = map(int, arguments)
    bounds.allow_seconds(PAGE_CPU_SECONDS)
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    made = Made()
    try:
        with _Bounded(out, order.max_bytes) as file:
            make(order, sys.stdin.buffer, file, origins)
    except Exception as error:  # noqa: BLE001 whatever it is, it is this file's
        made = _made(error)
    with contextlib.suppress(OSError):
        sys.stdout.buffer.write(msgspec.json.encode(made))
        sys.stdout.buffer.flush()
    os._exit(0)  # nothing that a library left is worth the time to free it


if __name__ == "__main__":
    main(sys.argv[1:])
