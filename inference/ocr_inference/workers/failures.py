"""What exceptions of a worker process become: failures and lines of its log, both without secrets."""

import logging
from collections.abc import Callable
from typing import Final

import msgspec

from ocr_inference import limits
from ocr_inference.checkpoints.sources import faults
from ocr_inference.checkpoints.weights.header import BadWeights
from ocr_inference.protocol.engine import Answer, Failure, FailureKind

log = logging.getLogger(__name__)

MAX_MESSAGE: Final = 2000
"""Most characters of an exception's text in an answer; libraries put whole tracebacks there."""


def explained(error: Exception) -> Failure:
    """Make a failure of an exception: memory, disk and checkpoint by name, all others with a traceback in the log."""
    kind, message, of_host = FailureKind.FAILED, f"{type(error).__name__}: {error}", False
    match error:
        case MemoryError() if str(error):
            kind, message = FailureKind.OUT_OF_MEMORY, f"out of memory: {error}"
            of_host = isinstance(error, limits.OutOfHostMemory)
        case _ if limits.ran_out(error):
            said = str(error).strip().rpartition("\n")[2] or type(error).__name__
            kind, of_host = FailureKind.OUT_OF_MEMORY, "CUDA" not in said
            message = f"out of {'host' if of_host else 'device'} memory: {said}"
        case OSError() if faults.is_disk_full(error):
            kind = FailureKind.DISK_FULL
        case BadWeights():
            kind, message = FailureKind.INVALID_CHECKPOINT, str(error)
        case _:
            log.error("a call failed", exc_info=error)
    return Failure(kind=kind, message=message, of_host=of_host)


def without_secrets(answer: Answer, redact: Callable[[str], str]) -> Answer:
    """Return an answer as it leaves the process: of a failure, which a library may have worded, the message is cleaned
    and then cut. What was read from a page stays as it is, whatever it looks like."""
    if not isinstance(answer.result, Failure):
        return answer
    message = redact(answer.result.message)[:MAX_MESSAGE]
    return msgspec.structs.replace(answer, result=msgspec.structs.replace(answer.result, message=message))


class Lines(logging.Formatter):
    """Lines of the log without secrets, tracebacks included."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        super().__init__("%(message)s")
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        return self._redact(super().format(record))
