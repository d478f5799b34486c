"""A job of a pod: a document that it reads in the background, followed until it ends.

A job lives in the memory of one server, so all calls about it go to one pod. A port-forward may break any time, the
job doesn't care: it is followed through another one.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Annotated, Any, Final

import aiohttp
import msgspec

from kubectl_ocr.errors import Failure
from kubectl_ocr.podhttp import Server
from ocr_wire import names, text
from ocr_wire.errors import ErrorInfo

SILENT_SECONDS: Final = 30.0
"""The server says something at least every 10 s."""
MAX_EVENT_BYTES: Final = 2**16
MAX_RESULT_BYTES: Final = 512 * 2**20

Id = Annotated[str, msgspec.Meta(max_length=64, pattern=text.whole(r"^[-_A-Za-z0-9]+$"))]
"""It becomes a part of paths."""


class Pages(msgspec.Struct, frozen=True, kw_only=True):
    total: text.Count
    done: text.Count = 0
    failed: text.Count = 0


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Job as the server tells it; unknown fields are ignored."""

    id: Id
    state: text.Label
    pages: Pages
    queued_ahead: text.Count | None = None
    pages_per_second: text.Seconds | None = None
    estimated_end_at: float | None = None
    ended_at: float | None = None
    """None: it waits or runs."""
    error: ErrorInfo | None = None
    """Why it failed."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Pages of a job that were read, each with its text or its error."""

    pages: list[dict[str, Any]]


_SIGNS: Final = {"docx": b"PK", "pdf": b"%PDF-"}
"""First bytes; a server that doesn't know formats answers with JSON."""
_JOB: Final = msgspec.json.Decoder(Job)
_RESULT: Final = msgspec.json.Decoder(Result)


async def submit(server: Server, document: bytes, name: str, fields: Mapping[str, str]) -> Job:
    """Send `POST /v1/jobs`. Raises `Failure`."""
    form = aiohttp.FormData(dict(fields), default_to_multipart=True)
    form.add_field("file", document, filename=name, content_type="application/octet-stream")
    body = await server.call("POST", names.PATH_JOBS, status=202, data=form)
    return server.understood(names.PATH_JOBS, body, _JOB)


async def follow(server: Server, id_: str) -> AsyncGenerator[Job, None]:
    """Yield the job as it changes, until it has ended. Raises `Failure`, also when the connection breaks."""
    path = f"{names.PATH_JOBS}/{id_}"
    lines = server.lines(f"{path}?watch=true", silent=SILENT_SECONDS, limit=MAX_EVENT_BYTES)
    async with aclosing(lines):
        async for line in lines:
            if line.startswith(b"data:"):
                yield server.understood(path, line[5:].strip(), _JOB)


async def result(server: Server, id_: str) -> list[dict[str, Any]]:
    """Return the pages that were read. Raises `Failure`."""
    path = f"{names.PATH_JOBS}/{id_}/result"
    body = await server.call("GET", path, limit=MAX_RESULT_BYTES)
    return server.understood(path, body, _RESULT).pages


async def made(server: Server, id_: str, format_: str) -> bytes:
    """Return the document as a file of a format that the server makes. Raises `Failure`."""
    path = f"{names.PATH_JOBS}/{id_}/result"
    body = await server.call("GET", path, limit=MAX_RESULT_BYTES, params={"format": format_})
    if not body.startswith(_SIGNS[format_]):
        raise Failure(f"pod {server.pod} makes no {format_}: its server is older than this plugin")
    return body


async def drop(server: Server, id_: str) -> None:
    """Cancel the job, or drop the results of one that has ended. Raises `Failure`."""
    await server.call("DELETE", f"{names.PATH_JOBS}/{id_}")


def ended(job: Job) -> bool:
    """Return whether nothing more happens to the job."""
    return job.ended_at is not None


def refused(job: Job, errors: Sequence[str]) -> Failure:
    """Return why a job that has ended has no page that was read."""
    why = job.error.message if job.error is not None else next(iter(errors), f"its job is {job.state}")
    return Failure(text.clean(why))
