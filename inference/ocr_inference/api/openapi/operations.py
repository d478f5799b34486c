"""Declarations of calls, beside their handlers; `document` makes the OpenAPI document of them.

    @documented(
        "Read a picture or a document",
        tag=Tag.READ,
        takes=form({"file": Field(FILE, "the picture", required=True), **FIELDS}),
        answers=json(OcrAnswer),
    )
    async def ocr(request: web.Request) -> web.Response: ...

A schema is a type that msgspec decodes or encodes, the one that parses the request where there is one; or a JSON schema
for what no type says. Errors, tokens and parameters of the path aren't declared: they follow from the route.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeVar

Handler = TypeVar("Handler", bound=Callable[..., Any])
Schema = Any
"""A type, a tuple of types that are possible, or a mapping that is a JSON schema."""
Content = Mapping[str, Schema]
"""Schema of each media type."""

_DECLARED: Final = "openapi_operation"


class Tag(StrEnum):
    """Group of calls."""

    READ = "Reading"
    FILES = "Files"
    JOBS = "Jobs"
    MODELS = "Models"
    CONTROL = "Control"
    LOOK = "Looking"
    PAGES = "Pages for people"


@dataclass(frozen=True)
class Field:
    """Field of a form, or of a query."""

    schema: Schema
    description: str
    required: bool = False


@dataclass(frozen=True)
class Operation:
    """Declaration of one call."""

    summary: str
    tag: Tag
    description: str
    query: Mapping[str, Field]
    takes: Content
    """Body; none where empty."""
    needs_body: bool
    answers: Content
    status: int
    """Of these answers."""
    others: Mapping[int, Content]
    """Answers of other statuses that aren't errors as all calls have them."""


def documented(
    summary: str,
    *,
    tag: Tag,
    description: str = "",
    query: Mapping[str, Field] | None = None,
    takes: Content | None = None,
    needs_body: bool = True,
    answers: Content | None = None,
    status: int = 200,
    others: Mapping[int, Content] | None = None,
) -> Callable[[Handler], Handler]:
    """Return a decorator that declares the handler's call."""
    operation = Operation(
        summary=summary,
        tag=tag,
        description=description,
        query=query or {},
        takes=takes or {},
        needs_body=needs_body,
        answers=answers or {},
        status=status,
        others=others or {},
    )

    def declare(handler: Handler) -> Handler:
        setattr(handler, _DECLARED, operation)
        return handler

    return declare


class Undocumented(LookupError):
    """Handler without a declaration."""


def of(handler: Callable[..., Any]) -> Operation:
    """Return what is declared of a handler; raises `Undocumented`."""
    found = getattr(handler, _DECLARED, None)
    if not isinstance(found, Operation):
        name = f"{handler.__module__}.{handler.__qualname__}"
        raise Undocumented(f"{name} has no @documented (api/openapi/operations.py)")
    return found


# --- contents -------------------------------------------------------------------------------------------------

FILE: Final[Schema] = {"type": "string", "format": "binary"}
TEXT: Final[Content] = {"text/plain": {"type": "string"}}
HTML: Final[Content] = {"text/html": {"type": "string"}}
OBJECT: Final[Schema] = {"type": "object"}
EVENTS: Final[Content] = {
    "text/event-stream": {
        "type": "object",
        "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
        "description": "Server-sent events, each with this.",
    }
}
"""Stream of events; the data of each is JSON."""


def json(schema: Schema) -> Content:
    """Return the content that is JSON."""
    return {"application/json": schema}


def form(fields: Mapping[str, Field]) -> Content:
    """Return the content that is a form with files."""
    return {"multipart/form-data": of_fields(fields)}


def any_form(fields: Mapping[str, Field]) -> Content:
    """Return the content that is a JSON object, or a form with the same fields."""
    media = ("application/json", "application/x-www-form-urlencoded", "multipart/form-data")
    return dict.fromkeys(media, of_fields(fields))


def of_fields(fields: Mapping[str, Field]) -> Schema:
    """Return the schema of an object with these fields."""
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            name: {**each.schema, "description": each.description} for name, each in fields.items()
        },
    }
    if required := [name for name, each in fields.items() if each.required]:
        schema["required"] = required
    return schema
