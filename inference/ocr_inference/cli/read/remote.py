"""Reads documents by the jobs of a server."""

import asyncio
import os.path
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Annotated, Any, Final, TypeVar

import aiohttp
import msgspec
from msgspec import Meta, Struct
from yarl import URL

from ocr_inference.api.schema import PageAnswer
from ocr_inference.cli.read import progress
from ocr_inference.cli.read.asked import Asked
from ocr_inference.cli.read.reading import Reading, Report
from ocr_inference.cli.server import client
from ocr_inference.cli.server.client import Client
from ocr_inference.cli.server.retrying import LATER
from ocr_inference.errors import ApiError
from ocr_inference.jobs import again
from ocr_inference.protocol.page_file import PageFile
from ocr_wire.errors import ErrorInfo

MOST_SENT: Final = 3
"""How often a document is sent: a server that restarts forgets its jobs."""
MOST_SILENT: Final = 5
"""How often the progress of a job is asked for again, without any, before the document fails."""
CANCEL_SECONDS: Final = 5.0
FORGOTTEN: Final = frozenset({"job_not_found", "job_expired", "draining"})
CONCERNS_ALL: Final = frozenset(
    {
        *again.OF_MODEL,
        client.UNREACHABLE,
        "missing_token",
        client.STRANGE,
        "tokens_unavailable",
        "unknown_task",
        "unsupported_task",
        "wrong_token",
    }
)
"""Codes of errors that another document would have, too."""

T = TypeVar("T")


class Pages(Struct, frozen=True):
    total: int = 0
    done: int = 0


class Job(Struct, frozen=True):
    """Job, as far as it matters here."""

    id: Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_.-]+\Z")]
    state: str
    queued_ahead: int | None = None
    pages: Pages = Pages()
    error: ErrorInfo | None = None

    @property
    def has_ended(self) -> bool:
        return self.state not in ("queued", "running")


class Result(Struct, frozen=True):
    job: Job
    pages: tuple[PageAnswer, ...] = ()


@asynccontextmanager
async def reading(
    server: URL, key: str, asked: Asked, *, environ: Mapping[str, str], detail: Callable[[str], None]
) -> AsyncIterator["Remote"]:
    """Yield the reader. Jobs that are left when the block is cancelled are cancelled."""
    async with client.connected(server, key, environ) as connected:
        yield Remote(connected, asked, detail)


class Remote:
    """Reader of documents by a server."""

    def __init__(self, client: Client, asked: Asked, detail: Callable[[str], None]) -> None:
        self._client = client
        self._asked = asked
        self._detail = detail
        self._waits: dict[str, str] = {}
        """What is waited for, by document."""

    def activity(self) -> str:
        return next(iter(self._waits.values()), "")

    async def read(self, file: PageFile, shown: str, report: Report) -> Reading:
        try:
            reading, is_forgotten = await self._read(file, shown, report)
            for _ in range(1, MOST_SENT):
                if not is_forgotten:
                    break
                self._detail(f"{shown}: the server forgot it; sending it again")
                reading, is_forgotten = await self._read(file, shown, report)
        except ApiError as error:
            return Reading.failed(error, ends_run=error.code in CONCERNS_ALL)
        finally:
            self._waits.pop(shown, None)
        return reading

    async def _read(self, file: PageFile, shown: str, report: Report) -> tuple[Reading, bool]:
        """Return what was read, and whether the document should be sent again."""
        job = await self._submit(file, shown)
        self._detail(f"{shown}: job {job.id}, {progress.pages(job.pages.total)}")
        try:
            job = await self._follow(job, shown, report)
            answer = await self._client.call("GET", f"/v1/jobs/{job.id}/result")
            result = self._decode(answer, Result)
        except ApiError as error:
            if error.code in FORGOTTEN:
                return Reading.failed(error), True
            raise
        finally:
            await self._drop(job)
        fault, state = result.job.error, result.job.state
        if fault is None and state != "done":
            fault = ErrorInfo(message=f"its job was {state} at the server", code=state)
        code = "" if fault is None else fault.code or ""
        reading = Reading.of(result.pages, fault, ends_run=code in CONCERNS_ALL - FORGOTTEN)
        return reading, code in FORGOTTEN

    async def _submit(self, file: PageFile, shown: str) -> Job:
        name = progress.safe(os.path.basename(shown))[:200] or "document"

        def form() -> Mapping[str, Any]:
            data = aiohttp.FormData(dict(self._asked.fields()), default_to_multipart=True)
            data.add_field("file", file.open(), filename=name, content_type="application/octet-stream")
            # What is refused, such as a document that is too large, is refused before it is sent.
            return {"data": data, "expect100": True}

        sending = asyncio.create_task(
            self._client.call("POST", "/v1/jobs", form, waiting=lambda what: self._wait(shown, what))
        )
        try:
            return self._decode(await asyncio.shield(sending), Job)
        except asyncio.CancelledError:
            # The server may have the job already, and be about to say so.
            with suppress(ApiError, TimeoutError):
                async with asyncio.timeout(CANCEL_SECONDS):
                    await self._drop(self._decode(await sending, Job))
            sending.cancel()
            raise

    async def _follow(self, job: Job, shown: str, report: Report) -> Job:
        """Follow a job to its end."""
        silent, done = 0, -1
        while not job.has_ended:
            self._show(job, shown, report)
            try:
                async with aclosing(self._client.events(f"/v1/jobs/{job.id}?watch=true")) as events:
                    async for event in events:
                        job = self._decode(event, Job)
                        self._show(job, shown, report)
            except ApiError as error:
                if error.code == client.STRANGE or error.status not in LATER or silent >= MOST_SILENT:
                    raise
            silent = 0 if job.pages.done > done else silent + 1
            done = job.pages.done
            if not job.has_ended:
                if silent > MOST_SILENT:
                    raise ApiError(
                        502, "strange_answer", f"{self._client.server} says nothing of job {job.id}"
                    )
                await self._client.sleep(min(2.0**silent, 30.0))
        return job

    def _show(self, job: Job, shown: str, report: Report) -> None:
        self._wait(shown, f"{job.queued_ahead} jobs before it" if job.queued_ahead else "")
        report(job.pages.done, job.pages.total)

    def _wait(self, shown: str, what: str) -> None:
        if what:
            self._waits[shown] = what
        else:
            self._waits.pop(shown, None)

    async def _drop(self, job: Job) -> None:
        """Cancel a job, or make way for others when its results are fetched."""
        with suppress(ApiError, TimeoutError):
            async with asyncio.timeout(CANCEL_SECONDS):
                await self._client.call("DELETE", f"/v1/jobs/{job.id}", patience=0)

    def _decode(self, answer: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(answer, type=kind)
        except (msgspec.DecodeError, RecursionError) as error:
            message = f"{self._client.server} answers with something else: is it an ocr-inference?"
            raise ApiError(502, client.STRANGE, message) from error
