"""Pictures of pages for people, as JPEG of a width that is asked for, drawn by a process of its own.

`python -m ocr_inference.documents.previews` is that process. It gets a document's descriptor and kind, a page, a width
and the most pixels as arguments, and writes a `Preview` to standard output, as msgpack.
"""

import asyncio
import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import msgspec
from msgspec import Struct

from ocr_inference import errors, limits
from ocr_inference.documents import bounds, kinds
from ocr_inference.documents.rendering import SaidTooMuch, plain_environment, said
from ocr_inference.errors import ApiError
from ocr_inference.protocol.page import MAX_SIDE
from ocr_inference.protocol.page_file import PageFile

MIN_WIDTH, MAX_WIDTH = 16, 2400
"""Pixels."""
QUALITY: Final = 80
MAX_BYTES: Final = 64 << 20
"""Most bytes of a picture: no list and no viewer has a use for a larger one."""
SECONDS: Final = 60.0
CPU_SECONDS: Final = 30
PROGRAM: Final = ("-I", "-W", "ignore", "-m", "ocr_inference.documents.previews")
_PDF: Final = "pdf"
_POINTS_AN_INCH: Final = 72


class Preview(Struct, frozen=True):
    """Picture, or why there is none."""

    jpeg: bytes = b""
    status: int = 0
    code: str = ""
    message: str = ""


async def preview(
    file: PageFile, index: int, width: int, max_pixels: int, program: Sequence[str] = PROGRAM
) -> bytes:
    """Return a page as JPEG, so many pixels wide; a picture is never made larger than it is. Raises `ApiError`."""
    fd = file.fileno()
    head = os.pread(fd, kinds.HEAD_BYTES, 0)
    kind = _PDF if kinds.of_head(head) == kinds.PDF else "picture"
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *program, str(fd), kind, *map(str, (index, width, max_pixels))),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            pass_fds=(fd,),
            env=plain_environment(),
        )
    except OSError as error:
        message = f"no process to draw the page can be started: {error.strerror}; try again later"
        raise errors.of(errors.FAILURES["out_of_descriptors"], message) from error
    try:
        async with asyncio.timeout(SECONDS):
            out = await said(process, MAX_BYTES)
        drawn = msgspec.msgpack.decode(out, type=Preview)
    except (TimeoutError, SaidTooMuch, msgspec.DecodeError):
        message = f"page {index + 1} can't be drawn: its process ended, took too long or sent too much"
        raise ApiError(422, "invalid_page", message) from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if drawn.status:
        raise ApiError(drawn.status, drawn.code, drawn.message)
    return drawn.jpeg


def draw(fd: int, index: int, width: int, max_pixels: int, *, is_pdf: bool) -> bytes:
    """Draw a page; raises `ApiError`, and whatever decoders raise. Native code: only in the process made for it."""
    from PIL import Image  # noqa: PLC0415

    from ocr_inference.documents.frames import Frames  # noqa: PLC0415
    from ocr_inference.documents.pdf import Pdf  # noqa: PLC0415

    bounds.bound_memory(fd)
    document = Pdf(fd, max_pixels) if is_pdf else Frames(fd, max_pixels)
    if index >= document.count:
        message = f"there is no page {index + 1}: the document has {document.count}"
        raise ApiError(404, "no_such_page", message)
    dpi = float(_POINTS_AN_INCH)
    if isinstance(document, Pdf):
        with document.page(index) as page:
            dpi = width * _POINTS_AN_INCH / page.get_size()[0]
    _, drawn = document.render(index, dpi)
    out = io.BytesIO()
    with os.fdopen(drawn, "rb") as file, Image.open(file, formats=("BMP",)) as image:
        image.thumbnail((width, MAX_SIDE))
        image.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def _fault(error: Exception, index: int) -> Preview:
    if isinstance(error, ApiError):
        return Preview(b"", error.status, error.code, error.message)
    if limits.ran_out(error):
        return Preview(b"", 507, "out_of_memory", f"page {index + 1} needs more memory than it may take")
    why = str(error)[:200] or type(error).__name__
    return Preview(b"", 422, "invalid_page", f"page {index + 1} can't be drawn: {why}")


def main(arguments: Sequence[str]) -> None:
    fd, kind, *numbers = arguments
    index, width, max_pixels = map(int, numbers)
    bounds.allow_seconds(CPU_SECONDS)
    try:
        drawn = Preview(draw(int(fd), index, width, max_pixels, is_pdf=kind == _PDF))
    except Exception as error:  # noqa: BLE001 whatever it is, it is this page's
        drawn = _fault(error, index)
    sys.stdout.buffer.write(msgspec.msgpack.encode(drawn))
    sys.stdout.buffer.flush()
    os._exit(0)  # nothing that a library left is worth the time to free it


if __name__ == "__main__":
    main(sys.argv[1:])
