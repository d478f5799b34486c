"""All routes of the server, the token that each needs, and their description (OpenAPI)."""

from collections.abc import Iterable

from aiohttp import web

from ocr_inference import __version__
from ocr_inference.api import appkeys, bodies
from ocr_inference.api.control import controls, health, settings, state
from ocr_inference.api.exports import pictures
from ocr_inference.api.exports import routes as exports
from ocr_inference.api.jobs import routes as jobs
from ocr_inference.api.mcp import endpoint
from ocr_inference.api.mistral import files
from ocr_inference.api.mistral import ocr as mistral_ocr
from ocr_inference.api.ocr import base64_json, ocr, pdf
from ocr_inference.api.openai import completions, models
from ocr_inference.api.openapi import document, operations
from ocr_inference.api.openapi import routes as openapi
from ocr_inference.api.openapi.document import Access
from ocr_inference.api.peers import routes as peers
from ocr_inference.api.tokens import TokenFile
from ocr_inference.api.ui import page
from ocr_inference.errors import MCP_PATH
from ocr_wire import names

CALLS: tuple[tuple[str, str, appkeys.Handler], ...] = (
    ("POST", names.PATH_OCR, ocr.ocr),
    ("POST", "/ocr-base64", base64_json.ocr_base64),
    ("POST", "/ocr-pdf", pdf.ocr_pdf),
    ("POST", "/pdf-to-images", pdf.pdf_to_images),
    ("POST", "/v1/chat/completions", completions.completions),
    ("POST", "/v1/ocr", mistral_ocr.ocr),
    ("POST", "/v1/files", files.upload),
    ("GET", "/v1/files/{id}", files.file),
    ("GET", "/v1/files/{id}/url", files.url),
    ("DELETE", "/v1/files/{id}", files.delete),
    ("GET", "/v1/files/{id}/pages", pictures.count_of_file),
    ("GET", "/v1/files/{id}/pages/{page}/image", pictures.of_file),
    ("POST", "/v1/exports", exports.export),
    ("GET", "/v1/jobs", jobs.jobs),
    ("POST", "/v1/jobs", jobs.submit),
    ("GET", "/v1/jobs/{id}", jobs.job),
    ("GET", "/v1/jobs/{id}/result", jobs.results),
    ("GET", "/v1/jobs/{id}/pages/{page}/image", pictures.of_job),
    ("DELETE", "/v1/jobs/{id}", jobs.cancel),
)
"""Routes that need an API key where a keys file is configured."""

CONTROLS: tuple[tuple[str, str, appkeys.Handler], ...] = (
    ("POST", names.PATH_LOAD, controls.load),
    ("POST", names.PATH_OFFLOAD, controls.offload),
    ("POST", names.PATH_RELEASE, controls.release),
    ("POST", names.PATH_TIMEOUT, controls.timeout),
    ("POST", "/cleanup", controls.clean_up),
    ("PUT", names.PATH_SETTINGS, settings.put),
    ("POST", names.PATH_HELPERS, peers.helpers),
    ("POST", names.PATH_PAGES, peers.read),
)
"""Routes that need the admin token where a token file is configured."""

TOOLS: tuple[tuple[str, str, appkeys.Handler], ...] = (("POST", MCP_PATH, endpoint.mcp),)
"""Routes that need an API key or the admin token where keys are configured; each tool checks which."""

OPEN: tuple[tuple[str, str, appkeys.Handler], ...] = (
    ("GET", "/", page.page),
    ("GET", "/ui/{path}", page.file),
    ("GET", "/health", health.health),
    ("GET", "/gpu/status", health.gpu_status),
    ("GET", names.PATH_LIVE, health.livez),
    ("GET", names.PATH_READY, health.readyz),
    ("GET", "/metrics", health.metrics),
    ("GET", names.PATH_STATE, state.state),
    ("GET", "/v1/models", models.models),
    ("GET", "/v1/models/{model}", models.model),
    ("GET", "/openapi.json", openapi.document),
    ("GET", "/docs", openapi.docs),
    ("GET", "/docs/{file}", openapi.file),
)

LOOKS = frozenset({names.PATH_LIVE, names.PATH_READY, "/health", "/gpu/status", "/metrics", names.PATH_STATE})
"""Routes of `OPEN` that are answered when all connections are taken, but for watches."""


ROUTES: tuple[tuple[str, str, appkeys.Handler, Access], ...] = tuple(
    (*route, access)
    for routes, access in (
        (OPEN, Access.OPEN),
        (CALLS, Access.KEY),
        (CONTROLS, Access.ADMIN),
        (TOOLS, Access.EITHER),
    )
    for route in routes
)
"""All routes, and the token that each needs."""


def add(router: web.UrlDispatcher) -> None:
    """Add all routes; a `GET` answers `HEAD`, too."""
    for method, path, handler, _ in ROUTES:
        resource = router.add_resource(path.replace("{path}", "{path:.+}"))  # with its slashes
        resource.add_route(method, handler, expect_handler=bodies.expect)
        if method == "GET":
            resource.add_route("HEAD", handler, expect_handler=bodies.expect)  # aiohttp leaves the body out


def access(*, calls: TokenFile | None, controls: TokenFile | None) -> appkeys.Access:
    """Return which tokens open which routes; None: no token is needed."""
    return appkeys.Access(
        calls=calls,
        controls=controls,
        call_routes=_protected(CALLS),
        control_routes=frozenset((method, path) for method, path, _ in CONTROLS),
        tool_routes=frozenset((method, path) for method, path, _ in TOOLS),
        look_routes=LOOKS,
    )


def _protected(routes: Iterable[tuple[str, str, appkeys.Handler]]) -> frozenset[tuple[str, str]]:
    """Return the routes as requests name them: `GET` has a `HEAD`."""
    found = {(method, path) for method, path, _ in routes}
    return frozenset(found | {("HEAD", path) for method, path in found if method == "GET"})


def describe() -> bytes:
    """Make the OpenAPI document; raises `Undocumented` where a handler has no declaration."""
    return document.make(
        __version__,
        (
            document.Route(method, path, access, operations.of(handler))
            for method, path, handler, access in ROUTES
        ),
    )
