"""`POST /v1/chat/completions`: read one page in OpenAI's shape, whole or as it is written."""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
from aiohttp import web

from ocr_inference import families
from ocr_inference.api import faults, forms, inline, pages, sse
from ocr_inference.api.appkeys import BODIES, CONFIG, MANAGER, METRICS, REQUEST_ID, respond
from ocr_inference.api.bodies import Reserved
from ocr_inference.api.openai import answer, chat
from ocr_inference.api.openai.answer import ChatCompletion, StopTexts, Usage, Writer
from ocr_inference.api.openai.chat import ChatRequest
from ocr_inference.api.openapi.operations import EVENTS, Tag, documented, json
from ocr_inference.api.schema import MAX_PROMPT
from ocr_inference.config.settings import ModelConfig
from ocr_inference.documents import images
from ocr_inference.errors import ApiError
from ocr_inference.manager.manager import Lease
from ocr_inference.protocol.engine import Delta, EngineError, PageResult, Part
from ocr_inference.protocol.page_file import Page, PageFile
from ocr_wire import engines

log = logging.getLogger(__name__)


@documented(
    "Read a page in OpenAI's shape, whole or streamed",
    tag=Tag.READ,
    takes=json(chat.ChatBody),
    answers={"application/json": ChatCompletion, **EVENTS},
)
async def completions(request: web.Request) -> web.StreamResponse:
    limits, manager = request.app[CONFIG].server.limits, request.app[MANAGER]
    manager.refuse_when_full()
    size = forms.json_size(request, forms.most_json_bytes(limits.max_upload_bytes))
    async with request.app[BODIES].admitted(size) as reserved, AsyncExitStack() as files:
        manager.refuse_when_full()  # while it waited, too

        def parse(text: bytearray) -> ChatRequest:
            return chat.with_query(chat.parse(text), request.query)

        asked, picture, parts = await inline.received_several(
            request, reserved, files, parse, long_text=MAX_PROMPT
        )
        reserved.shrink(picture.size)
        return await _read(request, asked.without_urls(), picture, parts, reserved)


async def _read(
    request: web.Request, asked: ChatRequest, picture: PageFile, parts: tuple[Part, ...], reserved: Reserved
) -> web.StreamResponse:
    began = time.perf_counter()
    config = request.app[CONFIG]
    pixels = config.server.limits.max_image_pixels
    model = pages.choose_model(config, asked.asked.model)
    family = families.of(model.engine)
    asked = chat.fitted(asked, family.tasks)
    pages.refuse_unsupported(asked.asked.task, model, family, "ocr.task")
    if parts and not engines.BY_NAME[model.engine].takes_several:
        message = f"model {model.name!r} reads one picture at a time: send a request for each"
        raise ApiError(422, "several_images", message, param=asked.pictures[1].param)
    page_count = await _checked(asked, picture, parts, pixels, reserved)

    writer = Writer(
        f"chatcmpl-{secrets.token_hex(12)}", int(time.time()), model.name, include_usage=asked.include_usage
    )
    options = msgspec.structs.replace(pages.options(asked.asked, pixels), parts=parts)
    page = Page(picture, options)
    reading = _Reading(request, asked, model, page, began, page_count)
    if asked.stream:
        return await _stream(request, writer, reading)
    async with aclosing(reading.texts()) as texts:
        content = "".join([text async for text in texts])
    return respond(writer.whole(content, reading.finish_reason, reading.usage, await reading.own()))


async def _checked(
    asked: ChatRequest, file: PageFile, parts: tuple[Part, ...], max_pixels: int, reserved: Reserved
) -> int:
    """Check the headers of all pictures, which have the limit of pixels together; returns the first one's pages."""
    if not parts:
        return len((await images.check(file, max_pixels, asked.picture_param)).frames)
    found = []
    for part, each in zip(parts, asked.pictures, strict=True):
        with reserved.file() as picture:
            await inline.copy(file, part, picture)
            found.append(await images.check(picture, max_pixels, each.param))
        max_pixels -= found[-1].width * found[-1].height
    return len(found[0].frames)


