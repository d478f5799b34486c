"""Pages of a PDF, drawn by PDFium as a viewer shows them: forms filled in, annotations, layers, rotation and crop.

Native code, and the file may be hostile: only `renderer` imports this, in the process made for one document.
"""

import contextlib
import ctypes
import math
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pypdfium2
from pypdfium2 import raw

from ocr_inference.documents import bitmap, page_tree
from ocr_inference.documents.messages import Rendered
from ocr_inference.errors import ApiError
from ocr_inference.protocol.page import MAX_SIDE

MAX_LOOKED_AT: Final = 10_000
"""Pages of a document that are looked at when it is opened."""
MAX_KEPT_BYTES: Final = 12 << 20
"""Memory that pages may leave behind in this process."""
POINTS_AN_INCH: Final = 72
MAX_DRAWN_PIXELS: Final = 50_000_000
"""Most pixels of a drawn page, 150 MB: A0 at 180 dpi, A4 at 700."""


class Pdf:
    """PDF that is open."""

    def __init__(self, fd: int, max_pixels: int) -> None:
        """Open the file; raises `ApiError`."""
        self._max_pixels = min(max_pixels, MAX_DRAWN_PIXELS)
        self._fd = fd
        self._mended: ctypes.Array[ctypes.c_char] | None = None
        self._document = self._opened()
        self.count: Final = self._with_hidden_pages(len(self._document))
        self._document.init_forms()
        self._base_bytes = _own_bytes()

    def _opened(self) -> Any:
        if self._mended is None:
            # By the system's name of it, so that PDFium reads what it needs, by itself.
            document = raw.FPDF_LoadDocument(f"/proc/self/fd/{self._fd}".encode() + b"\0", None)
        else:
            document = raw.FPDF_LoadMemDocument64(self._mended, len(self._mended), None)
        if document:
            return pypdfium2.PdfDocument(document)
        match raw.FPDF_GetLastError():
            case raw.FPDF_ERR_PASSWORD:
                message = "the PDF asks for a password: send it saved without one"
                raise ApiError(422, "encrypted_pdf", message)
            case raw.FPDF_ERR_SECURITY:
                message = (
                    "the PDF is encrypted in a way that isn't known here: send it saved without encryption"
                )
                raise ApiError(422, "encrypted_pdf", message)
            case _:
                raise ApiError(422, "invalid_pdf", "the PDF is damaged: nothing in it can be read")

    def _with_hidden_pages(self, count: int) -> int:
        """Return how many pages there are, after opening the file as one that counts them all, if it doesn't."""
        absent = sum(not _has_page(self._document, index) for index in range(min(count, MAX_LOOKED_AT)))
        nodes = list(page_tree.nodes(self._fd))
        more = max(absent, page_tree.hidden(nodes, count))
        raised = page_tree.raised(nodes, count, count + more) if more else []
        if not raised:
            return count
        # What is written into it stays in this process.
        mended = mmap.mmap(self._fd, 0, access=mmap.ACCESS_COPY)
        for place, content in raised:
            mended[place : place + len(content)] = content
        self._mended = (ctypes.c_char * len(mended)).from_buffer(mended)
        self._document.close()
        self._document = self._opened()
        last = min(len(self._document), count + more)
        return max([count, *(index + 1 for index in range(count, last) if _has_page(self._document, index))])

    def _forget(self) -> None:
        """Open the file anew where much of it is in memory: PDFium keeps each stream that it has read, so memory would
        grow with the pages."""
        if _own_bytes() - self._base_bytes < MAX_KEPT_BYTES:
            return
        self._document.close()
        self._document = self._opened()
        self._document.init_forms()
        with contextlib.suppress(AttributeError):  # another C library than glibc
            ctypes.CDLL(None).malloc_trim(0)
        # What is left after that comes back with each page, so it is no reason to open the file anew.
        self._base_bytes = max(self._base_bytes, _own_bytes())

    def close(self) -> None:
        self._document.close()

    def render(self, index: int, dpi: float) -> tuple[Rendered, int]:
        """Draw a page; returns its file, too. A page too large for `dpi` is drawn smaller. Raises `ApiError`."""
        with self.page(index) as page:
            points = page.get_size()
            dpi = fitting(points, dpi, self._max_pixels)
            width, height = (max(1, round(side * dpi / POINTS_AN_INCH)) for side in points)
            with bitmap.drawn(width, height, dpi) as (fd, rows):
                _draw(page, rows, width, height)
                del rows
            return Rendered(index, width, height, round(dpi, 2)), fd

    @contextlib.contextmanager
    def page(self, index: int) -> Iterator[Any]:
        """Open a page that has a size, as pypdfium2 has it; raises `ApiError`."""
        self._forget()
        try:
            page = self._document[index]
        except pypdfium2.PdfiumError:
            raise ApiError(422, "invalid_page", f"page {index + 1} can't be loaded: it is damaged") from None
        try:
            # Not a number neither.
            if not all(0 < side < float("inf") for side in page.get_size()):
                raise ApiError(422, "invalid_page", f"page {index + 1} has no size")
            yield page
        finally:
            page.close()


def fitting(points: tuple[float, float], dpi: float, max_pixels: int) -> float:
    """Return `dpi`, or the most at which a page of that size has at most `max_pixels` and no side too long."""
    width, height = (side / POINTS_AN_INCH for side in points)
    return min(dpi, math.sqrt(max_pixels / (width * height)), MAX_SIDE / max(width, height))


def _own_bytes() -> int:
    """Return the memory of this process that isn't a file's."""
    _, resident, shared, *_ = Path("/proc/self/statm").read_bytes().split()
    return (int(resident) - int(shared)) * mmap.PAGESIZE


def _has_page(document: Any, index: int) -> bool:
    size = raw.FS_SIZEF()
    return bool(raw.FPDF_GetPageSizeByIndexF(document, index, ctypes.byref(size)))


def _draw(page: Any, rows: "ctypes.Array[ctypes.c_char]", width: int, height: int) -> None:
    picture = raw.FPDFBitmap_CreateEx(width, height, raw.FPDFBitmap_BGR, rows, bitmap.row_bytes(width))
    if not picture:
        raise MemoryError("no memory for the page")
    try:
        raw.FPDFBitmap_FillRect(picture, 0, 0, width, height, 0xFFFFFFFF)
        place = (0, 0, width, height, 0, raw.FPDF_ANNOT)
        raw.FPDF_RenderPageBitmap(picture, page, *place)
        if page.formenv is not None:
            # Fields of a form, whose values may have no appearance of their own.
            raw.FPDF_FFLDraw(page.formenv, picture, page, *place)
    finally:
        raw.FPDFBitmap_Destroy(picture)
