"""`POST /ocr`: one picture in, its text and boxes out."""

import asyncio
import time
from collections.abc import Iterator

from aiohttp import web

from ocr_inference import families
from ocr_inference.api import forms, schema
from ocr_inference.api.appkeys import CONFIG, LIVE_SETTINGS, MANAGER, METRICS, respond
from ocr_inference.api.schema import OcrAnswer, OcrRequest
from ocr_inference.config.settings import Config, ModelConfig
from ocr_inference.documents import images
from ocr_inference.errors import ApiError
from ocr_inference.families import Family
from ocr_inference.manager.manager import Manager
from ocr_inference.protocol.engine import InferRequest, PageResult
from ocr_inference.protocol.page import Task

_LOCATED = frozenset({Task.DOCUMENT, Task.OCR, Task.FIND})
"""Tasks whose answer has boxes without being asked for them."""


async def ocr(request: web.Request) -> web.Response:
    app = request.app
    config, manager, metrics = app[CONFIG], app[MANAGER], app[METRICS]
    limits = config.server.limits
    refuse_when_full(manager)
    upload = await forms.read_upload(request, limits.max_upload_bytes)
    asked = schema.parse_ocr(upload.fields)
    model = choose_model(config, asked.model)
    refuse_unsupported(asked.task, model, families.of(model.engine))
    if upload.picture is None:
        raise ApiError(400, "missing_file", "the form has no picture: send it in field 'file'", param="file")
    await images.check(upload.picture, limits.max_image_pixels)

    began = time.perf_counter()
    deadline = time.monotonic() + app[LIVE_SETTINGS].effective.queue.deadline_seconds
    async with manager.lease(model.name, deadline) as lease:
        waited = time.perf_counter() - began
        metrics.wait_seconds.labels(model.name).observe(waited)
        page = await lease.infer(infer_request(upload.picture, asked, limits.max_image_pixels))
    metrics.count_page(model.name, asked.task, page.seconds)
    metrics.count_tokens(model.name, page.prompt_tokens, page.completion_tokens)
    backend = manager.snapshot().device.kind
    return respond(await asyncio.to_thread(answer, page, asked, model, backend=backend, waited=waited))


def refuse_when_full(manager: Manager) -> None:
    """Before an upload is read: a full queue must not fill the memory as well."""
    snapshot = manager.snapshot()
    if snapshot.waiting >= snapshot.queue_limit:
        raise ApiError(
            429,
            "queue_full",
            f"{snapshot.waiting} requests wait already; try again soon",
            retry_after_seconds=1.0,
        )


def choose_model(config: Config, name: str | None) -> ModelConfig:
    """The named model, or the first one; raises 404 that lists them."""
    if name is None:
        return config.models[0]
    if (model := config.model(name)) is None:
        known = ", ".join(each.name for each in config.models)
        raise ApiError(
            404, "model_not_found", f"no model {name[:80]!r} here; there are {known}", param="model"
        )
    return model


def refuse_unsupported(task: Task, model: ModelConfig, family: Family, param: str = "prompt_type") -> None:
    if task not in family.tasks:
        known = ", ".join(family.tasks)
        raise ApiError(
            422,
            "unsupported_task",
            f"model {model.name!r} (engine {model.engine}) can't do {task.value!r}; it can do {known}",
            param=param,
        )


def infer_request(picture: bytes, asked: OcrRequest, max_pixels: int) -> InferRequest:
    return InferRequest(
        image=picture,
        max_pixels=max_pixels,
        task=asked.task,
        prompt=asked.custom_prompt,
        find_term=asked.find_term,
        resolution=asked.resolution,
        grounding=asked.grounding,
        max_tokens=asked.max_tokens,
        loop_guard=asked.loop_guard,
    )


def answer(
    page: PageResult,
    asked: OcrRequest,
    model: ModelConfig,
    *,
    backend: str,
    waited: float,
    prefix: str = "",
) -> OcrAnswer:
    """`prefix` stands before the names of options in the request, for naming those without effect."""
    family = families.of_page(model.engine, page)
    text, boxes = families.read(model.engine, asked.task, asked.find_term, page)
    if not (family.writes or asked.grounding or asked.task in _LOCATED):
        # A language model tells places where it was asked to; the others always have them.
        boxes = ()
    metadata: dict[str, object] = {
        "mode": asked.task.value,
        "backend": backend,
        "has_boxes": bool(boxes),
        "gpu_managed": True,
        "model": model.name,
        "engine": model.engine,
        "finish_reason": page.finish_reason,
        "wait_seconds": round(waited, 4),
        "engine_seconds": round(page.seconds, 4),
    }
    if family.writes:
        metadata |= {"prompt_tokens": page.prompt_tokens, "completion_tokens": page.completion_tokens}
    if ignored := (*asked.ignored, *_without_effect(asked, family, prefix)):
        metadata["ignored_fields"] = list(ignored)
    return OcrAnswer(
        text=text,
        raw_text=page.text,
        boxes=boxes,
        image_dims=schema.Dimensions(page.width, page.height),
        prompt_type=asked.task,
        metadata=metadata,
    )


def _without_effect(asked: OcrRequest, family: Family, prefix: str) -> Iterator[str]:
    """Options that are known and mean nothing to the model that read the page."""
    if asked.resolution is not None and asked.resolution not in family.resolutions:
        yield f"{prefix}resolution"
    if not family.writes:
        if asked.max_tokens is not None:
            yield "max_tokens"
        if not asked.loop_guard:
            yield f"{prefix}loop_guard"
