"""Documents of many pages, read page by page: a PDF, a TIFF of a scanner, an animation, or one picture.

    async with document.opened(file, Limits(max_pages=200, max_pixels=100_000_000)) as opened:
        async with aclosing(opened.pages(Selection.parse("1-3,7"), dpi=144)) as pages:
            async for page in pages:
                match page:
                    case PageImage():
                        with page.file: ...
                    case PageFault(index, error): ...

Pages are pulled: while one is read, the next one is rendered, and no more, so nothing grows with the document's length.
A page that can't be rendered is a fault in its place, also where it takes its renderer with it: the others are read.
A single picture of a usual format is its own page, as it was sent.
"""

import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Final, Protocol

from ocr_inference.documents import images, kinds
from ocr_inference.documents.headers import Picture
from ocr_inference.documents.page import DPI, MAX_DPI, MIN_DPI, Limits, PageFault, PageImage
from ocr_inference.documents.places import Places
from ocr_inference.documents.restarting import Restarting
from ocr_inference.documents.selection import ALL, Selection
from ocr_inference.errors import ApiError
from ocr_inference.protocol.page import FORMATS
from ocr_inference.protocol.page_file import PageFile

KNOWN: Final = (*FORMATS, *kinds.CONVERTED, kinds.PDF)
"""Formats that are read."""


class _Source(Protocol):
    async def page(self, index: int, dpi: float, following: int | None) -> PageImage | PageFault:
        """Return a page; `following` is the next one that is going to be asked for."""


class Document:
    """Document that is open."""

    def __init__(self, kind: str, count: int, source: _Source, limits: Limits) -> None:
        self.kind: Final = kind
        """`PDF`, or the picture's format as Pillow names it."""
        self.count: Final = count
        """How many pages it has."""
        self._source = source
        self._limits = limits

    @property
    def is_rendered(self) -> bool:
        """Whether a process renders its pages; else the file is its own and only page."""
        return not isinstance(self._source, _Single)

    def pages(self, selection: Selection = ALL, dpi: float = DPI) -> AsyncGenerator[PageImage | PageFault]:
        """Yield the selected pages, in order; one such generator may run at a time.

        `dpi` is for PDFs; pictures have the pixels that they have. Raises `ApiError` for a selection or a resolution
        that isn't possible, before anything is rendered.
        """
        return self._pages(self.indices(selection, dpi), dpi)

    def indices(self, selection: Selection = ALL, dpi: float = DPI) -> tuple[int, ...]:
        """Return which pages `pages` would yield, from 0; raises what it raises."""
        if not MIN_DPI <= dpi <= MAX_DPI:
            message = f"dpi is {dpi:g}; {MIN_DPI} to {MAX_DPI} are possible"
            raise ApiError(422, "invalid_value", message, param="dpi")
        return selection.indices(self.count, self._limits.max_pages)

    async def _pages(self, indices: tuple[int, ...], dpi: float) -> AsyncGenerator[PageImage | PageFault]:
        for index, following in zip(indices, (*indices[1:], None), strict=True):
            yield await self._source.page(index, dpi, following)


class _Single:
    """Picture that workers decode: its own page."""

    def __init__(self, file: PageFile, picture: Picture) -> None:
        self._file = file
        self._picture = picture

    async def page(self, index: int, dpi: float, following: int | None) -> PageImage | PageFault:  # noqa: ARG002
        return PageImage(index, self._file.share(), self._picture.width, self._picture.height)


@asynccontextmanager
async def opened(
    file: PageFile, limits: Limits, param: str = "file", places: Places | None = None
) -> AsyncIterator[Document]:
    """Open a document, which is complete and stays the caller's. Raises `ApiError` that names `param` where nothing
    of it can be read: 413, 415, 422, or 503 where the system has no process or descriptor left. With `places`, a
    process that renders it takes one of them."""
    kind = kinds.of_head(os.pread(file.fileno(), kinds.HEAD_BYTES, 0))
    if kind is None:
        picture = await images.check(file, limits.max_pixels, param, KNOWN)
        if len(picture.frames) == 1:
            yield Document(picture.format, 1, _Single(file, picture), limits)
            return
        kind = picture.format
    async with nullcontext() if places is None else places.taken():
        source = Restarting(kind, file, limits, param)
        try:
            count = await source.start()
            if count == 0:
                raise ApiError(422, "empty_document", "the document has no pages", param=param)
            yield Document(kind, count, source, limits)
        finally:
            await source.close()
