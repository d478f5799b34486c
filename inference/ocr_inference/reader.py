"""Reads a document without a server: pages go to the same manager that the server uses."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import msgspec

from ocr_inference import app, families
from ocr_inference.api import pages
from ocr_inference.api.schema import OcrAnswer, OcrRequest
from ocr_inference.config.settings import Config, Settings, effective
from ocr_inference.device import choosing
from ocr_inference.documents import images, pdf
from ocr_inference.errors import ApiError
from ocr_inference.manager.manager import Manager, Refused
from ocr_inference.protocol.engine import EngineError
from ocr_wire.live_settings import LiveValues
from ocr_wire.settings import NEVER
from ocr_wire.tasks import INFO, Task

MAX_FILE_BYTES = 1 << 30
CLOSE_SECONDS = 5.0


@dataclass(frozen=True)
class Asked:
    path: Path
    task: Task
    find_term: str | None
    format: str
    """`markdown` or `json`."""
    model: str | None


async def read(
    settings: Settings,
    config: Config,
    asked: Asked,
    *,
    environ: Mapping[str, str],
    out: TextIO,
    progress: TextIO,
) -> int:
    """Read the document; returns the exit code. The result goes to `out` when all pages are read, one line a page to
    `progress`."""
    device = choosing.resolve(settings)
    try:
        request = OcrRequest(task=asked.task, find_term=asked.find_term, model=asked.model)
        if INFO[asked.task].needs == "find_term" and not asked.find_term:
            raise ApiError(422, "missing_value", f"--task {asked.task.value} needs --find TERM")
        model = pages.choose_model(config, asked.model)
        pages.refuse_unsupported(asked.task, model, families.of(model.engine))
        manager = app.create_manager(
            settings,
            config,
            effective(config, LiveValues(), local_timeouts={model.name: NEVER}),
            device,
            environ=environ,
        )
        async with asyncio.TaskGroup() as tasks:
            owner = tasks.create_task(manager.run())
            try:
                answers = await _read_pages(config, asked, request, manager, progress)
            except (ApiError, EngineError, Refused) as error:
                _say(progress, f"ocr-inference: {asked.path}: {error}")
                return 1
            finally:
                await manager.close(CLOSE_SECONDS)
                owner.cancel()
    except ApiError as error:
        _say(progress, f"ocr-inference: {error}")
        return 2
    out.write(_markdown(answers) if asked.format == "markdown" else _json(answers))
    out.flush()
    return 0


async def _read_pages(
    config: Config, asked: Asked, request: OcrRequest, manager: Manager, progress: TextIO
) -> list[OcrAnswer]:
    model = pages.choose_model(config, asked.model)
    pixels = config.server.limits.max_image_pixels
    backend = manager.snapshot().device.kind
    answers = []
    _say(progress, f"{asked.path}: loading {model.name} ({model.engine} on {backend})")
    async with aclosing(_pictures(asked.path, config)) as pictures:
        async for number, count, picture in pictures:
            await images.check(picture, pixels)
            began = time.perf_counter()
            async with manager.lease(model.name) as lease:
                waited = time.perf_counter() - began
                page = await lease.infer(pages.infer_request(picture, request, pixels))
            answers.append(pages.answer(page, request, model, backend=backend, waited=waited))
            taken = time.perf_counter() - began
            _say(progress, f"page {number} of {count}: {len(page.lines)} lines in {taken:.2f} s")
    return answers


async def _pictures(path: Path, config: Config) -> AsyncGenerator[tuple[int, int, bytes]]:
    """Yield number from 1, count and encoded picture of a PDF's pages or of the one picture."""
    limits = config.server.limits
    try:
        data = await asyncio.to_thread(_bytes, path)
    except OSError as error:
        raise ApiError(404, "file_not_found", f"can't read it: {error.strerror}") from error
    if not data.startswith(b"%PDF-"):
        yield 1, 1, data
        return
    async with aclosing(pdf.pages(str(path), limits.max_pdf_pages, limits.max_image_pixels)) as pages:
        async for page in pages:
            yield page.index + 1, page.count, page.image


def _bytes(path: Path) -> bytes:
    """Read the picture, or of a PDF the head only: its renderer reads the file itself."""
    with path.open("rb") as file:
        head = file.read(5)
        return head if head == b"%PDF-" else head + file.read(MAX_FILE_BYTES)


def _markdown(answers: list[OcrAnswer]) -> str:
    return "\n\n---\n\n".join(answer.text for answer in answers) + "\n"


def _json(answers: list[OcrAnswer]) -> str:
    pages: list[Any] = [{"index": i, **msgspec.to_builtins(answer)} for i, answer in enumerate(answers)]
    return json.dumps({"pages": pages}, ensure_ascii=False, indent=2) + "\n"


def _say(progress: TextIO, line: str) -> None:
    progress.write(line + "\n")
    progress.flush()
