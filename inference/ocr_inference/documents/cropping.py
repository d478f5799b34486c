"""Parts of a page as pictures of their own, cut out by a process of its own: a page is native code's to decode, and may
be hostile.

`python -m ocr_inference.documents.cropping` is that process. It reads `Cuts` from standard input and writes the parts
in their order to standard output, as msgpack.
"""

import asyncio
import io
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import msgspec
from msgspec import Struct

from ocr_inference.documents import bounds
from ocr_inference.documents.rendering import plain_environment
from ocr_inference.errors import ApiError
from ocr_inference.protocol.page_file import PageFile

Place = tuple[int, int, int, int]
"""x1, y1, x2, y2 in pixels of the upright picture."""

SECONDS: Final = 60.0
CPU_SECONDS: Final = 30
QUALITY: Final = 90
"""Of JPEG."""
PROGRAM: Final = ("-I", "-m", "ocr_inference.documents.cropping")


class Cuts(Struct, frozen=True):
    """Parts that are to be cut out."""

    places: tuple[Place, ...]
    max_pixels: int


async def crops(file: PageFile, places: Sequence[Place], max_pixels: int) -> list[bytes]:
    """Return the parts of a page as JPEG; raises `ApiError`."""
    fd = file.fileno()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *PROGRAM, str(fd)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        pass_fds=(fd,),
        env=plain_environment(),
    )
    try:
        async with asyncio.timeout(SECONDS):
            out, _ = await process.communicate(msgspec.msgpack.encode(Cuts(tuple(places), max_pixels)))
        parts = msgspec.msgpack.decode(out, type=list[bytes])
    except (TimeoutError, msgspec.DecodeError):
        raise ApiError(422, "invalid_page", "the page's pictures can't be cut out of it") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return parts


def cut(data: int, cuts: Cuts) -> list[bytes]:
    """Cut the parts out of a page, by its descriptor. Runs native code: only in the process made for it."""
    from PIL import Image  # noqa: PLC0415

    from ocr_inference.documents import pixels  # noqa: PLC0415
    from ocr_inference.protocol.page import FORMATS  # noqa: PLC0415

    bounds.bound_memory(data)
    Image.MAX_IMAGE_PIXELS = None  # the size was checked
    parts = []
    with open(f"/proc/self/fd/{data}", "rb") as file, Image.open(file, formats=FORMATS) as image:
        if image.width * image.height > cuts.max_pixels:
            raise ValueError("too large")
        page = pixels.page(image, file, cuts.max_pixels)
    for place in cuts.places:
        out = io.BytesIO()
        page.crop(place).save(out, "JPEG", quality=QUALITY)
        parts.append(out.getvalue())
    return parts


def main(arguments: Sequence[str]) -> None:
    bounds.allow_seconds(CPU_SECONDS)
    cuts = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Cuts)
    sys.stdout.buffer.write(msgspec.msgpack.encode(cut(int(arguments[0]), cuts)))


if __name__ == "__main__":
    main(sys.argv[1:])
