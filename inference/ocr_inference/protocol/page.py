"""Pages: their formats and bounds, and a place on one, as it is answered and as families find it."""

from typing import Final

from msgspec import Struct

FORMATS: Final = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
"""Formats of pages, as Pillow names them: only what scanners and browsers make, since each further decoder is attack
surface. Of animated and multi-page files the first frame is read.
"""

MAX_SIDE: Final = 65_535
"""Most pixels of a side."""


class Box(Struct, frozen=True):
    """Labelled place on a page."""

    label: str
    box: tuple[int, int, int, int]
    """x1, y1, x2, y2 in pixels of the upright picture."""


Corner = tuple[int, int]
"""x, y in pixels of the upright picture."""


class PlacedText(Struct, frozen=True):
    """Text of a page and where it is: a line, or a whole part of the page where a model names no lines."""

    text: str
    corners: tuple[Corner, Corner, Corner, Corner]
    """Clockwise from the text's top left, so that text on its side or askew has its direction."""
