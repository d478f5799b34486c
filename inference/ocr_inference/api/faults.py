"""What the exceptions of the other modules look like on the wire, whether an answer has begun or not."""

from aiohttp import web

from ocr_inference import errors
from ocr_inference.errors import ApiError
from ocr_inference.manager.manager import Refused
from ocr_inference.protocol.engine import EngineError


def known(error: BaseException) -> ApiError | None:
    """The answer to an exception that somebody raised on purpose; None for a fault of ours."""
    match error:
        case ApiError():
            return error
        case Refused(refusal=refusal):
            rule = errors.REFUSALS.get(refusal.reason, errors.UNKNOWN)
            return errors.of(rule, refusal.message, retry_after_seconds=refusal.retry_after_seconds)
        case EngineError(failure=failure):
            rule = errors.FAILURES.get(failure.kind, errors.UNKNOWN)
            return errors.of(rule, failure.message, param=failure.param)
        case web.RequestPayloadError():
            return ApiError(400, "broken_body", f"the body can't be read: {str(error)[:200]}")
    return None


def unexpected(request_id: str) -> ApiError:
    """The answer to a fault of ours: the traceback is in the log, and the way to find it goes to the client."""
    message = f"this server has a fault; its log has the details under request id {request_id}"
    return ApiError(500, errors.UNKNOWN.code, message)
