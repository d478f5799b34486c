"""Steps around every request: its id, its line in the log, its metrics, its origin, its access, its errors."""

import hashlib
import logging
import math
import re
import secrets
import time

from aiohttp import HttpVersion11, web

from ocr_inference.api import bodies, faults, origins
from ocr_inference.api.appkeys import (
    ACCESS,
    CORS_HEADERS,
    METRICS,
    ORIGINS,
    REQUEST_ID,
    Access,
    Handler,
    respond,
)
from ocr_inference.api.tokens import NoTokens, TokenFile
from ocr_inference.connections import listening
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
            *(listening.client(request.remote), request[REQUEST_ID]),
        )


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


HEADERS = {"X-Content-Type-Options": "nosniff"}
"""Headers of every answer, whatever the request."""


async def add_headers(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Add headers to every answer, streams included."""
    response.headers.update(request.get(CORS_HEADERS, {}))
    response.headers["X-Request-ID"] = request.get(REQUEST_ID, "")
    response.headers.update(HEADERS)


@web.middleware
async def render_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what a handler raises into an answer; no handler renders errors."""
    response = await _answered(request, handler)
    if bodies.waits(request):
        # What comes next on this connection may be the body, or the next request: nobody can tell.
        response.force_close()
    return response


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    # No variable here may hold an exception: its traceback holds this frame, and such a circle would keep alive
    # everything that the request took until the collector comes by.
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return render(_of_http(request, error), request.path)
    except Exception as error:
        if faults.known(error) is None:
            # A fault of ours: the traceback goes to the log, and only the way to find it to the client.
            log.exception("request failed request_id=%s route=%s", request[REQUEST_ID], route_of(request))
        return render(faults.known(error) or faults.unexpected(request[REQUEST_ID]), request.path)


def _of_http(request: web.Request, error: web.HTTPException) -> ApiError:
    """Turn aiohttp's own refusals into our shape and words."""
    match error:
        case web.HTTPNotFound():
            return ApiError(404, "not_found", f"nothing at {request.path[:200]}")
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            message = f"{request.method[:20]} isn't possible at {request.path[:200]}; possible: {allowed}"
            return ApiError(405, "method_not_allowed", message, headers={"Allow": allowed})
        case web.HTTPRequestEntityTooLarge():
            return ApiError(413, "body_too_large", f"the body is too large: {error.text}")
    return ApiError(error.status, error.reason.lower().replace(" ", "_"), error.text or error.reason)


def render(error: ApiError, path: str) -> web.Response:
    """Make the answer of an error to a request to `path`."""
    response = respond(error.body(path), error.status)
    response.headers.update(error.headers)
    if error.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_seconds)))
    return response


def render_outside(error: ApiError | None, request: web.BaseRequest) -> web.Response:
    """Make the answer of an error that happened outside of all handlers; None is a fault of ours."""
    request_id: str = request.get(REQUEST_ID) or secrets.token_hex(8)
    response = render(error or faults.unexpected(request_id), request.path)
    response.headers.update({**HEADERS, "X-Request-ID": request_id})
    return response


@web.middleware
async def check_expectation(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what a client expects, but to be asked for its body (RFC 9110, 10.1.1)."""
    expected = request.headers.get("Expect", "")
    if request.version >= HttpVersion11 and expected.lower() not in {"", "100-continue"}:
        raise ApiError(417, "expectation_failed", f"100-continue can be expected here, not {expected[:40]!r}")
    return await handler(request)


@web.middleware
async def check_origin(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what a browser sends for another site's page, or under a name that isn't ours; answer preflights."""
    policy = request.app[ORIGINS]
    caller = origins.Caller(
        method=request.method,
        host=_sent(request, "Host"),
        origin=_sent(request, "Origin"),
        fetch_site=_sent(request, "Sec-Fetch-Site"),
        preflight_for=_sent(request, "Access-Control-Request-Method"),
    )
    verdict = origins.decide(policy, caller)
    request[CORS_HEADERS] = origins.headers(policy, verdict, caller.origin)
    match verdict:
        case origins.Refused(code, message):
            raise ApiError(403, code, message)
        case origins.Preflight():
            return web.Response(status=204)
        case origins.Passed():
            return await handler(request)


def _sent(request: web.Request, name: str) -> str | None:
    """Return a header; several of one name together, so that none of them is believed alone."""
    return ", ".join(request.headers.getall(name, ())) or None


@web.middleware
async def authorize(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Check the token that the route needs: 401 without one, 403 with a wrong one, 503 where none can be right."""
    access = request.app[ACCESS]
    route = (request.method, route_of(request))
    if route in access.call_routes:
        await check_call(request)
    elif route in access.control_routes:
        await check_control(request)
    elif route in access.tool_routes and not await is_admin(request):
        await check_call(request)
    return await handler(request)


async def check_call(request: web.Request) -> None:
    """Check the token of a call that reads pages."""
    await _check(request, request.app[ACCESS].calls, "an API key")


async def check_control(request: web.Request) -> None:
    """Check the token of a control."""
    access = request.app[ACCESS]
    _check_open(access)
    await _check(request, access.controls, "the admin token")


def _check_open(access: Access) -> None:
    """Refuse controls that no token opens: keys given out for pages don't mean that everyone may unload models."""
    if access.calls is not None and access.controls is None:
        raise ApiError(
            403,
            "controls_closed",
            "API keys are configured and no admin token, so controls are closed: set OCR_ADMIN_TOKEN_FILE",
        )


async def _check(request: web.Request, tokens: TokenFile | None, what: str) -> None:
    if tokens is None:
        return
    if (token := token_of(request)) is None:
        raise ApiError(
            401,
            "missing_token",
            f"this call needs {what}: send the header 'Authorization: Bearer …'",
            headers={"WWW-Authenticate": "Bearer"},
        )
    try:
        allowed = await tokens.allows(token)
    except NoTokens:
        raise ApiError(
            503,
            "tokens_unavailable",
            f"{what} is needed and this server has none: its file is missing or has no token, see the server's log",
            retry_after_seconds=RETRY_AFTER_SECONDS,
        ) from None
    if not allowed:
        raise ApiError(403, "wrong_token", f"this isn't {what} of this server")


def caller(request: web.Request) -> str:
    """Return by what a client that may read pages is known again: a hash of its API key; empty where there are no keys,
    by which one client could be known from others."""
    token = token_of(request)
    if request.app[ACCESS].calls is None or token is None:
        return ""
    return hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()


async def is_admin(request: web.Request) -> bool:
    """Return whether the request carries the admin token, for calls that don't need it; False where there is none."""
    tokens, token = request.app[ACCESS].controls, token_of(request)
    if tokens is None or token is None:
        return False
    try:
        return await tokens.allows(token)
    except NoTokens:
        return False


def token_of(request: web.Request) -> str | None:
    """Return the token that a request carries."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
