"""The OpenAPI document says what the routes are."""

import inspect
from typing import Any

import msgspec
import pytest
from aiohttp import web
from openapi_spec_validator import OpenAPIV31SpecValidator

from ocr_inference.api import routes
from ocr_inference.api.ocr import ocr
from ocr_inference.api.openapi import operations

DOCUMENT: dict[str, Any] = msgspec.json.decode(routes.describe())


def test_every_route_is_documented_and_nothing_else() -> None:
    documented = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert documented == {(method, path) for method, path, _, _ in routes.ROUTES}


def test_the_document_is_valid() -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def test_tokens_are_those_of_the_routes() -> None:
    for method, path, _, access in routes.ROUTES:
        security = DOCUMENT["paths"][path][method.lower()].get("security", [{}])
        assert [name for each in security for name in each] == ([access.value] if access.value else [])


def test_what_each_call_answers_and_takes_has_a_schema() -> None:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            done = [status for status in operation["responses"] if status.startswith("2")]
            assert operation["responses"][done[0]]["content"], (method, path)
            assert operation["summary"][0].isupper(), (method, path)
            assert (method in {"post", "put"}) == ("requestBody" in operation), (method, path)


def test_names_are_public_and_used() -> None:
    text = msgspec.json.encode(DOCUMENT["paths"]) + msgspec.json.encode(DOCUMENT["components"])
    for name in DOCUMENT["components"]["schemas"]:
        assert not name.startswith("_")
        assert f'"#/components/schemas/{name}"'.encode() in text, name


def test_a_handler_without_a_declaration_is_named() -> None:
    async def bare(_: web.Request) -> web.Response:
        return web.Response()

    with pytest.raises(operations.Undocumented, match=r"test_document.*bare has no @documented"):
        operations.of(bare)


def test_a_declared_handler_is_still_the_function() -> None:
    assert inspect.iscoroutinefunction(ocr.ocr)