@dataclass
class _Reading:
    """Reading of one page for one request, and what is known of it so far."""

    request: web.Request
    chat: ChatRequest
    model: ModelConfig
    page: Page
    began: float
    """Time at which the body was complete, on the clock of `time.perf_counter`."""
    page_count: int = 1
    """Pages of the picture that was sent, of which the first one is read."""
    waited: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    read: PageResult | None = None
    """None until the model is done, and where a stop text ended the answer before."""
    stops: StopTexts = field(init=False)

    def __post_init__(self) -> None:
        self.stops = StopTexts(self.chat.stop)

    @property
    def finish_reason(self) -> str:
        return "stop" if self.read is None or self.stops.found else self.read.finish_reason

    @property
    def usage(self) -> Usage:
        return answer.usage(self.prompt_tokens, self.completion_tokens)

    async def texts(self) -> AsyncGenerator[str, None]:
        """Yield the answer's pieces, up to the first stop text; raises what `Lease.infer` raises."""
        app, name = self.request.app, self.model.name
        try:
            async with app[MANAGER].lease(name, page=self.page) as lease:
                self.waited = time.perf_counter() - self.began
                app[METRICS].wait_seconds.labels(name).observe(self.waited)
                async with aclosing(self._answers(lease)) as answers:
                    async for each in answers:
                        self._note(each)
                        if isinstance(each, Delta) and (text := self.stops.add(each.text)):
                            yield text
                        if self.stops.found:
                            break
        except EngineError as error:
            failure = error.failure
            raise EngineError(
                msgspec.structs.replace(failure, param=self.chat.param(failure.param))
            ) from error
        finally:
            app[METRICS].count_tokens(name, self.prompt_tokens, self.completion_tokens)
        if rest := self.stops.rest():
            yield rest
        app[METRICS].count_page(name, self.chat.asked.task, None if self.read is None else self.read.seconds)
        if self.read is not None and self.read.shortage is not None:
            app[METRICS].count_shortage(name, self.read.shortage.step)

    async def _answers(self, lease: Lease) -> AsyncGenerator[Delta | PageResult, None]:
        if self.chat.stream or self.chat.stop:
            async with aclosing(lease.stream(self.page)) as answers:
                async for each in answers:
                    yield each
        else:
            # Pieces aren't needed, so none are sent; and the page is read again in any case when its worker dies.
            read = await lease.infer(self.page)
            yield Delta(text=read.text)
            yield read

    def _note(self, read: Delta | PageResult) -> None:
        if isinstance(read, PageResult):
            self.read = read
        self.prompt_tokens = max(self.prompt_tokens, read.prompt_tokens)
        self.completion_tokens = max(self.completion_tokens, read.completion_tokens)

    async def own(self) -> dict[str, Any]:
        """Return the answer's extra object `ocr`: what `POST /ocr` answers, parsed only where `ocr` was sent."""
        asked = self.chat.asked
        own: dict[str, Any] = {"task": asked.task}
        if self.page_count > 1:
            own["page_count"] = self.page_count
        if self.read is None:
            return {**own, "metadata": {"finish_reason": "stop", "ignored_fields": list(asked.ignored)}}
        backend = self.request.app[MANAGER].snapshot().device.kind
        make = partial(
            pages.answer, self.read, asked, self.model, backend=backend, waited=self.waited, prefix="ocr."
        )
        read = make() if pages.is_short(self.read) else await asyncio.to_thread(make)
        if self.chat.wants_parsed and not self.stops.found:
            own |= {"text": read.text, "boxes": read.boxes, "image_dims": read.image_dims}
        return {**own, "metadata": read.metadata}


async def _stream(request: web.Request, writer: Writer, reading: _Reading) -> web.StreamResponse:
    """Send the answer as events. The head is sent with the first piece or the first heartbeat: a failure before has a
    status of its own, a later one is sent as an event."""
    events = sse.Events(request)
    try:
        with suppress(sse.Gone):
            await _write(events, writer, reading)
    except Exception as error:
        if not events.opened:
            raise
        await _send_error(request, events, error)
    return events.response


async def _write(events: sse.Events, writer: Writer, reading: _Reading) -> None:
    begun = False
    async with aclosing(sse.with_timeouts(reading.texts(), sse.HEARTBEAT_SECONDS)) as texts:
        async for text in texts:
            if not events.opened:
                await events.open()
            if text is None:
                await events.heartbeat()
                continue
            if not begun:
                begun = True
                seconds = time.perf_counter() - reading.began
                reading.request.app[METRICS].first_piece_seconds.labels(reading.model.name).observe(seconds)
                await events.send(msgspec.json.encode(writer.begin()))
            await events.send(msgspec.json.encode(writer.piece(text)))
    if not events.opened:
        await events.open()
    if not begun:
        await events.send(msgspec.json.encode(writer.begin()))
    await events.send(msgspec.json.encode(writer.end(reading.finish_reason, await reading.own())))
    if writer.include_usage:
        await events.send(msgspec.json.encode(writer.usage_chunk(reading.usage)))
    await events.send(b"[DONE]")


async def _send_error(request: web.Request, events: sse.Events, error: Exception) -> None:
    """End a stream that can't go on: an event with the error, and no `[DONE]`."""
    request_id = request[REQUEST_ID]
    fault = faults.known(error)
    if fault is None:
        log.error("stream failed request_id=%s", request_id, exc_info=error)
        fault = faults.unexpected(request_id)
    else:
        log.warning("stream ended code=%s request_id=%s: %s", fault.code, request_id, fault.message)
    with suppress(sse.Gone):
        await events.send(msgspec.json.encode(fault.body(request.path)))
