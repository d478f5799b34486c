"""Pictures from outside, checked before anything expensive happens to them.

`check` reads a picture's header only, on a thread: its format must be known, its pixels within the limit. Its full
decoding, where a damaged file shows, happens in the model's worker process.
"""

import asyncio
import io
import struct
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from ocr_inference.errors import ApiError
from ocr_inference.protocol.page import FORMATS, MAX_SIDE

# Pillow's own guard warns or raises by a fixed number when a file is opened; here the configured limit rules.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True)
class Picture:
    format: str
    width: int
    height: int


async def check(data: bytes, max_pixels: int, param: str = "file") -> Picture:
    """Read format and size from the header, off the loop; raises 413, 415 or 422 that name `param`."""
    return await asyncio.to_thread(_check, data, max_pixels, param)


def _check(data: bytes, max_pixels: int, param: str) -> Picture:
    if not data:
        raise ApiError(422, "empty_upload", "the uploaded file is empty: 0 bytes", param=param)
    if data[:5] == b"%PDF-":
        raise ApiError(
            415,
            "unsupported_media_type",
            "this is a PDF, and here one picture is read per request: send its pages as pictures, or use "
            "`ocr-inference read`",
            param=param,
        )
    if (size := _webp_size(data)) is not None:
        # Opening a WebP with Pillow allocates its whole canvas, so its size is read by hand.
        return _within(Picture("WEBP", *size), max_pixels, param)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            picture = Picture(image.format or "", image.width, image.height)
    except UnidentifiedImageError:
        raise ApiError(
            415,
            "unsupported_media_type",
            f"the uploaded file is no picture of a known format; there are {', '.join(FORMATS)}",
            param=param,
        ) from None
    except Exception as error:  # Pillow's parsers raise almost anything on damaged headers.
        reason = str(error) or type(error).__name__
        raise ApiError(
            422, "invalid_image", f"the picture's header is damaged: {reason}", param=param
        ) from error
    return _within(picture, max_pixels, param)


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


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height of a WebP (RFC 9649), None for anything else."""
    if len(data) < 30 or data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    match data[12:16]:
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", data, 26)
            return width & 0x3FFF, height & 0x3FFF
        case b"VP8L":
            (bits,) = struct.unpack_from("<I", data, 21)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    return None
