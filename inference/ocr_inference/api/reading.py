"""Reading of pages with a model: one picture, or a document page by page, as every dialect does it.

    reader = reading.Reader.of(app, asked)  # raises where there is no such model, or it can't do the task
    answer = await reader.page(file)  # one picture: what `POST /ocr` answers

    async with reading.opened(app, file) as opened, aclosing(reader.pages(opened)) as pages:
        async for page in pages:  # those of `asked.pages`
            page.index, page.answer  # None where `page.error` says why
    reading.refuse_unread(pages)  # raises where not one page was read

Pages come in the document's order. While one is read, the next ones are rendered and wait for the model (`share`): so
what takes time overlaps, and nothing grows with the document's length. What is wrong with one page is that page's
error; what concerns the model, such as a load that fails, is raised.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from functools import partial
from typing import Generic, Self, TypeVar

import msgspec
from aiohttp import web

from ocr_inference import families
from ocr_inference.api import faults, pages
from ocr_inference.api.appkeys import CONFIG, MANAGER, METRICS, PLACES
from ocr_inference.api.schema import OcrAnswer, OcrRequest
from ocr_inference.config.settings import ModelConfig
from ocr_inference.documents import document
from ocr_inference.documents.document import Document
from ocr_inference.documents.page import Limits, PageFault, PageImage
from ocr_inference.errors import ApiError
from ocr_inference.jobs import again, share
from ocr_inference.protocol.engine import EngineError
from ocr_inference.protocol.page_file import Page, PageFile
from ocr_wire import engines

T = TypeVar("T")


def opened(
    app: web.Application, file: PageFile, param: str = "file"
) -> AbstractAsyncContextManager[Document]:
    """Open what was sent, a picture or a document; raises `ApiError` that names `param`."""
    return document.opened(file, bounds(app), param, app[PLACES])


def bounds(app: web.Application) -> Limits:
    """Return the bounds of documents, as this server is configured."""
    limits = app[CONFIG].server.limits
    return Limits(max_pages=limits.max_pdf_pages, max_pixels=limits.max_image_pixels)


@dataclass(frozen=True)
class ReadPage(Generic[T]):
    """Page of a document after it was read: its answer, or what is wrong with it."""

    index: int
    """From 0, in the document."""
    answer: T | None = None
    error: ApiError | None = None
    dpi: float | None = None
    """Pixels per inch at which it was rendered; None of pictures."""


@dataclass(frozen=True)
class Reader:
    """Request for pages, and the model that reads them."""

    app: web.Application
    asked: OcrRequest
    model: ModelConfig
    lines: bool = False
    """Whether answers have the texts of a page with their places."""

    @classmethod
    def of(
        cls, app: web.Application, asked: OcrRequest, param: str | None = None, *, lines: bool = False
    ) -> Self:
        """Choose the model; raises 404, and 422 that names `param`, or the field that said the task, where it can't do
        that."""
        model = pages.choose_model(app[CONFIG], asked.model)
        pages.refuse_unsupported(
            asked.task, model, families.of(model.engine), param or asked.names("prompt_type")[0]
        )
        return cls(app, asked, model, lines)

    async def page(self, file: PageFile) -> OcrAnswer:
        """Read one picture, whose header was checked; raises what `Lease.infer` raises."""
        manager, metrics, name = self.app[MANAGER], self.app[METRICS], self.model.name
        began = time.perf_counter()
        page = Page(file, pages.options(self.asked, self.app[CONFIG].server.limits.max_image_pixels))
        async with manager.lease(name, page=page) as lease:
            waited = time.perf_counter() - began
            metrics.wait_seconds.labels(name).observe(waited)
            try:
                read = await lease.infer(page)
            except EngineError as error:
                sent_as = self.asked.sent_as.get(error.failure.param or "")
                if sent_as is None:
                    raise
                # Engines know fields of `POST /ocr` only.
                raise type(error)(msgspec.structs.replace(error.failure, param=sent_as[0])) from error
        metrics.count_page(name, self.asked.task, read.seconds)
        if read.shortage is not None:
            metrics.count_shortage(name, read.shortage.step)
        metrics.count_tokens(name, read.prompt_tokens, read.completion_tokens)
        backend = manager.snapshot().device.kind
        make = partial(
            pages.answer, read, self.asked, self.model, backend=backend, waited=waited, lines=self.lines
        )
        return make() if pages.is_short(read) else await asyncio.to_thread(make)

    def pages(self, opened: Document) -> AsyncGenerator[ReadPage[OcrAnswer]]:
        """Yield the requested pages of a document in their order; use it in `contextlib.aclosing`. Raises `ApiError`
        for what concerns all of them."""
        images = opened.pages(self.asked.pages, self.asked.dpi)
        return self.each(images, lambda image: self.page(image.file))

    async def each(
        self,
        images: AsyncGenerator[PageImage | PageFault],
        read: Callable[[PageImage], Awaitable[T]],
    ) -> AsyncGenerator[ReadPage[T]]:
        """Yield what `read` returns of each page, in their order; as `pages`. A page's picture is closed when it has
        returned."""
        running: deque[asyncio.Task[ReadPage[T]]] = deque()
        try:
            async with aclosing(images):
                following = await anext(images, None)
                while running or following is not None:
                    while following is not None and len(running) < self._ahead():
                        running.append(asyncio.create_task(self._one(following, read)))
                        following = await anext(images, None)
                    await asyncio.wait({running[0]})
                    yield running.popleft().result()
        finally:
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running)

    def _ahead(self) -> int:
        max_pages = self.app[MANAGER].effective.batching.max_pages
        return share.window(max_pages, 0, together=engines.BY_NAME[self.model.engine].reads_together)

    async def _one(
        self, image: PageImage | PageFault, read: Callable[[PageImage], Awaitable[T]]
    ) -> ReadPage[T]:
        if isinstance(image, PageFault):
            return ReadPage(image.index, error=image.error.fresh())
        with image.file:
            while True:
                try:
                    return ReadPage(image.index, await read(image), dpi=image.dpi)
                except Exception as fault:
                    # No variable may hold the error: its traceback holds this frame.
                    if not _is_of_page(fault):
                        raise
                    if not _is_busy(fault):
                        return ReadPage(image.index, error=_kept(fault), dpi=image.dpi)
                # Its first page was let in, so the others come as there is room.
                await asyncio.sleep(again.BUSY_SECONDS)


def refuse_unread(read: Sequence[ReadPage[T]]) -> None:
    """Raise the first page's error where none was read."""
    if read and read[0].error is not None and all(page.error is not None for page in read):
        raise read[0].error.fresh()


def _is_of_page(fault: Exception) -> bool:
    """Whether a fault was raised on purpose, and says nothing of other pages."""
    error = faults.known(fault)
    return error is not None and not again.ends_job(error)


def _is_busy(fault: Exception) -> bool:
    error = faults.known(fault)
    return error is not None and error.code in again.BUSY


def _kept(fault: Exception) -> ApiError | None:
    error = faults.known(fault)
    return None if error is None else error.fresh()
