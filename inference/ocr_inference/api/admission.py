"""Step that gives each request its place, or refuses it where all are taken."""

from aiohttp import web

from ocr_inference.api.appkeys import ACCESS, Handler
from ocr_inference.api.middleware import is_admin, route_of
from ocr_inference.connections.connection import Connection
from ocr_inference.connections.phases import Kind
from ocr_inference.errors import RETRY_AFTER_SECONDS, ApiError


@web.middleware
async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Serve the request while there are places for its kind, or the admin's for the admin token."""
    connection = request.protocol
    assert isinstance(connection, Connection)
    if connection.begin(request, _kind(request)):
        return await handler(request)
    # The token is looked at here only: it is read from a file.
    if await is_admin(request) and connection.begin(request, Kind.ADMIN):
        return await handler(request)
    raise ApiError(
        503,
        "too_many_connections",
        "this server answers as many requests as it can; try again",
        retry_after_seconds=RETRY_AFTER_SECONDS,
        headers={"Connection": "close"},
    )


def _kind(request: web.Request) -> Kind:
    looks = request.app[ACCESS].look_routes
    if request.method in ("GET", "HEAD") and route_of(request) in looks and "watch" not in request.query:
        return Kind.LOOK
    return Kind.ORDINARY
