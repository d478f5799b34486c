"""Calls between pods of one resource, for the admin token only: the name of a pod that helps, and a page to read."""

from contextlib import aclosing
from typing import Annotated, Final

import msgspec
from aiohttp import web

from ocr_inference import __version__
from ocr_inference.api import forms, jsonbody, middleware, pages
from ocr_inference.api.appkeys import ACCESS, CONFIG, MANAGER, PEERS, respond
from ocr_inference.api.ocr import ocr
from ocr_inference.api.openapi.operations import FILE, Field, Tag, documented, form, json
from ocr_inference.api.peers import exchange
from ocr_inference.api.peers.client import PeerError
from ocr_inference.api.peers.exchange import Asked, Part
from ocr_inference.errors import ApiError
from ocr_inference.protocol import frames
from ocr_inference.protocol.engine import EngineError
from ocr_inference.protocol.page_file import Page, PageFile
from ocr_wire import addresses
from ocr_wire.text import ShownModel

MAX_BODY_BYTES: Final = 1 << 12


class HelperBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Pod that helps."""

    model: ShownModel
    ip: Annotated[str, msgspec.Meta(max_length=64)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]


class Helped(msgspec.Struct, frozen=True):
    """Answer: the pod's model is ready, and it reads pages that wait here."""

    success: bool
    message: str


@documented(
    "Name a pod that reads pages which wait here",
    tag=Tag.CONTROL,
    description="Wakes its model, and hands it pages until none waits. Answered when its model is ready.",
    takes=json(HelperBody),
    answers=json(Helped),
)
async def helpers(request: web.Request) -> web.Response:
    _refuse_open(request)
    forms.json_size(request, MAX_BODY_BYTES)
    asked = jsonbody.decode(await forms.read_body(request, MAX_BODY_BYTES), HelperBody)
    model = pages.choose_model(request.app[CONFIG], asked.model).name
    try:
        url = addresses.base_url(asked.ip, asked.port)
    except ValueError as error:
        raise ApiError(422, "invalid_value", "ip is an IP address", param="ip") from error
    try:
        await request.app[PEERS].wake(url, model, middleware.token_of(request) or "")
    except PeerError as error:
        raise ApiError(503, "helper_lost", f"the pod at {url} doesn't help: {error}") from error
    request.app[MANAGER].help(url, model)
    return respond(Helped(success=True, message=f"{url} reads pages that wait for model {model}"))


@documented(
    "Read a page that waits in another pod",
    tag=Tag.CONTROL,
    description="For pods of the same version. The answer is a binary format of theirs.",
    takes=form(
        {
            "file": Field(FILE, "the page", required=True),
            exchange.FIELD: Field({"type": "string"}, "what is asked of it", required=True),
        }
    ),
    answers={exchange.MEDIA_TYPE: {"type": "string", "format": "binary"}},
)
async def read(request: web.Request) -> web.StreamResponse:
    _refuse_open(request)
    async with ocr.received(request) as (upload, file):
        try:
            asked = msgspec.json.decode(upload.fields.get(exchange.FIELD, ""), type=Asked)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ApiError(
                422, "invalid_value", f"{exchange.FIELD} isn't understood", param=exchange.FIELD
            ) from error
        if asked.version != __version__:
            message = f"the page is of version {asked.version[:64]}, this server of {__version__}"
            raise ApiError(409, "other_version", message, param=exchange.FIELD)
        return await _answer(request, asked, file)


async def _answer(request: web.Request, asked: Asked, file: PageFile) -> web.StreamResponse:
    page = Page(file, asked.options)
    response = web.StreamResponse(headers={"Content-Type": exchange.MEDIA_TYPE})

    async def send(part: Part) -> None:
        if not response.prepared:
            await response.prepare(request)
        await response.write(frames.pack(part))

    try:
        async with request.app[MANAGER].lease(asked.model, page=page, waited=asked.waited) as lease:
            if asked.stream:
                async with aclosing(lease.stream(page)) as parts:
                    async for part in parts:
                        await send(part)
            else:
                await send(await lease.infer(page))
    except EngineError as error:
        await send(error.failure)
    return response


def _refuse_open(request: web.Request) -> None:
    """Refuse where no admin token is configured: anyone could name a helper, and so get pages of others."""
    if request.app[ACCESS].controls is None:
        raise ApiError(403, "controls_closed", "pods help each other where there is an admin token only")
