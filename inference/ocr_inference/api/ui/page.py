"""`GET /`: the web page; `GET /ui/{path}`: what it loads. Nothing of it comes from elsewhere."""

from typing import Final

from aiohttp import hdrs, web

from ocr_inference.api.appkeys import CONFIG, UI_FILES, respond
from ocr_inference.api.openapi.operations import HTML, Tag, documented, json
from ocr_inference.api.ui import about, files
from ocr_inference.api.ui.about import About
from ocr_inference.errors import ApiError

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; font-src 'self'; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
"""A model's answer that found a way into the page could neither run nor load nor send anything."""
_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    # Asked for again each time, and not sent where it is the same: a new server is a new page, as a whole.
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}


@documented(
    "The web page; for a client that doesn't accept HTML by its name, what this server is",
    tag=Tag.PAGES,
    answers={**HTML, **json(About)},
    others={304: {}},
)
async def page(request: web.Request) -> web.Response:
    if about.wants_page(request.headers.getall(hdrs.ACCEPT, ())):
        response = _sent(request, files.INDEX)
    else:
        response = respond(about.about(request.app[CONFIG].models[0].name))
    response.headers[hdrs.VARY] = "Accept, Accept-Encoding"
    return response


@documented(
    "Files of the web page",
    tag=Tag.PAGES,
    answers={media: {"type": "string"} for media in sorted(set(files.TYPES.values()))},
    others={304: {}},
)
async def file(request: web.Request) -> web.Response:
    return _sent(request, request.match_info["path"])


def _sent(request: web.Request, path: str) -> web.Response:
    found = request.app[UI_FILES].get(path)
    if found is None:
        raise ApiError(404, "not_found", f"the page has no file {path[:80]!r}")
    response = web.Response(headers=_HEADERS)
    response.etag = found.etag
    known = request.if_none_match or ()
    if any(each.value in {found.etag, "*"} for each in known):
        response.set_status(304)
        return response
    response.content_type = found.type
    if found.type not in files.BINARY:
        response.charset = "utf-8"
    if found.compressed is not None and _takes_gzip(request):
        response.headers[hdrs.CONTENT_ENCODING] = "gzip"
        response.body = found.compressed
    else:
        response.body = found.content
    return response


def _takes_gzip(request: web.Request) -> bool:
    """Return whether the client named gzip and didn't refuse it."""
    for each in ",".join(request.headers.getall(hdrs.ACCEPT_ENCODING, ())).split(","):
        coding, _, weight = each.partition(";")
        if coding.strip().lower() in {"gzip", "x-gzip"}:
            return weight.replace(" ", "").lower().rstrip("0") not in {"q=", "q=0."}
    return False
