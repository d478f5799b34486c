"""JPEG pictures without their end marker, as interrupted transfers and some cameras leave them.

Pillow refuses each, also one whose pixels are complete; its switch takes all of them, also one whose lower half is
missing. Here the marker is supplied where at most the last rows can be missing.
"""

from typing import IO, BinaryIO, Final, cast

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from ocr_inference.documents import headers

_END: Final = b"\xff\xd9"
_MISSING_ROWS, _LOOKED_AT_ROWS = 48, 16
"""Rows from the bottom that may be missing, which are the last ones that a decoder holds back, and those above that
have to be there."""
_MARK: Final = 1
"""A colour that no row of a JPEG has throughout: black, but for a trace."""
_LEAST_SCANS: Final = 5
"""Scans of a progressive picture that have to begin: then each pixel has most of its colour and detail."""


def load(file: BinaryIO) -> Image.Image:
    """Decode a JPEG whose end marker is missing; raises `OSError` for one that misses more."""
    file.seek(0)
    scans = headers.scans(file.read())
    file.seek(0)
    supplied = _Supplied(file)
    image = Image.open(cast("IO[bytes]", supplied), formats=("JPEG",))
    assert isinstance(image, JpegImageFile)
    supplied.begin(image, scans)
    image.load()
    return image


class _Supplied:
    """File that has an end marker behind its end, where the picture that is decoded from it is nearly complete."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._image: JpegImageFile | None = None
        self._scans = 0
        self._strip: tuple[int, int, int, int] | None = None
        self._ended = False

    def begin(self, image: JpegImageFile, scans: int) -> None:
        """Watch this picture's rows, from the first read on."""
        self._image, self._scans = image, scans

    def read(self, size: int = -1) -> bytes:
        if self._image is not None and self._strip is None:
            self._mark(self._image)
        data = self._file.read(size)
        if data or self._image is None or self._ended or not self._is_nearly_complete(self._image):
            return data
        self._ended = True
        return _END

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def _mark(self, image: JpegImageFile) -> None:
        bottom = image.height - _MISSING_ROWS
        self._strip = (0, max(0, bottom - _LOOKED_AT_ROWS), image.width, max(0, bottom))
        if bottom > 0:
            bands = len(image.getbands())
            image.im.paste((_MARK,) * bands if bands > 1 else _MARK, self._strip)

    def _is_nearly_complete(self, image: JpegImageFile) -> bool:
        if self._scans > 1:
            # Rows come when all scans are there.
            return self._scans >= _LEAST_SCANS
        assert self._strip is not None
        if self._strip[3] <= 0:
            return False
        # Rows that weren't decoded are as they were marked.
        rows = image.im.crop(self._strip)
        bands = [rows.getband(index) for index in range(rows.bands)] if rows.bands > 1 else [rows]
        return any(band.getextrema() != (_MARK, _MARK) for band in bands)
