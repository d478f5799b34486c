"""How exceptions of other modules are answered on the wire, whether an answer has begun or not."""

from aiohttp import web

from ocr_inference import errors
from ocr_inference.errors import ApiError
from ocr_inference.manager.manager import Refused
from ocr_inference.protocol.engine import EngineError


def known(error: BaseException) -> ApiError | None:
    """Return the answer to an exception that was raised on purpose; None for a fault of ours."""
    match error:
        case ApiError():
            return error
        case Refused(refusal=refusal):
            rule = errors.REFUSALS.get(refusal.reason, errors.UNKNOWN)
            return errors.of(
                rule,
                refusal.message,
                retry_after_seconds=refusal.retry_after_seconds,
                suggestions=refusal.suggestions,
            )
        case EngineError(failure=failure):
            rule = errors.FAILURES.get(failure.kind, errors.UNKNOWN)
            return errors.of(rule, failure.message, param=failure.param, suggestions=failure.suggestions)
        case web.RequestPayloadError():
            return ApiError(400, "broken_body", f"the body can't be read: {str(error)[:200]}")
    return None


def unexpected(request_id: str) -> ApiError:
    """Return the answer to a fault of ours: the traceback is in the log, and the client gets the way to find it."""
    message = f"this server has a fault; its log has the details under request id {request_id}"
    return ApiError(500, errors.UNKNOWN.code, message)
