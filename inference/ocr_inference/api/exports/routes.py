"""`POST /v1/exports`: pages of jobs, in the order in which they are wanted, as one file."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Final

from aiohttp import web
from msgspec import Meta, Struct

from ocr_inference.api import forms, jsonbody
from ocr_inference.api.appkeys import BODIES, JOBS
from ocr_inference.api.exports import making
from ocr_inference.api.exports.making import Chosen
from ocr_inference.api.jobs import found
from ocr_inference.api.openapi.operations import Tag, documented, json
from ocr_inference.documents.formats.kinds import Format
from ocr_inference.documents.selection import MAX_PAGE
from ocr_inference.errors import ApiError

MAX_PAGES: Final = 5000
MAX_BYTES: Final = 1 << 20


class ExportPage(Struct, frozen=True, forbid_unknown_fields=True):
    job: Annotated[str, Meta(max_length=found.MAX_ID)]
    page: Annotated[int, Meta(ge=1, le=MAX_PAGE)]
    """From 1, in the job's document."""


class ExportBody(Struct, frozen=True, forbid_unknown_fields=True):
    format: Format
    pages: Annotated[tuple[ExportPage, ...], Meta(min_length=1, max_length=MAX_PAGES)]
    """In their order; a page may come more than once."""
    filename: Annotated[str, Meta(max_length=forms.MAX_FILENAME)] = ""
    """Of the file; its end follows from the format."""


@documented(
    "Make one file of pages of jobs",
    tag=Tag.JOBS,
    takes=json(ExportBody),
    answers=making.FILES,
)
async def export(request: web.Request) -> web.StreamResponse:
    forms.json_size(request, MAX_BYTES)
    body = jsonbody.decode(await forms.read_body(request, MAX_BYTES), ExportBody)
    chosen, work = [], request.app[BODIES].turns.work()
    for number, each in enumerate(body.pages):
        chosen.append(_chosen(request, number, each))
        await work.pause()
    return await making.send(request, body.format, chosen, body.filename, lambda: _json(chosen))


def _chosen(request: web.Request, number: int, wanted: ExportPage) -> Chosen:
    param = f"pages[{number}]"
    view = found.with_results(request, wanted.job, f"{param}.job")
    jobs, index = request.app[JOBS], wanted.page - 1
    indices = jobs.indices(view.job.id)
    if index not in indices:
        message = f"page {wanted.page} isn't among the pages that {view.job.id} was asked for"
        raise ApiError(404, "no_such_page", message, param=f"{param}.page")
    result = jobs.result(view.job.id, indices.index(index))
    if result is None:
        message = f"page {wanted.page} of {view.job.id} isn't read yet: wait for the job, or leave it out"
        raise ApiError(409, "page_unread", message, param=f"{param}.page")
    return Chosen(view.job.id, index, result)


def _json(chosen: Sequence[Chosen]) -> Iterator[bytes]:
    yield b'{"pages":['
    for number, each in enumerate(chosen):
        yield (b"," if number else b"") + making.with_job(each)
    yield b"]}"
