"""Fields of a control, from its query and its body.

What isn't understood is refused: a control that lost a field would act on more than was meant, and on everything
without its `model`.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Final, NoReturn
from urllib.parse import parse_qsl

from aiohttp import web

from ocr_inference.api import forms, schema
from ocr_inference.api.openapi.operations import Content, Field, any_form
from ocr_inference.errors import ApiError
from ocr_wire import numbers
from ocr_wire.checked import Unknown
from ocr_wire.settings import MAX_SECONDS
from ocr_wire.text import shown

MAX_BODY_BYTES: Final = 1 << 16

_FLAG: Final = {"type": "boolean", "default": False}
FIELDS: Final[Mapping[str, Field]] = {
    "model": Field({"type": "string", "minLength": 1}, "this one of `GET /v1/models`"),
    "all": Field(_FLAG, "all models, as without any field"),
    "force": Field(_FLAG, "now: workers that are at work are killed"),
    "if_idle": Field(_FLAG, "at once or not at all; needs `model`"),
    "min_resident_seconds": Field(
        {"type": "number", "minimum": 0, "maximum": MAX_SECONDS},
        "how long it must have been ready; with `if_idle`",
    ),
    "timeout": Field(
        {"type": "number", "anyOf": [{"const": -1}, {"minimum": 0, "maximum": MAX_SECONDS}]},
        "idle seconds; 0 at once, -1 never",
        required=True,
    ),
}
"""Fields of all controls."""


def documents(names: tuple[str, ...]) -> Content:
    """Return what a control takes that knows these fields."""
    return any_form({name: FIELDS[name] for name in names})


_NO_FIELD: Final = "the form has no field: send no body, or all: true, for all models"


async def read(request: web.Request, known: tuple[str, ...]) -> Mapping[str, object]:
    """Return the fields that were sent; raises `ApiError` for a body or a field that isn't understood.

    A request without a body has none, whatever content type its client put there.
    """
    return merged([*request.query.items(), *await _body(request)], known)


def merged(sent: Iterable[tuple[str, object]], known: tuple[str, ...]) -> Mapping[str, object]:
    """Return pairs from all places as one mapping; raises 422 for a name that isn't known or has two values."""
    fields: dict[str, object] = {}
    for name, value in sent:
        if name not in known:
            hint = Unknown(name, shown(name), known).hint
            there = f"there are {', '.join(known)}" if known else "there are none"
            raise ApiError(
                422, "unknown_field", f"no field {shown(name)!r} here{hint}; {there}", param=shown(name)
            )
        if name in fields and _text(fields[name]) != _text(value):
            both = f"{shown(_text(fields[name]))!r} and {shown(_text(value))!r}"
            raise ApiError(422, "invalid_value", f"{name} is given twice, as {both}", param=name)
        fields[name] = value
    return fields


def _text(value: object) -> str:
    """Return a value as a query has it."""
    return value if isinstance(value, str) else json.dumps(value)


async def _body(request: web.Request) -> Iterable[tuple[str, object]]:
    match forms.media_type(request):
        case _ if not request.body_exists:
            return ()
        case "application/json":
            return _json_pairs(await forms.read_body(request, MAX_BODY_BYTES))
        case "application/x-www-form-urlencoded":
            return _form_pairs(await forms.read_body(request, MAX_BODY_BYTES))
        case "multipart/form-data":
            upload = await forms.read_upload(request, MAX_BODY_BYTES, _drop)
            if not upload.has_parts:
                raise ApiError(400, "malformed_multipart", _NO_FIELD)
            files = [(forms.FILE_FIELDS[0], "")] if upload.has_picture else []
            return [*upload.fields.items(), *files]
        case other:
            if await forms.is_empty(request):
                return ()
            raise ApiError(
                415,
                "unsupported_media_type",
                "send the fields as application/json, application/x-www-form-urlencoded or multipart/form-data, "
                f"or in the query; got {shown(other)}",
            )


def _drop(_: bytes) -> None:
    """Take bytes of a picture, which no control has."""


def _json_pairs(body: bytes | bytearray) -> Iterable[tuple[str, object]]:
    """Return the members of an object; unlike a mapping of them, pairs keep a name that is there twice."""
    if not body:
        return ()
    try:
        value = json.loads(body, object_pairs_hook=_Members, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reason = shown(str(error)) if isinstance(error, ValueError) else "nested too deeply"
        raise ApiError(400, "invalid_json", f"the body is no valid JSON: {reason}") from error
    if not isinstance(value, _Members):
        raise ApiError(422, "invalid_value", "the body must be a JSON object")
    return value


class _Members(tuple[tuple[str, object], ...]):
    """Members of a JSON object, in their order."""

    __slots__ = ()


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def _form_pairs(body: bytes | bytearray) -> Iterable[tuple[str, object]]:
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, errors="strict", max_num_fields=forms.MAX_FIELDS
        )
    except ValueError as error:
        raise ApiError(400, "malformed_form", f"the form can't be read: {shown(str(error))}") from error
    if body and not pairs:
        raise ApiError(400, "malformed_form", _NO_FIELD)
    return pairs


def flag(fields: Mapping[str, object], name: str) -> bool:
    """Return a yes or no, no where it wasn't sent; raises 422 for anything else."""
    value = fields.get(name, False)
    found = schema.FLAGS.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(found, bool):
        raise ApiError(
            422, "invalid_value", f"{name} is true or false; got {shown(_text(value))!r}", param=name
        )
    return found


def seconds(fields: Mapping[str, object], name: str, *, never: bool = False) -> float:
    """Return a number of seconds, or -1 where `never` allows it; raises 422 where it wasn't sent or is no such
    number."""
    or_never = ", or -1 for never" if never else ""
    value = fields.get(name, "")
    if value in ("", None):
        raise ApiError(422, "missing_value", f"{name} is needed: seconds{or_never}", param=name)
    number = numbers.decimal(value, -1, MAX_SECONDS) if isinstance(value, str) else value
    if (
        isinstance(number, bool)
        or not isinstance(number, int | float)
        # Compared as it is: an integer of 400 digits is no float.
        or not (0 <= number <= MAX_SECONDS or (never and number == -1))
    ):
        raise ApiError(
            422,
            "invalid_value",
            f"{name} is seconds from 0 to {MAX_SECONDS}{or_never}; got {shown(_text(value))!r}",
            param=name,
        )
    return float(number)
