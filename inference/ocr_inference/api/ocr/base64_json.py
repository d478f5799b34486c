"""`POST /ocr-base64`: one picture inside JSON, as clients of the low-VRAM server send it."""

from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import msgspec
from aiohttp import web

from ocr_inference.api import compatible, forms, inline, reading
from ocr_inference.api.appkeys import BODIES, CONFIG, MANAGER, respond
from ocr_inference.api.ocr import ocr
from ocr_inference.api.openapi.operations import Field, Tag, documented, json, of_fields
from ocr_inference.api.schema import FIELDS, MAX_PROMPT, DocumentAnswer, OcrAnswer, OcrRequest
from ocr_inference.errors import ApiError

PICTURES: Final = ("image_base64", "image")
MAX_COMMAS: Final = 4096
"""Most commas of a body, its picture aside: each value but the first has one before it."""
_ASKED: Final = ("prompt_type", "mode", "prompt", "find_term", "search_text", "custom_prompt")
_DEFAULT: Final = "free"
"""Task of the low-VRAM server where nothing is asked for."""


@dataclass(frozen=True)
class Request:
    asked: OcrRequest
    picture: str
    """Data URL, or base64 alone."""
    picture_param: str


def parse(body: bytes | bytearray, query: Iterable[tuple[str, str]] = ()) -> Request:
    """Parse a body; raises `ApiError` that names the field. Fields are those of `POST /ocr`, in the query, too."""
    if body.count(b",") > MAX_COMMAS:
        raise ApiError(413, "body_too_large", f"the body has more than {MAX_COMMAS} values")
    try:
        sent = msgspec.json.decode(body, type=dict[str, str | bool | int | float | None])
    except msgspec.ValidationError as error:
        message = f"the body is an object of texts, numbers and booleans: {str(error)[:200]}"
        raise ApiError(422, "invalid_value", message) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(400, "invalid_json", f"the body is no valid JSON: {str(error)[:200]}") from None
    param, picture = _picture(sent)
    fields = {
        name: _text(value) for name, value in sent.items() if name not in PICTURES and value is not None
    }
    for name, value in query:
        if fields.setdefault(name, value) != value:
            raise ApiError(422, "invalid_value", f"{name} is given twice, with two values", param=name)
    if not any(fields.get(name, "").strip() for name in _ASKED):
        fields["prompt_type"] = _DEFAULT
    asked = compatible.parse_ocr(fields)
    sent_as = {**asked.sent_as, "file": (param,)}
    return Request(replace(asked, sent_as=sent_as, wants_output_file=True), picture, param)


def _picture(sent: Mapping[str, object]) -> tuple[str, str]:
    found = [(name, value) for name in PICTURES if (value := sent.get(name))]
    if len(found) > 1:
        raise ApiError(422, "invalid_value", "send one picture: image_base64 or image", param=found[1][0])
    for name, value in found:
        if isinstance(value, str):
            return name, value
        raise ApiError(422, "invalid_value", f"{name} is a text: a data URL, or base64", param=name)
    raise ApiError(
        422, "missing_image", "the body has no picture: send it as image_base64", param=PICTURES[0]
    )


def _text(value: str | bool | float) -> str:
    """Return a value as a form has it."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


@documented(
    "Read a picture inside JSON",
    tag=Tag.READ,
    takes=json(
        of_fields(
            {PICTURES[0]: Field({"type": "string"}, "data URL, or base64 alone", required=True), **FIELDS}
        )
    ),
    answers=json((OcrAnswer, DocumentAnswer)),
)
async def ocr_base64(request: web.Request) -> web.Response:
    limits, manager = request.app[CONFIG].server.limits, request.app[MANAGER]
    manager.refuse_when_full()
    size = forms.json_size(request, forms.most_json_bytes(limits.max_upload_bytes))
    async with request.app[BODIES].admitted(size) as reserved, AsyncExitStack() as files:
        manager.refuse_when_full()  # while it waited, too
        parsed = partial(parse, query=tuple(request.query.items()))
        asked, picture = await inline.received(
            request, reserved, files, parsed, long_text=MAX_PROMPT, bare=True
        )
        asked = replace(asked, picture="")
        reserved.shrink(picture.size)
        reader = reading.Reader.of(request.app, asked.asked)
        return respond(await ocr.answer(reader, picture, asked.picture_param))
