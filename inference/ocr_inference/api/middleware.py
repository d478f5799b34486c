"""Steps around every request: its id, its line in the log, its metrics, its access, its errors."""

import logging
import math
import re
import secrets
import time

from aiohttp import web

from ocr_inference.api import faults
from ocr_inference.api.appkeys import ACCESS, METRICS, REQUEST_ID, Handler, respond
from ocr_inference.api.tokens import NoTokens, TokenFile
from ocr_inference.errors import RETRY_AFTER_SECONDS, ApiError

log = logging.getLogger(__name__)
access_log = logging.getLogger("ocr_inference.access")

_REQUEST_ID = re.compile(r"[\w.:/+=-]{1,64}", re.ASCII)
_QUIET = frozenset({"/livez", "/readyz", "/metrics"})
"""Routes that machines call every few seconds: logged at debug level."""

CLIENT_GONE = 499
"""Status in log and metrics for a client that left before its answer; it isn't sent."""


def route_of(request: web.Request) -> str:
    """Return the route's own path, never what a client typed: it becomes a metric's label."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unmatched"


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request its id (the client's, where it is well-formed), then count and log it."""
    sent = request.headers.get("X-Request-ID", "")
    request[REQUEST_ID] = sent if _REQUEST_ID.fullmatch(sent) else secrets.token_hex(8)
    route, method = route_of(request), request.method if request.method in _METHODS else "other"
    began, status = time.perf_counter(), CLIENT_GONE
    try:
        response = await handler(request)
        status = response.status
        return response
    finally:
        seconds = time.perf_counter() - began
        metrics = request.app[METRICS]
        metrics.requests.labels(method, route, str(status)).inc()
        metrics.request_seconds.labels(method, route).observe(seconds)
        access_log.log(
            logging.DEBUG if route in _QUIET and status < 400 else logging.INFO,
            "method=%s path=%s status=%d seconds=%.4f received=%s remote=%s request_id=%s",
            *(method, request.rel_url.raw_path[:200], status, seconds, request.content_length or 0),
            *(request.remote, request[REQUEST_ID]),
        )


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


HEADERS = {"X-Content-Type-Options": "nosniff"}
"""Headers of every answer, whatever the request."""


async def add_headers(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Add headers to every answer, streams included."""
    response.headers["X-Request-ID"] = request.get(REQUEST_ID, "")
    response.headers.update(HEADERS)


@web.middleware
async def render_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what a handler raises into the one shape of errors; no handler renders errors."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return render(_of_http(request, error))
    except Exception as error:
        known = faults.known(error)
        if known is None:
            # A fault of ours: the traceback goes to the log, and only the way to find it to the client.
            log.exception("request failed request_id=%s route=%s", request[REQUEST_ID], route_of(request))
        return render(known or faults.unexpected(request[REQUEST_ID]))


def _of_http(request: web.Request, error: web.HTTPException) -> ApiError:
    """Turn aiohttp's own refusals into our shape and words."""
    match error:
        case web.HTTPNotFound():
            return ApiError(404, "not_found", f"nothing at {request.path[:200]}")
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            message = f"{request.method[:20]} isn't possible at {request.path[:200]}; {allowed} is"
            return ApiError(405, "method_not_allowed", message, headers={"Allow": allowed})
        case web.HTTPRequestEntityTooLarge():
            return ApiError(413, "body_too_large", f"the body is too large: {error.text}")
    return ApiError(error.status, error.reason.lower().replace(" ", "_"), error.text or error.reason)


def render(error: ApiError) -> web.Response:
    """Make the answer of an error."""
    response = respond(error.body, error.status)
    response.headers.update(error.headers)
    if error.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_seconds)))
    return response


@web.middleware
async def authorize(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Check the token that the route needs: 401 without one, 403 with a wrong one, 503 where none can be right."""
    access = request.app[ACCESS]
    route = (request.method, route_of(request))
    if route in access.call_routes:
        await _check(request, access.calls, "an API key")
    elif route in access.control_routes:
        await _check(request, access.controls, "the admin token")
    return await handler(request)


async def _check(request: web.Request, tokens: TokenFile | None, what: str) -> None:
    if tokens is None:
        return
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise ApiError(
            401,
            "missing_token",
            f"this call needs {what}: send the header 'Authorization: Bearer …'",
            headers={"WWW-Authenticate": "Bearer"},
        )
    try:
        allowed = await tokens.allows(token.strip())
    except NoTokens:
        raise ApiError(
            503,
            "tokens_unavailable",
            f"{what} is needed and this server has none: its file is missing or has no token, see the server's log",
            retry_after_seconds=RETRY_AFTER_SECONDS,
        ) from None
    if not allowed:
        raise ApiError(403, "wrong_token", f"this isn't {what} of this server")
