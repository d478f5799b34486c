"""Pictures from outside, checked before anything expensive happens to them.

`check` reads a picture's header only: its format must be known, its pixels within the limit. Its full decoding, where
a damaged file shows, happens in the model's worker process; no library opens it here.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import BinaryIO, Final

from ocr_inference.documents import counting, headers, kinds
from ocr_inference.documents.headers import MAX_PARTS, BadHeader, Picture, TooManyParts
from ocr_inference.errors import ApiError
from ocr_inference.protocol.page import FORMATS, MAX_SIDE
from ocr_inference.protocol.page_file import PageFile

SMALL_BYTES: Final = 1 << 18
SMALL_PARTS: Final = 256
"""Bytes of a file and parts of its header that are read at once: handing it to a thread would take longer."""


async def check(
    page: PageFile, max_pixels: int, param: str = "file", known: Sequence[str] = FORMATS
) -> Picture:
    """Read format, size and frames from the file's structure, of large files off the loop; raises 413, 415 or 422 that
    name `param`. `known` are the formats that may be sent there."""
    # Opened here: a thread that comes late must not open what has the page's number by then.
    with page.open() as file:
        if page.size <= SMALL_BYTES:
            with suppress(TooManyParts):
                return _check(file, SMALL_PARTS, max_pixels, param, known)
            file.seek(0)
        return await asyncio.to_thread(_checked, file, max_pixels, param, known)


def _checked(file: BinaryIO, max_pixels: int, param: str, known: Sequence[str]) -> Picture:
    try:
        return _check(file, MAX_PARTS, max_pixels, param, known)
    except TooManyParts as error:
        raise _bad_header(error, param) from None


def _check(file: BinaryIO, most_parts: int, max_pixels: int, param: str, known: Sequence[str]) -> Picture:
    """Check the picture; raises `TooManyParts`, too."""
    head = file.read(kinds.HEAD_BYTES)
    if not head:
        raise ApiError(422, "empty_upload", "the uploaded file is empty: 0 bytes", param=param)
    kind = kinds.of_head(head)
    if kind == kinds.PDF:
        raise ApiError(
            415,
            "unsupported_media_type",
            "this is a PDF, and here one picture is read per request: send it to /ocr, /v1/ocr or /v1/jobs, or its "
            "pages as pictures",
            param=param,
        )
    try:
        picture = headers.of_file(file, most_parts)
        if picture is not None:
            picture = replace(picture, frames=counting.of_file(file, picture.format))
    except TooManyParts:
        raise
    except BadHeader as error:
        raise _bad_header(error, param) from None
    if picture is None:
        if kind is not None:
            known = (*known, f"{kind} at /ocr, /v1/ocr and /v1/jobs")
        what = kinds.refusal(head) or "no picture of a known format"
        message = f"the uploaded file is {what}; there are {', '.join(known)}"
        raise ApiError(415, "unsupported_media_type", message, param=param)
    return _within(picture, max_pixels, param)


def _bad_header(error: BadHeader, param: str) -> ApiError:
    return ApiError(422, "invalid_image", f"the picture's header {error}", param=param)


def _within(picture: Picture, max_pixels: int, param: str) -> Picture:
    width, height = picture.width, picture.height
    if width < 1 or height < 1:
        raise ApiError(422, "invalid_image", f"the picture has no pixels: {width} x {height}", param=param)
    if width * height > max_pixels or max(width, height) > MAX_SIDE:
        raise ApiError(
            413,
            "image_too_large",
            f"the picture has {width} x {height} pixels; {max_pixels} in all and {MAX_SIDE} a side are "
            "allowed: scale it down",
            param=param,
        )
    return picture
