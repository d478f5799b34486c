"""Answers in the shape of Mistral's document OCR: Markdown of each page, and the pictures in it by their places."""

import base64
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from msgspec import UNSET, Struct, UnsetType

from ocr_inference.api.mistral.body import Request
from ocr_inference.api.reading import ReadPage
from ocr_inference.api.schema import OcrAnswer
from ocr_wire.errors import ErrorInfo

PICTURE_DPI: Final = 72
"""Pixels per inch that pictures are said to have, which don't say it themselves: their clients need a number."""
Place = tuple[int, int, int, int]
"""x1, y1, x2, y2 in pixels of the page."""
_FIGURE: Final = re.compile(r"!\[(\w+)\]\(#xywh=(\d{1,6}),(\d{1,6}),(\d{1,6}),(\d{1,6})\)")
"""Picture on a page, as families write it into Markdown."""


class FoundImage(Struct, frozen=True, kw_only=True):
    """Picture on a page, in pixels of the page."""

    id: str
    """As the page's Markdown names it."""
    top_left_x: int
    top_left_y: int
    bottom_right_x: int
    bottom_right_y: int
    image_base64: str | None = None
    """Data URL of a JPEG, where it was asked for."""
    image_annotation: None = None


class PageDimensions(Struct, frozen=True, kw_only=True):
    dpi: int
    height: int
    width: int


class PageOfDocument(Struct, frozen=True, kw_only=True):
    index: int
    """From 0, in the document."""
    markdown: str
    images: tuple[FoundImage, ...]
    dimensions: PageDimensions | None
    error: ErrorInfo | UnsetType = UNSET
    """Why it couldn't be read, where it wasn't."""


class OcrUsage(Struct, frozen=True, kw_only=True):
    pages_processed: int
    doc_size_bytes: int


class DocumentOfPages(Struct, frozen=True, kw_only=True):
    """Answer of `POST /v1/ocr`."""

    pages: tuple[PageOfDocument, ...]
    model: str
    usage_info: OcrUsage
    document_annotation: None = None
    ignored_fields: tuple[str, ...] | UnsetType = UNSET
    """Fields that were sent and have no effect."""


@dataclass(frozen=True)
class Read:
    """Page after it was read, and its pictures as JPEG, in the order of `places`; none where they aren't wanted."""

    answer: OcrAnswer
    parts: tuple[bytes, ...] = ()


def places(answer: OcrAnswer, least: int, most: int) -> tuple[Place, ...]:
    """Return the places of a page's first `most` pictures with sides of at least `least` pixels, as its Markdown has
    them."""
    found = (_place(each, answer, least) for each in _FIGURE.finditer(answer.text))
    return tuple(itertools.islice((place for place in found if place is not None), most))


def counted_from_0(page: ReadPage[Read]) -> ReadPage[Read]:
    """Return a page whose error says its number as this dialect counts."""
    if page.error is None:
        return page
    error, number = page.error.fresh(), f"page {page.index + 1} "
    if error.message.startswith(number):
        error.message = f"page {page.index}, counted from 0, {error.message.removeprefix(number)}"
    return replace(page, error=error)


def whole(pages: Sequence[ReadPage[Read]], asked: Request, model: str, size: int) -> DocumentOfPages:
    """Make the answer of a document of `size` bytes."""
    writer = _Writer(asked.image_min_size, asked.image_limit)
    return DocumentOfPages(
        pages=tuple(writer.page(page) for page in pages),
        model=model,
        usage_info=OcrUsage(
            pages_processed=sum(page.answer is not None for page in pages), doc_size_bytes=size
        ),
        ignored_fields=asked.asked.ignored or UNSET,
    )


@dataclass
class _Writer:
    """Writes the pages of a document; its pictures are numbered through."""

    least: int
    most: int
    count: int = 0

    def page(self, page: ReadPage[Read]) -> PageOfDocument:
        if page.answer is None:
            error = UNSET if page.error is None else page.error.info
            return PageOfDocument(index=page.index, markdown="", images=(), dimensions=None, error=error)
        answer, parts = page.answer.answer, iter(page.answer.parts)
        images: list[FoundImage] = []

        def named(found: re.Match[str]) -> str:
            place = _place(found, answer, self.least)
            if place is None or self.count >= self.most:
                return ""
            left, top, right, bottom = place
            part = next(parts, None)
            name = f"img-{self.count}.jpeg"
            self.count += 1
            images.append(
                FoundImage(
                    id=name,
                    top_left_x=left,
                    top_left_y=top,
                    bottom_right_x=right,
                    bottom_right_y=bottom,
                    image_base64=None if part is None else _data_url(part),
                )
            )
            return f"![{name}]({name})"

        markdown = _FIGURE.sub(named, answer.text)
        dpi = PICTURE_DPI if page.dpi is None else round(page.dpi)
        dimensions = PageDimensions(dpi=dpi, height=answer.image_dims.h, width=answer.image_dims.w)
        return PageOfDocument(
            index=page.index, markdown=markdown, images=tuple(images), dimensions=dimensions
        )


def _place(found: re.Match[str], answer: OcrAnswer, least: int) -> Place | None:
    """Return the place of a picture, within its page; None where it is smaller than `least`."""
    x, y, width, height = (int(found[group]) for group in (2, 3, 4, 5))
    right, bottom = min(x + width, answer.image_dims.w), min(y + height, answer.image_dims.h)
    return (x, y, right, bottom) if min(right - x, bottom - y) >= max(1, least) else None


def _data_url(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
