"""`POST /ocr`: one picture in, its text and boxes out."""

import asyncio
import time

from aiohttp import web

from ocr_inference import families
from ocr_inference.api import forms, pages, schema
from ocr_inference.api.appkeys import CONFIG, MANAGER, METRICS, respond
from ocr_inference.documents import images
from ocr_inference.errors import ApiError


async def ocr(request: web.Request) -> web.Response:
    app = request.app
    config, manager, metrics = app[CONFIG], app[MANAGER], app[METRICS]
    limits = config.server.limits
    manager.refuse_when_full()
    upload = await forms.read_upload(request, limits.max_upload_bytes)
    asked = schema.parse_ocr(upload.fields)
    model = pages.choose_model(config, asked.model)
    pages.refuse_unsupported(asked.task, model, families.of(model.engine))
    if upload.picture is None:
        raise ApiError(400, "missing_file", "the form has no picture: send it in field 'file'", param="file")
    await images.check(upload.picture, limits.max_image_pixels)

    began = time.perf_counter()
    async with manager.lease(model.name) as lease:
        waited = time.perf_counter() - began
        metrics.wait_seconds.labels(model.name).observe(waited)
        page = await lease.infer(pages.infer_request(upload.picture, asked, limits.max_image_pixels))
    metrics.count_page(model.name, asked.task, page.seconds)
    metrics.count_tokens(model.name, page.prompt_tokens, page.completion_tokens)
    backend = manager.snapshot().device.kind
    return respond(await asyncio.to_thread(pages.answer, page, asked, model, backend=backend, waited=waited))
