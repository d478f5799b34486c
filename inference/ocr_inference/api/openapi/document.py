"""The OpenAPI document (3.1) of all calls, made of their declarations and of the tables of routes."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import msgspec

from ocr_inference.api.openapi.operations import Content, Field, Operation, Schema, Tag
from ocr_inference.errors import MCP_PATH, OPENAI_PATHS

_REF: Final = "#/components/schemas/"
_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_WORD: Final[Schema] = {"type": ["string", "null"]}
_ADVICE: Final[Mapping[str, Schema]] = {"suggestions": {"type": "array", "items": {"type": "string"}}}


class Access(Enum):
    """Token that a call needs, where one is configured; the name of its scheme."""

    OPEN = None
    KEY = "apiKey"
    ADMIN = "adminToken"
    EITHER = "apiKeyOrAdminToken"


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    access: Access
    operation: Operation


def make(version: str, routes: Iterable[Route]) -> bytes:
    """Return the document as JSON."""
    listed = tuple(routes)
    schemas = _Schemas(listed)
    paths: dict[str, dict[str, Any]] = {}
    for route in listed:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    made = {
        "openapi": "3.1.0",
        "info": {
            "title": "ocr-inference",
            "version": version,
            "description": "OCR on shared GPUs: models load on the first page, and give the GPU back when idle.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": ".", "description": "this server"}],
        "tags": [{"name": tag.value} for tag in Tag],
        "paths": paths,
        "components": {
            "schemas": schemas.components | _ERRORS,
            "securitySchemes": {
                each.value: {"type": "http", "scheme": "bearer", "description": words}
                for each, words in _TOKENS.items()
            },
        },
    }
    return msgspec.json.encode(made)


_TOKENS: Final = {
    Access.KEY: "One of the keys in OCR_API_KEYS_FILE, where it is set.",
    Access.ADMIN: "The token in OCR_ADMIN_TOKEN_FILE, where it is set.",
    Access.EITHER: "An API key or the admin token; each tool needs that of its own call.",
}
_INFO: Final = {"message": {"type": "string"}, "type": _WORD, "code": _WORD, "param": _WORD}
_ERRORS: Final[dict[str, Schema]] = {
    "FlatError": {
        "type": "object",
        "properties": {
            "success": {"const": False},
            "error": {"type": "string"},
            "detail": {"type": "string"},
            **{name: _INFO[name] for name in ("type", "code", "param")},
            **_ADVICE,
        },
        "required": ["success", "error", "detail", "type", "code", "param"],
    },
    "OpenAIError": {
        "type": "object",
        "properties": {"error": {"type": "object", "properties": _INFO, "required": list(_INFO)}, **_ADVICE},
        "required": ["error"],
    },
    "JSONRPCError": {
        "type": "object",
        "properties": {
            "jsonrpc": {"const": "2.0"},
            "id": {"type": ["string", "integer", "null"]},
            "error": {
                "type": "object",
                "properties": {"code": {"type": "integer"}, "message": {"type": "string"}},
                "required": ["code", "message"],
            },
        },
        "required": ["jsonrpc", "error"],
    },
}
"""Shapes of errors, as `ApiError.body` makes them."""


def _operation(route: Route, schemas: "_Schemas") -> dict[str, Any]:
    operation = route.operation
    answers = {operation.status: operation.answers, **operation.others}
    made: dict[str, Any] = {
        "operationId": f"{route.method.lower()}{_camel(route.path)}",
        "summary": operation.summary,
        "tags": [operation.tag.value],
        "responses": {
            str(status): {"description": _STATUSES[status], "content": schemas.content(content)}
            for status, content in answers.items()
        }
        | {
            "default": {
                "description": "Refused, or failed.",
                "content": {"application/json": {"schema": _error(route.path)}},
            }
        },
    }
    if operation.description:
        made["description"] = operation.description
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _PARAMETER.findall(route.path)
    ]
    parameters += [_parameter(name, field) for name, field in operation.query.items()]
    if parameters:
        made["parameters"] = parameters
    if operation.takes:
        made["requestBody"] = {
            "required": operation.needs_body,
            "content": schemas.content(operation.takes),
        }
    if route.access is not Access.OPEN:
        made["security"] = [{}, {route.access.value: []}]
    return made


_STATUSES: Final = {
    200: "Done.",
    202: "Accepted.",
    204: "Done.",
    304: "As the client has it.",
    503: "Not now.",
}


def _camel(path: str) -> str:
    return "".join(word[:1].upper() + word[1:] for word in re.findall(r"[A-Za-z0-9]+", path)) or "Root"


def _parameter(name: str, field: Field) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "required": field.required,
        "description": field.description,
        "schema": field.schema,
    }


def _error(path: str) -> Schema:
    shapes = {MCP_PATH: "JSONRPCError"}
    return {"$ref": _REF + shapes.get(path, "OpenAIError" if path.startswith(OPENAI_PATHS) else "FlatError")}


class _Schemas:
    """Schemas of all types that routes name, each once."""

    def __init__(self, routes: Iterable[Route]) -> None:
        types = [schema for each in routes for schema in _types(each.operation)]
        made, components = msgspec.json.schema_components(types, ref_template=_REF + "{name}")
        self._made = list(zip(types, (_public(each) for each in made), strict=True))
        self.components: dict[str, Schema] = {
            name.lstrip("_"): _public(each) for name, each in sorted(components.items())
        }

    def content(self, content: Content) -> dict[str, Any]:
        return {media: {"schema": self._schema(schema)} for media, schema in content.items()}

    def _schema(self, schema: Schema) -> Schema:
        if isinstance(schema, Mapping):
            return schema
        if isinstance(schema, tuple):
            return {"anyOf": [self._schema(each) for each in schema]}
        return next(made for kind, made in self._made if kind is schema or kind == schema)


def _types(operation: Operation) -> Iterable[Schema]:
    for content in (operation.takes, operation.answers, *operation.others.values()):
        for schema in content.values():
            if isinstance(schema, tuple):
                yield from schema
            elif not isinstance(schema, Mapping):
                yield schema


def _public(schema: Schema) -> Schema:
    """Return a schema whose names have no underscore before them: those of types that only their module uses."""
    if isinstance(schema, dict):
        return {
            name: f"{_REF}{value.removeprefix(_REF).lstrip('_')}"
            if name == "$ref"
            else (value.lstrip("_") if name == "title" and isinstance(value, str) else _public(value))
            for name, value in schema.items()
        }
    return [_public(each) for each in schema] if isinstance(schema, list) else schema
