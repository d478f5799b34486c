"""Pages as pictures, for lists and viewers: `GET /v1/jobs/{id}/pages/{page}/image`, and the same of `/v1/files`; how
many pages a kept document has: `GET /v1/files/{id}/pages`.

A document never changes under its id, so a browser keeps what it got, and asks again at no cost.
"""

from typing import Final

from aiohttp import web
from msgspec import Struct

from ocr_inference.api import reading
from ocr_inference.api.appkeys import FILES, JOBS, PLACES, respond
from ocr_inference.api.jobs import found
from ocr_inference.api.openapi.operations import FILE, Content, Field, Tag, documented, json
from ocr_inference.documents import previews
from ocr_inference.documents.previews import MAX_WIDTH, MIN_WIDTH
from ocr_inference.documents.selection import MAX_PAGE
from ocr_inference.errors import ApiError
from ocr_inference.protocol.page_file import PageFile
from ocr_wire import numbers

WIDTH: Final = 800
_WIDTHS: Final = {
    "width": Field(
        {"type": "integer", "minimum": MIN_WIDTH, "maximum": MAX_WIDTH, "default": WIDTH},
        "pixels; a picture is never made larger than it is",
    )
}
_JPEG: Final[Content] = {"image/jpeg": FILE}
_KEPT: Final = "private, max-age=3600"


@documented(
    "A page of a job's document as a picture", tag=Tag.JOBS, query=_WIDTHS, answers=_JPEG, others={304: {}}
)
async def of_job(request: web.Request) -> web.Response:
    view = found.with_results(request, request.match_info["id"])
    file = request.app[JOBS].document(view.job.id)
    if file is None:
        raise ApiError(410, "document_gone", f"the document of {view.job.id} had to make way for others")
    return await _picture(request, view.job.id, file)


@documented(
    "A page of a kept document as a picture", tag=Tag.FILES, query=_WIDTHS, answers=_JPEG, others={304: {}}
)
async def of_file(request: web.Request) -> web.Response:
    id_ = request.match_info["id"]
    return await _picture(request, id_, request.app[FILES].opened(id_, "id"))


class PageCount(Struct, frozen=True):
    id: str
    """Of the file."""
    page_count: int


@documented("How many pages a kept document has", tag=Tag.FILES, answers=json(PageCount))
async def count_of_file(request: web.Request) -> web.Response:
    id_ = request.match_info["id"]
    with request.app[FILES].opened(id_, "id") as file:
        async with reading.opened(request.app, file, "id") as opened:
            return respond(PageCount(id_, opened.count))


async def _picture(request: web.Request, id_: str, file: PageFile) -> web.Response:
    """Answer a page; closes the file. Raises `ApiError`."""
    with file:
        page = _number(request.match_info["page"], 1, MAX_PAGE, "page")
        width = _number(request.query.get("width", str(WIDTH)), MIN_WIDTH, MAX_WIDTH, "width")
        tag = f'"{id_}-{page}-{width}"'
        headers = {"ETag": tag, "Cache-Control": _KEPT}
        if tag in (each.strip() for each in request.headers.get("If-None-Match", "").split(",")):
            return web.Response(status=304, headers=headers)
        if request.method == "HEAD":
            return web.Response(headers=headers, content_type="image/jpeg")
        async with request.app[PLACES].taken():
            jpeg = await previews.preview(file, page - 1, width, reading.bounds(request.app).max_pixels)
    return web.Response(body=jpeg, headers=headers, content_type="image/jpeg")


def _number(text: str, least: int, most: int, param: str) -> int:
    number = numbers.whole(text, least, most)
    if number is None:
        message = f"{param} is a whole number from {least} to {most}; got {text[:40]!r}"
        raise ApiError(422, "invalid_value", message, param=param)
    return number
