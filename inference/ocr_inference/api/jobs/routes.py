"""`POST /v1/jobs`: a document to be read in the background; `GET`, `DELETE /v1/jobs/{id}`: what becomes of it.
`GET /v1/jobs`: which ones there are."""

from contextlib import aclosing, suppress
from functools import partial
from typing import Final, Literal

import msgspec
from aiohttp import web
from msgspec import Struct

from ocr_inference.api import compatible, forms, middleware, reading, sse
from ocr_inference.api.appkeys import BODIES, CONFIG, FILES, JOB_WRITER, JOBS, MOST_WATCHES, respond
from ocr_inference.api.exports import making
from ocr_inference.api.exports.making import Chosen
from ocr_inference.api.jobs import found, result
from ocr_inference.api.jobs.view import JobAnswer
from ocr_inference.api.openapi.operations import EVENTS, FILE, Field, Tag, documented, form, json
from ocr_inference.api.schema import FIELDS
from ocr_inference.documents.formats.kinds import Format
from ocr_inference.errors import RETRY_AFTER_SECONDS, ApiError
from ocr_inference.jobs.table import JobsFull
from ocr_inference.jobs.work import View, Work
from ocr_inference.protocol.page_file import PageFile
from ocr_wire import numbers

RETRY_FULL_SECONDS: Final = 30.0


FORM: Final = form(
    {
        "file": Field(FILE, "the picture or document"),
        "file_id": Field({"type": "string", "maxLength": 128}, "instead: one that `POST /v1/files` has"),
        **FIELDS,
    }
)


@documented(
    "Have a document read in the background",
    tag=Tag.JOBS,
    takes=FORM,
    answers=json(JobAnswer),
    status=202,
)
async def submit(request: web.Request) -> web.Response:
    app, limits = request.app, request.app[CONFIG].server.limits
    size = forms.upload_size(request, limits.max_upload_bytes)
    async with app[BODIES].admitted(size) as reserved:
        with reserved.file() as file:
            upload = await forms.read_upload(request, limits.max_upload_bytes, file.write)
            reserved.shrink(file.size)
            owner = middleware.caller(request)
            file_id = upload.fields.pop("file_id", "").strip()
            if not file_id:
                if not upload.has_picture:
                    message = "the form has no document: send it in field 'file', or its id in 'file_id'"
                    raise ApiError(400, "missing_file", message, param="file")
                view = await _submitted(app, upload, file, owner)
            elif upload.has_picture:
                raise ApiError(400, "two_files", "the form has a document and a file_id", param="file_id")
            else:
                upload.filename = app[FILES].find(file_id).name
                with app[FILES].opened(file_id, "file_id") as stored:
                    view = await _submitted(app, upload, stored, owner)
    answer = app[JOB_WRITER].answer(view)
    response = respond(answer, 202)
    response.headers["Location"] = f"/v1/jobs/{answer.id}"
    return response


async def _submitted(app: web.Application, upload: forms.Upload, file: PageFile, owner: str) -> View:
    reader = reading.Reader.of(app, compatible.parse_ocr(upload.fields), lines=True)
    asked = reader.asked
    async with reading.opened(app, file) as opened:
        indices = opened.indices(asked.pages, asked.dpi)
    # A handle of its own: the job's documents are counted by themselves, and those of requests no longer.
    work = Work(
        model=reader.model.name,
        file=file.duplicate(),
        limits=reading.bounds(app),
        indices=indices,
        dpi=asked.dpi,
        read=partial(result.read, reader),
        refused=result.refused,
        name=upload.filename,
        owner=owner,
    )
    try:
        return app[JOBS].submit(work)
    except ApiError:
        work.file.close()
        raise
    except JobsFull as full:
        work.file.close()
        raise ApiError(
            429,
            "jobs_full",
            f"queue full: {full}; delete jobs that you have fetched, or try again later",
            retry_after_seconds=RETRY_FULL_SECONDS,
        ) from None


