"""Connection of one client. What isn't HTTP never reaches a handler, and is answered in our shape of errors, too."""

import secrets

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from ocr_inference.api import faults
from ocr_inference.api.appkeys import REQUEST_ID
from ocr_inference.api.middleware import HEADERS, render
from ocr_inference.errors import ApiError


class Connection(web.RequestHandler):
    """aiohttp's connection, with errors of ours where it would answer in plain text."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a fault that no handler saw, and close. Raises `ConnectionError` where an answer has begun."""
        super().handle_error(request, status, exc, message)  # logs it
        request_id: str = request.get(REQUEST_ID) or secrets.token_hex(8)
        error = faults.unexpected(request_id) if status >= 500 else _malformed(exc, self.max_line_size)
        response = render(error)
        response.headers.update({**HEADERS, "X-Request-ID": request_id})
        response.force_close()
        return response


def _malformed(error: BaseException | None, longest: int) -> ApiError:
    # What the parser says isn't repeated: it may quote a header, and so a token.
    if isinstance(error, LineTooLong):
        reason = f"the request line or a header is longer than {longest} bytes"
    else:
        reason = "what was sent can't be read as an HTTP/1.1 request"
    return ApiError(400, "malformed_request", reason)
