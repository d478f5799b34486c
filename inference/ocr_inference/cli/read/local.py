"""Reads documents with a model in this process: pages go to the same manager that the server uses."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Final

from ocr_inference import app, families
from ocr_inference.api import faults, pages
from ocr_inference.api.ocr import whole
from ocr_inference.api.reading import ReadPage
from ocr_inference.api.schema import OcrAnswer, PageAnswer
from ocr_inference.cli import groups
from ocr_inference.cli.read.asked import Asked
from ocr_inference.cli.read.reading import Reading, Report
from ocr_inference.config.settings import Config, ModelConfig, Settings, effective
from ocr_inference.device import choosing
from ocr_inference.documents import document
from ocr_inference.documents.page import Limits, PageFault, PageImage
from ocr_inference.errors import ApiError
from ocr_inference.jobs import again
from ocr_inference.manager.manager import Manager
from ocr_inference.protocol.page_file import Page, PageFile
from ocr_wire.live_settings import LiveValues
from ocr_wire.settings import NEVER
from ocr_wire.states import State

CLOSE_SECONDS: Final = 5.0


@asynccontextmanager
async def reading(
    settings: Settings,
    config: Config,
    asked: Asked,
    *,
    environ: Mapping[str, str],
    detail: Callable[[str], None],
) -> AsyncIterator["Local"]:
    """Yield the reader; its model is loaded by the first page, and its worker ends with the block. Raises `ApiError`
    where what is requested isn't possible, and `NoDevice`."""
    device = choosing.resolve(settings)
    model = pages.choose_model(config, asked.model)
    pages.refuse_unsupported(asked.task, model, families.of(model.engine), "--task")
    manager = app.create_manager(
        settings,
        config,
        effective(config, LiveValues(), local_timeouts={model.name: NEVER}),
        device,
        environ=environ,
    )
    try:
        async with asyncio.TaskGroup() as tasks:
            owner = tasks.create_task(manager.run())
            grace = CLOSE_SECONDS
            try:
                yield Local(config, asked, model, manager, detail)
            except asyncio.CancelledError:
                grace = 0.0
                raise
            finally:
                await manager.close(grace)
                owner.cancel()
    except BaseExceptionGroup as group:
        raise groups.first(group) from None


class Local:
    """Reader of documents with one model."""

    def __init__(
        self,
        config: Config,
        asked: Asked,
        model: ModelConfig,
        manager: Manager,
        detail: Callable[[str], None],
    ) -> None:
        self._config = config
        self._asked = asked
        self._model = model
        self._manager = manager
        self._detail = detail

    def activity(self) -> str:
        found = self._manager.snapshot().model(self._model.name)
        if found.state is State.READY or not found.waiting:
            return ""
        done = found.progress
        if done is None:
            return f"loading {self._model.name}"
        sizes = f" {done.bytes_done >> 20} of {done.bytes_total >> 20} MiB" if done.bytes_total else ""
        return f"{done.phase} {self._model.name}{sizes}"

    async def read(self, file: PageFile, shown: str, report: Report) -> Reading:
        limits = self._config.server.limits
        backend = self._manager.snapshot().device.kind
        self._detail(f"{shown}: with {self._model.name} ({self._model.engine} on {backend})")
        found: list[PageAnswer] = []
        try:
            async with (
                document.opened(file, Limits(limits.max_pdf_pages, limits.max_image_pixels)) as opened,
                aclosing(opened.pages(self._asked.selection, self._asked.dpi)) as images,
            ):
                total = len(opened.indices(self._asked.selection, self._asked.dpi))
                report(0, total)
                async for image in images:
                    found.append(
                        await self._page(image, f"{shown}: page {image.index + 1} of {opened.count}")
                    )
                    report(len(found), total)
        except Exception as error:
            if (known := faults.known(error)) is None:
                raise
            return Reading.of(found, known.info, ends_run=again.ends_job(known))
        return Reading.of(found)

    async def _page(self, image: PageImage | PageFault, named: str) -> PageAnswer:
        """Read a page; raises what concerns the other pages, too."""
        if isinstance(image, PageFault):
            self._detail(f"{named}: {image.error}")
            return whole.of_page(ReadPage[OcrAnswer](image.index, error=image.error))
        began, tries = time.perf_counter(), 0
        with image.file:
            while True:
                answer, delay = None, None
                try:
                    answer = await self._answer(image)
                except Exception as error:
                    if (known := faults.known(error)) is None:
                        raise
                    tries += 1
                    if known.code in (again.LATE, *again.BUSY):
                        delay = again.delay(known, tries)
                    if delay is None:
                        return self._refused(image, known.fresh(), named)
                if answer is not None:
                    break
                await asyncio.sleep(delay or 0.0)
        taken = (
            f"{len(answer.boxes)} boxes, {len(answer.text)} characters in {time.perf_counter() - began:.2f} s"
        )
        self._detail(f"{named}: {taken}{_smaller(image, self._asked.dpi)}")
        return whole.of_page(ReadPage(image.index, answer, dpi=image.dpi))

    def _refused(self, image: PageImage, error: ApiError, named: str) -> PageAnswer:
        self._detail(f"{named}: {error}")
        if again.ends_job(error):
            raise error
        return whole.of_page(ReadPage[OcrAnswer](image.index, error=error, dpi=image.dpi))

    async def _answer(self, image: PageImage) -> OcrAnswer:
        asked = self._asked.request()
        page = Page(image.file, pages.options(asked, self._config.server.limits.max_image_pixels))
        began = time.perf_counter()
        async with self._manager.lease(self._model.name, page=page) as lease:
            waited = time.perf_counter() - began
            result = await lease.infer(page)
        backend = self._manager.snapshot().device.kind
        return pages.answer(result, asked, self._model, backend=backend, waited=waited, lines=True)


def _smaller(page: PageImage, dpi: float) -> str:
    if page.dpi is None or page.dpi >= dpi:
        return ""
    return f" (rendered at {page.dpi:g} dpi: at {dpi:g} it has too many pixels)"
