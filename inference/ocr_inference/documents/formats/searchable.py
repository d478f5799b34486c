"""PDFs that can be searched: pages of PDFs as they are, or pictures, each with its texts as an invisible layer.

qpdf (by pikepdf) copies pages without looking at what they show, so they stay vector graphics, and memory doesn't grow
with it. PDFium says where a picture's pixels are on the page, since it drew the picture, and where the page has text of
its own, which gets no second one. A page that can't be copied is drawn.

Native code: only `documents.exporter` imports this, in the process made for one file.
"""

import contextlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, Protocol

import pikepdf
from pikepdf import Dictionary, Name, Stream

from ocr_inference.documents import own_text
from ocr_inference.documents.formats import layer, parsing, pictures, plain
from ocr_inference.documents.formats.font import Font
from ocr_inference.documents.formats.layer import Affine
from ocr_inference.documents.formats.page import ReadPage
from ocr_inference.documents.formats.pictures import Packed
from ocr_inference.documents.frames import Frames
from ocr_inference.documents.pdf import Pdf
from ocr_inference.errors import ApiError
from ocr_inference.protocol.page import PlacedText

DRAWN_DPI: Final = 150.0
"""Of pages that can't be copied."""


@dataclass(frozen=True)
class Source:
    """Document that pages come from."""

    fd: int
    is_pdf: bool


Place = tuple[int, int]
"""Number of a source, and of a page in it, both from 0."""


def write(
    pages: Iterable[ReadPage],
    order: Sequence[Place],
    sources: Sequence[Source],
    out: BinaryIO,
    *,
    max_pixels: int,
    title: str = "",
) -> None:
    """Write the pages, of which `order` says where each comes from. Raises `ApiError` where one can't be shown."""
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(contextlib.closing(_opened(source, max_pixels))) for source in sources]
        whole = _whole(opened, order)
        pdf = whole or stack.enter_context(pikepdf.new())
        font = Font(pdf)
        for number, ((source, index), page) in enumerate(zip(order, pages, strict=True)):
            shown = Shown(pdf.pages[number]) if whole else opened[source].add(pdf, index)
            if content := opened[source].layer(shown, index, page, font):
                _put(pdf, shown.page, content, font)
        font.finish()
        if title and not whole:
            pdf.docinfo[Name.Title] = title
        pdf.save(out, deterministic_id=True)


def _whole(opened: Sequence["_Opened"], order: Sequence[Place]) -> pikepdf.Pdf | None:
    """Return the only document without the pages that aren't wanted: it keeps its outline and all else that belongs to
    no page. None where there are several, or their order is another one."""
    indices = [index for _, index in order]
    if len(opened) != 1 or not isinstance(opened[0], _Pdf) or sorted(set(indices)) != indices:
        return None
    pdf = opened[0].pdf
    if pdf is None or indices[-1] >= len(pdf.pages):
        return None
    kept = set(indices)
    for index in reversed(range(len(pdf.pages))):
        if index not in kept:
            del pdf.pages[index]
    return pdf


def _put(pdf: pikepdf.Pdf, page: pikepdf.Page, content: bytes, font: Font) -> None:
    """Put a layer below what a page shows, where nothing that the page does to its coordinates reaches it."""
    resources = page.obj.get(Name.Resources)
    if not isinstance(resources, Dictionary):
        resources = page.obj[Name.Resources] = Dictionary()
    if Name.Font in resources and not isinstance(resources[Name.Font], Dictionary):
        del resources[Name.Font]  # no font can be found there
    for name, each in font.resources.items():
        page.add_resource(each, Name.Font, Name(f"/{name}"), replace_existing=True)
    page.contents_add(Stream(pdf, content), prepend=True)


@dataclass(frozen=True)
class Shown:
    """Page of the file that is written."""

    page: pikepdf.Page
    size: tuple[float, float] | None = None
    """Of a picture, in points; None of a page that was copied."""