class JobList(Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: tuple[JobAnswer, ...]
    """The latest one first."""


@documented("The jobs that were submitted with this API key", tag=Tag.JOBS, answers=json(JobList))
async def jobs(request: web.Request) -> web.Response:
    owner = middleware.caller(request)
    if not owner:
        raise ApiError(
            403,
            "list_closed",
            "without API keys nobody can be told from others, and who has a job's id may fetch it: keep the ids, or "
            "set OCR_API_KEYS_FILE",
        )
    writer = request.app[JOB_WRITER]
    return respond(JobList(data=tuple(writer.answer(view) for view in request.app[JOBS].of(owner))))


@documented(
    "How far a job is, once or as a stream of changes",
    tag=Tag.JOBS,
    query={
        "watch": Field({"type": "boolean", "default": False}, "whether changes follow, as server-sent events")
    },
    answers={"application/json": JobAnswer, **EVENTS},
)
async def job(request: web.Request) -> web.StreamResponse:
    view = found.job(request, request.match_info["id"])
    match request.query.get("watch", "false").lower():
        case "true" | "1":
            return await _watch(request, view)
        case "false" | "0":
            return respond(request.app[JOB_WRITER].answer(view))
        case other:
            raise ApiError(422, "invalid_value", f"watch is true or false; got {other[:40]!r}", param="watch")


@documented(
    "What was read of a job's pages so far, as it is or as a file",
    tag=Tag.JOBS,
    query={
        "from": Field({"type": "integer", "minimum": 0, "default": 0}, "how many pages are left out before"),
        "format": Field({"enum": list(Format)}, "a file of this format"),
    },
    answers={**making.FILES, "application/json": result.JobResult},
)
async def results(request: web.Request) -> web.StreamResponse:
    view = found.with_results(request, request.match_info["id"])
    text = request.query.get("from", "0")
    first = numbers.whole(text, 0, view.job.pages)
    if first is None:
        message = f"from is a whole number from 0 to {view.job.pages}; got {text[:40]!r}"
        raise ApiError(422, "invalid_value", message, param="from")
    format_ = _format(request.query.get("format", ""))
    # Results that are dropped meanwhile stay until they are sent.
    kept = tuple(request.app[JOBS].results(view.job.id, first))
    answer = partial(result.pieces, request.app[JOB_WRITER].answer(view), first)
    if format_ is not None:
        indices = request.app[JOBS].indices(view.job.id)[first:]
        chosen = [Chosen(view.job.id, *each) for each in zip(indices, kept, strict=False)]
        if not chosen:
            raise ApiError(409, "page_unread", f"no page of {view.job.id} is read yet: wait for the job")
        return await making.send(request, format_, chosen, view.name, lambda: answer(iter(kept)))
    pieces = tuple(answer(iter(kept)))
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = sum(map(len, pieces))
    await response.prepare(request)
    if request.method != "HEAD":
        work = request.app[BODIES].turns.work()
        for piece in pieces:
            await response.write(piece)
            await work.pause()
    return response


def _format(word: str) -> Format | None:
    if not word:
        return None
    try:
        return Format(word)
    except ValueError:
        message = f"no format {word[:40]!r}; there are {', '.join(Format)}"
        raise ApiError(422, "invalid_value", message, param="format") from None


@documented(
    "Cancel a job, or drop one that has ended with its results", tag=Tag.JOBS, answers=json(JobAnswer)
)
async def cancel(request: web.Request) -> web.Response:
    view = request.app[JOBS].cancel(found.job(request, request.match_info["id"]).job.id)
    if view is None:
        raise found.unknown(request, request.match_info["id"])
    return respond(request.app[JOB_WRITER].answer(view))


async def _watch(request: web.Request, view: View) -> web.StreamResponse:
    jobs, writer = request.app[JOBS], request.app[JOB_WRITER]
    if jobs.watchers >= request.app[MOST_WATCHES]:
        raise ApiError(
            429,
            "too_many_watchers",
            f"{jobs.watchers} watch already",
            retry_after_seconds=RETRY_AFTER_SECONDS,
        )
    events = sse.Events(request)
    with jobs.watched(), suppress(sse.Gone):
        await events.open()
        if request.method == "HEAD":  # whose answer is the head alone
            return events.response
        views = sse.with_timeouts(jobs.follow(view.job.id), sse.HEARTBEAT_SECONDS)
        async with aclosing(views):
            async for answer in sse.changes(
                None if each is None else msgspec.json.encode(writer.answer(each)) async for each in views
            ):
                if answer is None:
                    await events.heartbeat()
                else:
                    await events.send(answer, "job")
    return events.response
