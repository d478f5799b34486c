"""`GET /`: a page to try the server with, one file that loads nothing from elsewhere."""

from importlib.resources import files

from aiohttp import web

from ocr_wire import tasks

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src 'self' blob:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_OPTIONS = "".join(f"<option>{word}" for word in tasks.WORDS)
_HTML = files("ocr_inference.api.ui").joinpath("page.html").read_text().replace("TASKS", _OPTIONS)


async def page(_request: web.Request) -> web.Response:
    return web.Response(
        text=_HTML,
        content_type="text/html",
        headers={"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"},
    )