class _Opened(Protocol):
    def add(self, pdf: pikepdf.Pdf, index: int) -> Shown:
        """Add a page to the file; raises `ApiError`."""

    def layer(self, shown: Shown, index: int, page: ReadPage, font: Font) -> bytes:
        """Return what is put over it."""

    def close(self) -> None: ...


def _opened(source: Source, max_pixels: int) -> _Opened:
    return (_Pdf if source.is_pdf else _Picture)(source.fd, max_pixels)


class _Picture:
    """Picture, or several in one file."""

    def __init__(self, fd: int, max_pixels: int) -> None:
        self._frames = Frames(fd, max_pixels)
        self._fd = fd

    def add(self, pdf: pikepdf.Pdf, index: int) -> Shown:
        packed = pictures.jpeg(self._fd) if self._frames.count == 1 else None
        return _drawn(pdf, packed or _packed(self._frames, index, DRAWN_DPI), self._frames.dpi)

    def layer(self, shown: Shown, index: int, page: ReadPage, font: Font) -> bytes:  # noqa: ARG002
        if shown.size is None or page.image_dims is None:
            return b""
        return layer.content(texts(page), over(shown.size, page), font)

    def close(self) -> None:
        self._frames.close()


class _Pdf:
    """PDF, opened by both libraries; either may fail with it."""

    def __init__(self, fd: int, max_pixels: int) -> None:
        self._drawn = Pdf(fd, max_pixels)
        self.pdf: pikepdf.Pdf | None = None
        with contextlib.suppress(pikepdf.PdfError, ValueError):
            self.pdf = pikepdf.open(f"/proc/self/fd/{fd}")

    def add(self, pdf: pikepdf.Pdf, index: int) -> Shown:
        if self.pdf is not None and index < len(self.pdf.pages):
            pdf.pages.append(self.pdf.pages[index])
            return Shown(pdf.pages[-1])
        return _drawn(pdf, _packed(self._drawn, index, DRAWN_DPI), DRAWN_DPI)

    def layer(self, shown: Shown, index: int, page: ReadPage, font: Font) -> bytes:
        if page.image_dims is None:
            return b""
        if shown.size is not None:
            return layer.content(texts(page), over(shown.size, page), font)
        try:
            with self._drawn.page(index) as native:
                size = page.image_dims
                to_points = own_text.to_points(native, size.w, size.h)
                found = texts(page)
                if page.lines:
                    found = list(own_text.without_own(native, found, to_points))
                elif 2 * own_text.count(native) >= len(page.text):
                    found = []
                return layer.content(found, to_points, font)
        except ApiError:
            return b""  # a page that was read can be opened, so this one wasn't

    def close(self) -> None:
        self._drawn.close()
        if self.pdf is not None:
            self.pdf.close()


class _Renders(Protocol):
    def render(self, index: int, dpi: float) -> tuple[Any, int]: ...


def _packed(document: _Renders, index: int, dpi: float) -> Packed:
    _, fd = document.render(index, dpi)
    try:
        return pictures.packed(fd)
    finally:
        os.close(fd)


def _drawn(pdf: pikepdf.Pdf, packed: Packed, dpi: float | None) -> Shown:
    return Shown(*pictures.add(pdf, packed, dpi))


def over(size: tuple[float, float], page: ReadPage) -> Affine:
    """Return the map from the pixels in which a page was read to the points of a picture of it."""
    assert page.image_dims is not None
    width, height = size
    return Affine(width / page.image_dims.w, 0.0, 0.0, -height / page.image_dims.h, 0.0, height)


def texts(page: ReadPage) -> list[PlacedText]:
    """Return the texts of a page with their places, without marks of Markdown; all of it on the whole page where it has
    none."""
    if page.image_dims is None or page.error is not None:
        return []
    if not page.lines:
        text = plain.written(parsing.blocks(page))
        return [layer.whole(text, page.image_dims.w, page.image_dims.h)]
    if page.is_escaped:
        return list(page.lines)
    return [PlacedText(plain.written(parsing.parsed(each.text)), each.corners) for each in page.lines]
