"""Files made of pages' results, and sent.

Markdown and JSON are written page by page from what is kept. All else is made by a process of its own, which takes a
place among those that render; the file takes part in the memory that uploads have (`OCR_UPLOAD_MEMORY`) until it is
sent.
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import msgspec
from aiohttp import web
from msgspec import structs

from ocr_inference.api import reading
from ocr_inference.api.appkeys import BODIES, JOBS, PLACES
from ocr_inference.api.exports import names
from ocr_inference.api.openapi.operations import FILE, OBJECT, Content
from ocr_inference.documents import exporting, kinds
from ocr_inference.documents.exporter import Order, Origin
from ocr_inference.documents.formats import markdown
from ocr_inference.documents.formats import page as pages
from ocr_inference.documents.formats.kinds import MADE_APART, MEDIA, SUFFIXES, Format
from ocr_inference.errors import ApiError
from ocr_inference.protocol.page_file import PageFile

SPARE_BYTES: Final = 8 << 20
COPIED, PACKED = 1.25, 4.0
"""How many times larger a file may become than the PDFs and the pictures that its pages come from: pages of PDFs are
copied, and a fax's pages are packed better than those that any viewer shows."""
FILES: Final[Content] = {
    media.partition(";")[0]: OBJECT if format_ is Format.JSON else FILE for format_, media in MEDIA.items()
}
"""Answers that are files, for OpenAPI."""


@dataclass(frozen=True)
class Chosen:
    """Page that is wanted."""

    job: str
    index: int
    """From 0, in its document."""
    result: bytes


async def send(
    request: web.Request,
    format_: Format,
    chosen: Sequence[Chosen],
    name: str,
    as_json: Callable[[], Iterable[bytes]],
) -> web.StreamResponse:
    """Make the file and send it. `as_json` yields it where JSON is wanted. Raises `ApiError`."""
    headers = {"Content-Disposition": names.disposition(name, SUFFIXES[format_])}
    response = web.StreamResponse(headers={**headers, "Content-Type": MEDIA[format_]})
    if request.method == "HEAD":
        await response.prepare(request)
        return response
    if format_ not in MADE_APART:
        await _write(request, response, as_json() if format_ is Format.JSON else _markdown(chosen))
        return response
    with ExitStack() as files:
        origins = _origins(request.app, chosen, files) if format_ is Format.PDF else {}
        order = _order(format_, chosen, origins, reading.bounds(request.app).max_pixels)
        async with request.app[BODIES].admitted(order.max_bytes) as reserved:
            order = structs.replace(order, max_bytes=reserved.size, title=names.stem(name))
            out = files.enter_context(reserved.file())
            async with request.app[PLACES].taken():
                results = (each.result for each in chosen)
                await exporting.make(order, results, tuple(origins.values()), out)
            reserved.shrink(out.size)
            response.content_length = out.size
            await _write(request, response, out.pieces())
    return response


async def _write(request: web.Request, response: web.StreamResponse, pieces: Iterable[bytes]) -> None:
    """Send pieces as they are made, in turns: a client that takes them at once would leave no pause between them."""
    await response.prepare(request)
    work = request.app[BODIES].turns.work()
    for piece in pieces:
        await response.write(piece)
        await work.pause()


def _markdown(chosen: Sequence[Chosen]) -> Iterator[bytes]:
    for piece in markdown.pieces(pages.decode(each.result) for each in chosen):
        yield piece.encode()


def _origins(app: web.Application, chosen: Sequence[Chosen], files: ExitStack) -> dict[str, PageFile]:
    """Return the documents that pages come from, by job; raises 410 where one is gone."""
    found: dict[str, PageFile] = {}
    for each in chosen:
        if each.job in found:
            continue
        file = app[JOBS].document(each.job)
        if file is None:
            raise ApiError(
                410,
                "document_gone",
                f"the document of {each.job} had to make way for others, and a PDF has its pages: send it again, or "
                "choose another format",
            )
        found[each.job] = files.enter_context(file)
    return found


def _order(format_: Format, chosen: Sequence[Chosen], origins: dict[str, PageFile], max_pixels: int) -> Order:
    numbers = {job: number for number, job in enumerate(origins)}
    return Order(
        format=format_,
        max_pixels=max_pixels,
        max_bytes=SPARE_BYTES
        + sum(len(each.result) for each in chosen)
        + sum(_most_bytes(file) for file in origins.values()),
        origins=tuple(Origin(_is_pdf(file)) for file in origins.values()),
        places=tuple((numbers[each.job], each.index) for each in chosen) if origins else (),
    )


def _most_bytes(file: PageFile) -> int:
    """Return what the pages of a document may take in the file."""
    return math.ceil(file.size * (COPIED if _is_pdf(file) else PACKED))


def _is_pdf(file: PageFile) -> bool:
    return kinds.of_head(os.pread(file.fileno(), kinds.HEAD_BYTES, 0)) == kinds.PDF


def with_job(each: Chosen) -> bytes:
    """Return a page's result with its job."""
    return msgspec.json.encode({"job": each.job})[:-1] + b"," + each.result[1:]
