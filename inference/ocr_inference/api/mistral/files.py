"""`/v1/files`: documents that are sent once, and read by their id."""

import time
from typing import Literal

from aiohttp import web
from msgspec import Struct

from ocr_inference.api import forms
from ocr_inference.api.appkeys import BODIES, CONFIG, FILES, respond
from ocr_inference.api.mistral.file_store import Stored
from ocr_inference.api.openapi.operations import FILE, Field, Tag, documented, form, json
from ocr_inference.errors import ApiError
from ocr_wire import text


class FileAnswer(Struct, frozen=True, kw_only=True):
    """File, in the shape of Mistral's. Times are Unix times in whole seconds."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str = "ocr"
    sample_type: str = "ocr_input"
    source: str = "upload"
    deleted: bool = False


class Deleted(Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


class SignedUrl(Struct, frozen=True):
    url: str
    """What `POST /v1/ocr` takes as a `document_url`; nothing is fetched from it."""


@documented(
    "Keep a document to be read by its id",
    tag=Tag.FILES,
    takes=form(
        {
            "file": Field(FILE, "the document", required=True),
            "purpose": Field({"type": "string", "enum": ["ocr"], "default": "ocr"}, "what it is for"),
        }
    ),
    answers=json(FileAnswer),
)
async def upload(request: web.Request) -> web.Response:
    most = request.app[CONFIG].server.limits.max_upload_bytes
    size = forms.upload_size(request, most)
    async with request.app[BODIES].admitted(size) as reserved:
        with reserved.file() as file:
            sent = await forms.read_upload(request, most, file.write)
            reserved.shrink(file.size)
            if not sent.has_picture:
                message = "the form has no document: send it in field 'file'"
                raise ApiError(400, "missing_file", message, param="file")
            purpose = sent.fields.get("purpose", "ocr")
            if purpose != "ocr":
                message = f"purpose can only be ocr; got {text.shown(purpose)!r}"
                raise ApiError(422, "invalid_value", message, param="purpose")
            if not file.size:
                raise ApiError(422, "empty_upload", "the uploaded file is empty: 0 bytes", param="file")
            stored = request.app[FILES].store(file, sent.filename)
    return respond(_answer(request, stored))


@documented("What a kept document is", tag=Tag.FILES, answers=json(FileAnswer))
async def file(request: web.Request) -> web.Response:
    return respond(_answer(request, request.app[FILES].find(request.match_info["id"])))


@documented("The URL by which a document is read", tag=Tag.FILES, answers=json(SignedUrl))
async def url(request: web.Request) -> web.Response:
    stored = request.app[FILES].find(request.match_info["id"])
    return respond(SignedUrl(f"http://{request.host}/v1/files/{stored.id}"))


@documented("Drop a kept document", tag=Tag.FILES, answers=json(Deleted))
async def delete(request: web.Request) -> web.Response:
    return respond(Deleted(id=request.app[FILES].delete(request.match_info["id"]).id))


def _answer(request: web.Request, stored: Stored) -> FileAnswer:
    files = request.app[FILES]
    created = round(time.time() - files.now() + stored.created)
    return FileAnswer(
        id=stored.id,
        bytes=stored.size,
        created_at=created,
        expires_at=created + round(files.keep_seconds),
        filename=stored.name,
    )
