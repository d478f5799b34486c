"""Text that a page of a PDF has already, and where its picture's pixels are on it. Native code, as `pdf`."""

import ctypes
from collections.abc import Iterable, Iterator
from typing import Any, Final

from pypdfium2 import raw

from ocr_inference.documents.formats.layer import Affine, Point
from ocr_inference.protocol.page import PlacedText

_FINER: Final = 16
"""Steps within a pixel: PDFium takes whole numbers."""
_INNER: Final = 0.25
"""Of a place's height, at its top and bottom, where the lines beside it may reach."""


def to_points(page: Any, width: int, height: int) -> Affine:
    """Return the map from pixels of the page's picture, which has that size, to points: rotation, crop and all, since
    PDFium drew the picture."""
    size = width * _FINER, height * _FINER
    origin, right, below = (_point(page, size, at) for at in ((0, 0), (size[0], 0), (0, size[1])))
    return Affine(
        (right[0] - origin[0]) / width,
        (right[1] - origin[1]) / width,
        (below[0] - origin[0]) / height,
        (below[1] - origin[1]) / height,
        *origin,
    )


def without_own(page: Any, texts: Iterable[PlacedText], map_: Affine) -> Iterator[PlacedText]:
    """Yield the texts in whose places the page has none of its own: it would be found twice."""
    opened = raw.FPDFText_LoadPage(page)
    if not opened:
        yield from texts
        return
    try:
        has_any = raw.FPDFText_CountChars(opened) > 0
        for text in texts:
            if not (has_any and _has_text(opened, [map_(corner) for corner in _inner(text)])):
                yield text
    finally:
        raw.FPDFText_ClosePage(opened)


def count(page: Any) -> int:
    """Return how many characters a page has itself."""
    opened = raw.FPDFText_LoadPage(page)
    if not opened:
        return 0
    try:
        return max(0, int(raw.FPDFText_CountChars(opened)))
    finally:
        raw.FPDFText_ClosePage(opened)


def _inner(text: PlacedText) -> list[Point]:
    first, second, third, fourth = text.corners
    return [
        (a[0] + (b[0] - a[0]) * _INNER, a[1] + (b[1] - a[1]) * _INNER)
        for a, b in ((first, fourth), (second, third), (third, second), (fourth, first))
    ]


def _has_text(opened: Any, corners: list[Point]) -> bool:
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    place = min(xs), max(ys), max(xs), min(ys)
    length = raw.FPDFText_GetBoundedText(opened, *place, None, 0)
    if length <= 0:
        return False
    buffer = (ctypes.c_ushort * length)()
    raw.FPDFText_GetBoundedText(opened, *place, buffer, length)
    return bool(bytes(buffer).decode("utf-16-le", "replace").strip("\0 \r\n\t"))


def _point(page: Any, size: tuple[int, int], at: tuple[int, int]) -> Point:
    x, y = ctypes.c_double(), ctypes.c_double()
    raw.FPDF_DeviceToPage(page, 0, 0, *size, 0, *at, ctypes.byref(x), ctypes.byref(y))
    return x.value, y.value
