"""`GET /openapi.json`, the document; and `GET /docs`, which shows it by Swagger UI, files of ours from this server."""

import asyncio
from importlib.resources import files
from typing import Final

from aiohttp import web

from ocr_inference.api.appkeys import OPENAPI
from ocr_inference.api.openapi.operations import HTML, OBJECT, Tag, documented, json
from ocr_inference.errors import ApiError

_FOLDER: Final = files("ocr_inference.api.openapi").joinpath("swagger")
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
"""Swagger UI writes styles into its elements; scripts come from this server alone."""
_TYPES: Final = {
    "docs.js": "text/javascript",
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
}
"""Files that the page loads."""
_HTML: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>ocr-inference: HTTP API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
<div id="ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/docs.js"></script>
"""


@documented("This document", tag=Tag.PAGES, answers=json(OBJECT))
async def document(request: web.Request) -> web.Response:
    headers = {"Cache-Control": "no-cache"}
    return web.Response(body=request.app[OPENAPI], content_type="application/json", headers=headers)


@documented("This document, to look at and to try", tag=Tag.PAGES, answers=HTML)
async def docs(_: web.Request) -> web.Response:
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
    return web.Response(text=_HTML, content_type="text/html", headers=headers)


@documented(
    "Files of that page",
    tag=Tag.PAGES,
    answers={media: {"type": "string"} for media in sorted(set(_TYPES.values()))},
)
async def file(request: web.Request) -> web.Response:
    name = request.match_info["file"]
    if name not in _TYPES:
        raise ApiError(404, "not_found", f"the page has no file {name[:80]!r}")
    text = await asyncio.to_thread(_FOLDER.joinpath(name).read_bytes)
    response = web.Response(body=text, content_type=_TYPES[name], charset="utf-8")
    response.headers["Cache-Control"] = "max-age=86400"
    response.enable_compression()
    return response
