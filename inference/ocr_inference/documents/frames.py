"""Frames of a picture that has many, or whose format no worker decodes: TIFF, GIF, WebP, PNG; AVIF and JPEG 2000.

Each becomes a bitmap. Only `renderer` imports this, in the process made for one document.
"""

import os

from PIL import Image, UnidentifiedImageError

from ocr_inference import limits
from ocr_inference.documents import counting, headers, kinds, messages, pixels
from ocr_inference.documents.messages import Rendered
from ocr_inference.errors import ApiError
from ocr_inference.protocol.page import FORMATS, MAX_SIDE


class Frames:
    """Picture that is open."""

    def __init__(self, fd: int, max_pixels: int) -> None:
        """Open the file; raises `ApiError`."""
        self._max_pixels = max_pixels
        # The limit is ours; Pillow's own would warn below it and raise above.
        Image.MAX_IMAGE_PIXELS = None
        self._file = os.fdopen(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC), "rb")
        try:
            self._open()
        except BaseException:
            self._file.close()
            raise

    def _open(self) -> None:
        try:
            header = headers.of_file(self._file)
            self._places = (0,) if header is None else counting.of_file(self._file, header.format)
            self._image = Image.open(self._file, formats=(*FORMATS, *kinds.CONVERTED))
        except headers.BadHeader as error:
            raise ApiError(422, "invalid_image", f"the picture's header {error}") from None
        except UnidentifiedImageError:
            raise ApiError(422, "invalid_image", "the picture is damaged: its header can't be read") from None
        except Exception as error:
            if limits.ran_out(error):
                raise
            raise ApiError(422, "invalid_image", f"the picture can't be opened: {_reason(error)}") from error

    def close(self) -> None:
        self._image.close()
        self._file.close()

    @property
    def count(self) -> int:
        return len(self._places)

    @property
    def dpi(self) -> float | None:
        """Pixels an inch of the frame that was rendered last, as it says itself; None where it doesn't."""
        found = self._image.info.get("dpi")
        try:
            return float(found[0]) if isinstance(found, tuple) else None
        except (TypeError, ValueError, ZeroDivisionError, IndexError):
            return None

    def render(self, index: int, dpi: float) -> tuple[Rendered, int]:  # noqa: ARG002 pixels are as they are
        """Decode a frame; returns its file, too. Raises `ApiError`."""
        try:
            return self._decoded(index)
        except Exception as error:
            if isinstance(error, ApiError) or limits.ran_out(error):
                raise
            reason = _reason(error)
            raise ApiError(422, "invalid_image", f"page {index + 1} can't be decoded: {reason}") from error

    def _decoded(self, index: int) -> tuple[Rendered, int]:
        self._image.seek(self._places[index])
        width, height = self._image.size
        if width * height > self._max_pixels or max(width, height) > MAX_SIDE:
            raise ApiError(
                413,
                "image_too_large",
                f"page {index + 1} has {width} x {height} pixels; {self._max_pixels} in all and {MAX_SIDE} a side are "
                "allowed: scale it down",
            )
        picture = pixels.page(self._image, self._file, self._max_pixels)
        fd = messages.create_file()
        try:
            with os.fdopen(os.dup(fd), "wb") as file:
                picture.save(file, "BMP")
            messages.seal(fd)
        except BaseException:
            os.close(fd)
            raise
        return Rendered(index, picture.width, picture.height, None), fd


def _reason(error: Exception) -> str:
    """Return what a decoder says: OSError, EOFError, SyntaxError, ValueError, struct.error and more, for damage."""
    return str(error)[:200] or type(error).__name__
