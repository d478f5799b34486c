"""`POST /ocr-pdf` and `POST /pdf-to-images`: documents, as clients of DeepSeek-OCR-WebUI send them.

`POST /ocr` reads documents, too; here their answer has the shape that those clients read.
"""

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from typing import Any, Final

import msgspec
from aiohttp import web
from msgspec import Struct

from ocr_inference.api import compatible, reading
from ocr_inference.api.appkeys import respond
from ocr_inference.api.ocr import ocr, whole
from ocr_inference.api.openapi.operations import Tag, documented, json
from ocr_inference.api.schema import DocumentAnswer, OcrAnswer, OcrRequest
from ocr_inference.documents import png
from ocr_inference.documents.document import Document
from ocr_inference.documents.page import PageFault, PageImage
from ocr_inference.errors import ApiError

UNREAD: Final = "(this page could not be read)"
"""Text of such a page in the text of the whole."""


class PdfPage(Struct, frozen=True, kw_only=True):
    page: int
    """From 1."""
    text: str
    raw_text: str
    error: str | None = None
    """Why it couldn't be read."""


class PdfAnswer(Struct, frozen=True, kw_only=True):
    success: bool = True
    filename: str
    page_count: int
    """Pages that the document has, also those that weren't requested."""
    pages: tuple[PdfPage, ...]
    merged_text: str
    """Texts of the pages, each after a line with its number."""
    errors: tuple[str, ...] = ()
    """What is missing, in words."""
    metadata: dict[str, Any]


@documented(
    "Read a document, answered as DeepSeek-OCR-WebUI's clients read it",
    tag=Tag.READ,
    takes=ocr.DOCUMENT,
    answers=json(PdfAnswer),
)
async def ocr_pdf(request: web.Request) -> web.Response:
    """Read a document, or a picture, which is one page."""
    async with ocr.received(request) as (upload, file):
        reader = reading.Reader.of(request.app, compatible.parse_ocr(upload.fields))
        return respond(answer(await ocr.answer(reader, file), upload.filename))


def answer(read: OcrAnswer, filename: str) -> PdfAnswer:
    """Make the answer of a document from that of `POST /ocr`."""
    document = read if isinstance(read, DocumentAnswer) else whole.of_picture(read)
    pages = tuple(
        PdfPage(
            page=page.index + 1,
            text=page.text,
            raw_text=page.raw_text,
            error=None if page.error is None else page.error.message,
        )
        for page in document.pages
    )
    return PdfAnswer(
        filename=filename,
        page_count=document.page_count,
        pages=pages,
        merged_text="\n".join(
            f"--- Page {page.page} ---\n{page.text if page.error is None else UNREAD}\n" for page in pages
        ),
        errors=document.errors,
        metadata=document.metadata,
    )


# --- pages as pictures ----------------------------------------------------------------------------------------


class DrawnPage(Struct, frozen=True, kw_only=True):
    data: str
    """Data URL of a PNG."""
    name: str
    width: int
    height: int
    page_number: int
    """From 1."""


class DrawnPages(Struct, frozen=True, kw_only=True):
    """Pages as pictures, as `_sent` writes them."""

    success: bool
    images: tuple[DrawnPage, ...]
    page_count: int
    """Pages that the document has, also those that weren't requested."""
    original_filename: str
    errors: tuple[str, ...]
    """Pages that couldn't be drawn, in words."""


@documented("Draw the pages of a document", tag=Tag.READ, takes=ocr.DOCUMENT, answers=json(DrawnPages))
async def pdf_to_images(request: web.Request) -> web.StreamResponse:
    """Answer the pages of a document as pictures, one after the other: all of them at once may take gigabytes."""
    async with ocr.received(request) as (upload, file):
        asked = compatible.parse_ocr(upload.fields)
        async with reading.opened(request.app, file) as opened, aclosing(_images(opened, asked)) as images:
            return await _sent(request, images, opened.count, upload.filename)


async def _images(opened: Document, asked: OcrRequest) -> AsyncGenerator[DrawnPage | PageFault]:
    if not opened.is_rendered:
        raise ApiError(
            415, "unsupported_media_type", "this is a picture already; a PDF is expected here", param="file"
        )
    async with aclosing(opened.pages(asked.pages, asked.dpi)) as pages:
        async for page in pages:
            if isinstance(page, PageFault):
                yield page
                continue
            with page.file:
                yield await asyncio.to_thread(_image, page)


def _image(page: PageImage) -> DrawnPage:
    with page.file.open() as file:
        data = base64.b64encode(png.packed(file)).decode()
    return DrawnPage(
        data=f"data:image/png;base64,{data}",
        name=f"page_{page.index + 1}.png",
        width=page.width,
        height=page.height,
        page_number=page.index + 1,
    )


async def _sent(
    request: web.Request, images: AsyncIterator[DrawnPage | PageFault], page_count: int, filename: str
) -> web.StreamResponse:
    """Send the answer; its head goes with the first picture. Raises the first page's error where there is none."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    faults: list[PageFault] = []
    with suppress(ConnectionError):  # a client that has left
        async for image in images:
            if isinstance(image, PageFault):
                faults.append(image)
                continue
            begun = response.prepared
            if not begun:
                await response.prepare(request)
            await response.write(
                (b"," if begun else b'{"success":true,"images":[') + msgspec.json.encode(image)
            )
        if not response.prepared:
            raise faults[0].error
        rest = {
            "page_count": page_count,
            "original_filename": filename,
            "errors": [whole.of_fault(each.index, each.error) for each in faults],
        }
        await response.write(b"]," + msgspec.json.encode(rest)[1:])
    return response
