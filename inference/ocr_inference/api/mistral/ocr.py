"""`POST /v1/ocr`: a document in, Markdown of its pages out, in the shape of Mistral's document OCR."""

from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from functools import partial
from typing import Final

from aiohttp import web

from ocr_inference.api import forms, inline, reading
from ocr_inference.api.appkeys import BODIES, CONFIG, FILES, MANAGER, respond
from ocr_inference.api.mistral import answer, body
from ocr_inference.api.mistral.answer import Read
from ocr_inference.api.mistral.body import Request
from ocr_inference.api.openapi.operations import Tag, documented, json
from ocr_inference.api.reading import Reader
from ocr_inference.api.schema import MAX_PROMPT
from ocr_inference.documents import cropping
from ocr_inference.documents.page import PageImage
from ocr_inference.protocol.page_file import PageFile

MAX_CROPS: Final = 100
"""Most pictures of one page that are cut out; the others are answered by their places."""


@documented(
    "Read a document in the shape of Mistral's document OCR",
    tag=Tag.READ,
    takes=json(body.DocumentBody),
    answers=json(answer.DocumentOfPages),
)
async def ocr(request: web.Request) -> web.Response:
    limits, manager = request.app[CONFIG].server.limits, request.app[MANAGER]
    manager.refuse_when_full()
    size = forms.json_size(request, forms.most_json_bytes(limits.max_upload_bytes))
    async with request.app[BODIES].admitted(size) as reserved, AsyncExitStack() as files:
        manager.refuse_when_full()  # while it waited, too
        asked, file = await inline.received(
            request, reserved, files, body.parse, long_text=MAX_PROMPT, bare=True
        )
        models = {each.name for each in request.app[CONFIG].models}
        asked = body.for_models(replace(asked, picture=""), models)
        reserved.shrink(file.size)
        if asked.file_id is not None:
            file = files.enter_context(request.app[FILES].opened(asked.file_id, asked.picture_param))
        return respond(await _read(request.app, asked, file))


async def _read(app: web.Application, asked: Request, file: PageFile) -> answer.DocumentOfPages:
    reader = Reader.of(app, asked.asked)
    async with reading.opened(app, file, asked.picture_param) as opened:
        images = opened.pages(asked.asked.pages, asked.asked.dpi)
        async with aclosing(reader.each(images, partial(_page, reader, asked))) as pages:
            read = [answer.counted_from_0(page) async for page in pages]
    reading.refuse_unread(read)
    return answer.whole(read, asked, reader.model.name, file.size)


async def _page(reader: Reader, asked: Request, image: PageImage) -> Read:
    read = await reader.page(image.file)
    if not asked.include_image_base64:
        return Read(read)
    places = answer.places(read, asked.image_min_size, min(asked.image_limit, MAX_CROPS))
    if not places:
        return Read(read)
    pixels = reader.app[CONFIG].server.limits.max_image_pixels
    return Read(read, tuple(await cropping.crops(image.file, places, pixels)))
