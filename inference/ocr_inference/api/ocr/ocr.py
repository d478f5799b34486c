"""`POST /ocr`: one picture or a document in, its text and boxes out."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Final

from aiohttp import web

from ocr_inference.api import compatible, forms, reading
from ocr_inference.api.appkeys import BODIES, CONFIG, MANAGER, respond
from ocr_inference.api.ocr import whole
from ocr_inference.api.openapi.operations import FILE, Field, Tag, documented, form, json
from ocr_inference.api.schema import FIELDS, DocumentAnswer, OcrAnswer
from ocr_inference.errors import ApiError
from ocr_inference.protocol.page_file import PageFile

DOCUMENT: Final = form({"file": Field(FILE, "the picture or document", required=True), **FIELDS})
"""What calls take that read a form."""


@documented(
    "Read a picture or a document",
    tag=Tag.READ,
    description="Fields may stand in the query, too. Those of comparable servers are understood.",
    takes=DOCUMENT,
    answers=json((OcrAnswer, DocumentAnswer)),
)
async def ocr(request: web.Request) -> web.Response:
    async with received(request) as (upload, file):
        reader = reading.Reader.of(request.app, compatible.parse_ocr(upload.fields))
        return respond(await answer(reader, file))


@asynccontextmanager
async def received(request: web.Request) -> AsyncIterator[tuple[forms.Upload, PageFile]]:
    """Read a form with a picture or document, and hold that for the block; raises `ApiError`."""
    limits, manager = request.app[CONFIG].server.limits, request.app[MANAGER]
    manager.refuse_when_full()
    size = forms.upload_size(request, limits.max_upload_bytes)
    async with request.app[BODIES].admitted(size) as reserved:
        manager.refuse_when_full()  # while it waited, too
        with reserved.file() as file:
            upload = await forms.read_upload(request, limits.max_upload_bytes, file.write)
            reserved.shrink(file.size)
            if not upload.has_picture:
                message = "the form has no picture or document: send it in field 'file'"
                raise ApiError(400, "missing_file", message, param="file")
            yield upload, file


async def answer(reader: reading.Reader, file: PageFile, param: str = "file") -> OcrAnswer:
    """Read a picture or a document; raises `ApiError` that names `param`, and what `Reader` raises."""
    async with reading.opened(reader.app, file, param) as opened:
        if not opened.is_rendered:
            opened.indices(reader.asked.pages)  # one that it hasn't is refused
            return await reader.page(file)
        async with aclosing(reader.pages(opened)) as pages:
            read = [page async for page in pages]
        reading.refuse_unread(read)
        return whole.answer(read, opened.count)
