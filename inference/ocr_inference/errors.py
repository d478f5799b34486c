"""Errors between a client and this server, as values: each has its status, type and code.

Handlers raise `ApiError`; the middleware renders it, once, in the shape that the clients of its path read. The tables
map reasons of other modules (of a refused lease, of an engine's failed call) to the wire.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from ocr_wire.errors import ErrorInfo
from ocr_wire.redaction import redact

TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    417: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "unavailable_error",
    504: "timeout_error",
    507: "insufficient_memory_error",
}
"""The wire's `type` of each status that this server answers with."""

OPENAI_PATHS: Final = "/v1/"
"""Beginning of the paths whose errors have OpenAI's shape."""
MCP_PATH: Final = "/mcp"
"""Path whose errors are those of JSON-RPC: its clients show the words of no other."""
_INVALID_REQUEST, _INTERNAL_ERROR = -32600, -32603
"""Codes of JSON-RPC."""

RETRY_AFTER_SECONDS = 1.0
"""`Retry-After` of 429 and 503 where no better value is known: a wake is a matter of seconds."""


class ApiError(Exception):
    """Answer that isn't 2xx. The message names the thing and the way out, for the client."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_seconds: float | None = None,
        headers: Mapping[str, str] | None = None,
        suggestions: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_seconds = retry_after_seconds
        self.headers = dict(headers or {})
        self.suggestions = suggestions

    def fresh(self) -> Self:
        """Return an equal error that was never raised: one that is kept would keep, by its traceback, what was read."""
        return type(self)(
            self.status,
            self.code,
            self.message,
            param=self.param,
            retry_after_seconds=self.retry_after_seconds,
            headers=self.headers,
            suggestions=self.suggestions,
        )

    @property
    def info(self) -> ErrorInfo:
        """Error as it stands in an answer."""
        kind = TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return ErrorInfo(
            message=redact(self.message),
            type=kind,
            code=self.code,
            param=self.param,
            suggestions=self.suggestions,
        )

    def body(self, path: str = "") -> dict[str, Any]:
        """Return the document for a request to `path`: in OpenAI's shape below `/v1`, in JSON-RPC's at `/mcp`, else
        flat. Empty where the path isn't known."""
        info = self.info
        if path == MCP_PATH:
            code = _INVALID_REQUEST if self.status < 500 else _INTERNAL_ERROR
            about = {"code": code, "message": info.message, "data": info.flat()}
            return {"jsonrpc": "2.0", "id": None, "error": about}
        return info.nested() if path.startswith(OPENAI_PATHS) else info.flat()


@dataclass(frozen=True)
class Rule:
    """Answer to one reason on the wire."""

    status: int
    code: str
    retry: bool = False
    """Whether the same request may succeed later: the answer has a `Retry-After`."""


REFUSALS: Mapping[str, Rule] = {
    "unknown_model": Rule(404, "model_not_found"),
    "queue_full": Rule(429, "queue_full", retry=True),
    "deadline": Rule(504, "deadline_exceeded"),
    "draining": Rule(503, "draining", retry=True),
    "load_failed": Rule(503, "load_failed", retry=True),
    "no_fit": Rule(507, "no_fit"),
    "out_of_memory": Rule(507, "out_of_memory"),
    "gpu_memory": Rule(503, "gpu_memory", retry=True),
    "engine_missing": Rule(503, "engine_missing"),
    "model_busy": Rule(409, "model_busy", retry=True),
}
"""Answers to a request that got no lease."""

FAILURES: Mapping[str, Rule] = {
    "invalid_image": Rule(422, "invalid_image"),
    "image_too_large": Rule(413, "image_too_large"),
    "unsupported": Rule(422, "unsupported"),
    "out_of_memory": Rule(507, "out_of_memory"),
    "out_of_descriptors": Rule(503, "out_of_descriptors", retry=True),
    "timed_out": Rule(504, "deadline_exceeded"),
    "worker_died": Rule(503, "worker_died", retry=True),
    "page_kills_worker": Rule(422, "page_kills_worker"),
    "source_unavailable": Rule(503, "source_unavailable", retry=True),
    "invalid_checkpoint": Rule(503, "invalid_checkpoint", retry=True),
    "disk_full": Rule(503, "disk_full", retry=True),
    "failed": Rule(500, "engine_failed"),
}
"""Answers to a failed call of an engine."""

UNKNOWN = Rule(500, "internal_error")


def of(
    rule: Rule,
    message: str,
    *,
    param: str | None = None,
    retry_after_seconds: float | None = None,
    suggestions: tuple[str, ...] = (),
) -> ApiError:
    """Make the error that `rule` answers with; only retryable ones have a `Retry-After`."""
    after = (retry_after_seconds or RETRY_AFTER_SECONDS) if rule.retry else None
    if suggestions:
        message = f"{message}. What may help: {'; '.join(suggestions)}"
    return ApiError(
        rule.status,
        rule.code,
        message,
        param=param,
        retry_after_seconds=after,
        # OpenAI's clients try again after every status from 500 on, but for this header.
        headers={"x-should-retry": "false"} if rule.status in (503, 507) and not rule.retry else None,
        suggestions=suggestions,
    )
