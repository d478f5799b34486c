"""Pages decoded inside a worker: bounded before decoding, upright, in RGB; for a damaged one the client is at fault."""

import io
import warnings

from PIL import Image, ImageOps, UnidentifiedImageError

from ocr_inference.protocol.engine import EngineError, Failure, FailureKind
from ocr_inference.protocol.page import FORMATS, MAX_SIDE

DECODERS = tuple(f"PIL.{name}ImagePlugin" for name in ("Png", "Jpeg", "WebP", "Tiff", "Bmp", "Gif", "Ppm"))
"""Modules that Pillow imports when it opens its first picture, a twentieth of a second: for forkservers."""


def blank() -> bytes:
    """Return a small white page, encoded."""
    page = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(page, "PNG")
    return page.getvalue()


def decode(data: bytes, max_pixels: int) -> Image.Image:
    """Decode the picture, upright (EXIF orientation applied), transparency on white; raises `EngineError`."""
    # The limit is ours, stated in the request; Pillow's own would warn below it and raise above.
    Image.MAX_IMAGE_PIXELS = None
    try:
        # Bytes after the picture, odd EXIF and the like: readable is readable.
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image.size, max_pixels)
            image.load()
            return _rgb(ImageOps.exif_transpose(image))
    except EngineError:
        raise
    except UnidentifiedImageError:
        raise _invalid(f"not a picture in one of the formats {', '.join(FORMATS)}") from None
    except MemoryError:
        raise
    except Exception as error:
        # Decoders raise OSError, SyntaxError, ValueError, struct.error and more for damaged files.
        raise _invalid(f"the picture can't be decoded: {str(error) or type(error).__name__}"[:500]) from error


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels or max(size) > MAX_SIDE:
        message = f"{width} x {height} pixels; the limit is {max_pixels} in all and {MAX_SIDE} a side"
        raise EngineError(Failure(kind=FailureKind.IMAGE_TOO_LARGE, message=message, param="file"))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    elif image.mode.startswith("I;16"):
        # 16-bit grey: Pillow's conversion would clip everything above 255 to white.
        image = image.point(lambda value: value / 257).convert("L")
    return image.convert("RGB")


def _invalid(message: str) -> EngineError:
    return EngineError(Failure(kind=FailureKind.INVALID_IMAGE, message=message, param="file"))
