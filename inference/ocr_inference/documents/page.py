"""Page of a document, as it comes out of one: a picture, or why there is none."""

from dataclasses import dataclass
from typing import Final

from ocr_inference.errors import ApiError
from ocr_inference.protocol.page_file import PageFile

DPI: Final = 144
"""Resolution at which the authors of DeepSeek-OCR render pages; body text is then about 30 px high."""
MIN_DPI: Final = 36
MAX_DPI: Final = 600


@dataclass(frozen=True)
class PageImage:
    """Page as a picture."""

    index: int
    """From 0, in the document."""
    file: PageFile
    """The picture, in a format that workers decode; the receiver closes it."""
    width: int
    height: int
    dpi: float | None = None
    """Of a PDF's page: less than requested where the page is too large for that."""


@dataclass(frozen=True)
class PageFault:
    """Page that can't be read."""

    index: int
    error: ApiError


@dataclass(frozen=True)
class Limits:
    """Bounds of a document."""

    max_pages: int
    """Of those requested."""
    max_pixels: int
    """Of a page."""
