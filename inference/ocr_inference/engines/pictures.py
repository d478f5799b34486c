"""Pages decoded inside a worker: bounded before decoding, upright, in RGB; for a damaged one the client is at fault.

Time and memory are in proportion to the file and to the pixels that it may have: `documents.headers` bounds what Pillow
reads besides pixels, and orientation is applied by us, since Pillow's own way writes all EXIF data anew.
"""

import errno
import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final

from PIL import Image, UnidentifiedImageError

from ocr_inference import limits
from ocr_inference.documents import headers, pixels
from ocr_inference.protocol.engine import EngineError, Failure, FailureKind, InferRequest, Part
from ocr_inference.protocol.page import FORMATS, MAX_SIDE

DECODERS = tuple(f"PIL.{name}ImagePlugin" for name in ("Png", "Jpeg", "WebP", "Tiff", "Bmp", "Gif", "Ppm"))
"""Modules that Pillow imports when it opens its first picture, a twentieth of a second: for forkservers."""

BYTES_A_PIXEL: Final = 8
"""Memory of a page while it is decoded: Pillow has 4 bytes of a pixel, and most pages are there twice."""
SMALL_BYTES: Final = 16 << 20
"""Bytes of a decoded page for which what is left isn't read: half a millisecond, where decoding takes less."""


def blank() -> bytes:
    """Return a small white page, encoded."""
    page = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(page, "PNG")
    return page.getvalue()


def decode(data: bytes | BinaryIO, max_pixels: int) -> Image.Image:
    """Decode the picture as a page (`documents.pixels`); raises `EngineError`."""
    # The limit is ours, stated in the request; Pillow's own would warn below it and raise above.
    Image.MAX_IMAGE_PIXELS = None
    try:
        with opened(data) as file, warnings.catch_warnings(action="ignore"):
            header = headers.read(data) if isinstance(data, bytes) else headers.of_file(file)
            if header is None:
                raise _invalid(f"not a picture in one of the formats {', '.join(FORMATS)}")
            _check_size((header.width, header.height), max_pixels)
            _check_memory(header.width * header.height)
            # Bytes after the picture, odd EXIF and the like: readable is readable.
            with Image.open(file, formats=FORMATS) as image:
                _check_size(image.size, max_pixels)
                return pixels.page(image, file, max_pixels)
    except EngineError:
        raise
    except headers.BadHeader as error:
        raise _invalid(f"the picture's header {error}") from None
    except UnidentifiedImageError:
        raise _invalid(f"not a picture in one of the formats {', '.join(FORMATS)}") from None
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            message = f"the worker can't open the page: {error.strerror}; send it again later"
            raise EngineError(Failure(kind=FailureKind.OUT_OF_DESCRIPTORS, message=message)) from None
        # Decoders raise OSError, SyntaxError, ValueError, struct.error and more for damaged files.
        raise _invalid(f"the picture can't be decoded: {str(error) or type(error).__name__}"[:500]) from error


def decode_each(request: InferRequest) -> list[Image.Image]:
    """Decode the request's pictures, usually one, with the limit of pixels for all together; raises `EngineError`."""
    if not request.parts:
        return [decode(request.image, request.max_pixels)]
    pages: list[Image.Image] = []
    left = request.max_pixels
    with opened(request.image) as file:
        data = [_part(file, part) for part in request.parts]
    for each in data:
        pages.append(decode(each, left))
        left -= pages[-1].width * pages[-1].height
    return pages


def _part(file: BinaryIO, part: Part) -> bytes:
    start, size = part
    file.seek(start)
    return file.read(size)


def scaled(page: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return the page at that width and height."""
    return page if page.size == size else page.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)


@contextmanager
def opened(data: bytes | BinaryIO) -> Iterator[BinaryIO]:
    """Open a picture for reading. A file gets a descriptor of its own: some decoders read by the descriptor's number,
    and while a thread decodes a page, that may be answered, its file be closed and the number be another page's."""
    if isinstance(data, bytes):
        yield io.BytesIO(data)
        return
    with os.fdopen(os.dup(data.fileno()), "rb") as file:
        yield file


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels or max(size) > MAX_SIDE:
        message = f"{width} x {height} pixels; the limit is {max_pixels} in all and {MAX_SIDE} a side"
        raise EngineError(Failure(kind=FailureKind.IMAGE_TOO_LARGE, message=message, param="file"))


def _check_memory(pixels: int) -> None:
    if pixels * BYTES_A_PIXEL <= SMALL_BYTES:
        return
    try:
        limits.require_memory(pixels * BYTES_A_PIXEL, "the decoded page")
    except MemoryError as error:
        failure = Failure(kind=FailureKind.OUT_OF_MEMORY, message=str(error), param="file", of_host=True)
        raise EngineError(failure) from None


def _invalid(message: str) -> EngineError:
    return EngineError(Failure(kind=FailureKind.INVALID_IMAGE, message=message, param="file"))
