"""`POST /v1/chat/completions`: read one page in OpenAI's shape, whole or as it is written."""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from aiohttp import web

from ocr_inference import families
from ocr_inference.api import faults, forms, pages, sse
from ocr_inference.api.appkeys import CONFIG, MANAGER, METRICS, REQUEST_ID, respond
from ocr_inference.api.openai import answer, chat, dataurl
from ocr_inference.api.openai.answer import StopTexts, Usage, Writer
from ocr_inference.api.openai.chat import ChatRequest
from ocr_inference.config.settings import Limits, ModelConfig
from ocr_inference.documents import images
from ocr_inference.manager.manager import Lease
from ocr_inference.protocol.engine import Delta, EngineError, PageResult

log = logging.getLogger(__name__)


async def completions(request: web.Request) -> web.StreamResponse:
    app = request.app
    config, limits = app[CONFIG], app[CONFIG].server.limits
    app[MANAGER].refuse_when_full()
    body = await forms.read_json(request, limits.max_upload_bytes * 4 // 3 + forms.OVERHEAD_BYTES)
    began = time.perf_counter()
    asked, picture = await asyncio.to_thread(_parsed, body, limits)
    del body
    model = pages.choose_model(config, asked.asked.model)
    family = families.of(model.engine)
    asked = chat.fitted(asked, family.tasks)
    pages.refuse_unsupported(asked.asked.task, model, family, "ocr.task")
    await images.check(picture, limits.max_image_pixels, asked.picture_param)

    writer = Writer(
        f"chatcmpl-{secrets.token_hex(12)}", int(time.time()), model.name, include_usage=asked.include_usage
    )
    reading = _Reading(request, asked, model, picture, began)
    if asked.stream:
        return await _stream(request, writer, reading)
    async with aclosing(reading.texts()) as texts:
        content = "".join([text async for text in texts])
    return respond(writer.whole(content, reading.finish_reason, reading.usage, await reading.own()))


def _parsed(body: bytearray, limits: Limits) -> tuple[ChatRequest, bytes]:
    asked = chat.parse(body)
    picture = dataurl.decode(asked.picture, limits.max_upload_bytes, asked.picture_param)
    # The URL is larger than its picture, and the request may wait for long.
    return replace(asked, picture=""), picture


@dataclass
class _Reading:
    """Reading of one page for one request, and what is known of it so far."""

    request: web.Request
    chat: ChatRequest
    model: ModelConfig
    picture: bytes
    began: float
    """Time at which the body was complete, on the clock of `time.perf_counter`."""
    waited: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    page: PageResult | None = None
    """None until the model is done, and where a stop text ended the answer before."""
    stops: StopTexts = field(init=False)

    def __post_init__(self) -> None:
        self.stops = StopTexts(self.chat.stop)

    @property
    def finish_reason(self) -> str:
        return "stop" if self.page is None or self.stops.found else self.page.finish_reason

    @property
    def usage(self) -> Usage:
        return answer.usage(self.prompt_tokens, self.completion_tokens)

    async def texts(self) -> AsyncGenerator[str, None]:
        """Yield the answer's pieces, up to the first stop text; raises what `Lease.infer` raises."""
        app, name = self.request.app, self.model.name
        try:
            async with app[MANAGER].lease(name) as lease:
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
        app[METRICS].count_page(name, self.chat.asked.task, None if self.page is None else self.page.seconds)

    async def _answers(self, lease: Lease) -> AsyncGenerator[Delta | PageResult, None]:
        limits = self.request.app[CONFIG].server.limits
        asked = pages.infer_request(self.picture, self.chat.asked, limits.max_image_pixels)
        if self.chat.stream or self.chat.stop:
            async with aclosing(lease.stream(asked)) as answers:
                async for each in answers:
                    yield each
        else:
            # Pieces aren't needed, so none are sent; and the page is read again in any case when its worker dies.
            page = await lease.infer(asked)
            yield Delta(text=page.text)
            yield page

    def _note(self, read: Delta | PageResult) -> None:
        if isinstance(read, PageResult):
            self.page = read
        self.prompt_tokens = max(self.prompt_tokens, read.prompt_tokens)
        self.completion_tokens = max(self.completion_tokens, read.completion_tokens)

    async def own(self) -> dict[str, Any]:
        """Return the answer's extra object `ocr`: what `POST /ocr` answers, parsed only where `ocr` was sent."""
        asked = self.chat.asked
        own: dict[str, Any] = {"task": asked.task}
        if self.page is None:
            return {**own, "metadata": {"finish_reason": "stop", "ignored_fields": list(asked.ignored)}}
        backend = self.request.app[MANAGER].snapshot().device.kind
        read = await asyncio.to_thread(
            pages.answer, self.page, asked, self.model, backend=backend, waited=self.waited, prefix="ocr."
        )
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
        await events.send(msgspec.json.encode(fault.body))
