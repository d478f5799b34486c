"""Torch's errors when memory runs out or a device breaks, as failures of pages, of moves and of the process."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ocr_inference import limits
from ocr_inference.protocol.engine import Broken, EngineError, Failure, FailureKind
from ocr_wire.redaction import redact

log = logging.getLogger(__name__)

_MAX_MESSAGE = 1000
_OUT_OF_MEMORY = (
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""Texts of errors without a type of their own, besides those of `limits`: libraries that allocate by themselves."""


def ran_out(error: BaseException) -> bool:
    """Whether the error means that memory ran out, and the device is as good as before."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    return limits.ran_out(error) or any(words in str(error) for words in _OUT_OF_MEMORY)


def sticks(error: BaseException) -> bool:
    """Whether the device answers nothing but this from now on (illegal access, a failed assertion, a lost GPU)."""
    return isinstance(error, torch.AcceleratorError) and not ran_out(error)


@contextmanager
def device_errors() -> Iterator[None]:
    """Guard the moves of weights: whole models, so memory that runs out here isn't a page's failure."""
    try:
        yield
    except Exception as error:
        raise_if_broken(error)
        if isinstance(error, EngineError | MemoryError) or not ran_out(error):
            raise
        # Without the cause: its traceback would hold on to what it failed with.
        raise MemoryError(str(error)[:_MAX_MESSAGE]) from None


def raise_if_broken(error: Exception) -> None:
    """Log an error that sticks, and raise `Broken` in its place."""
    if sticks(error):
        log.error("the GPU can't be used by this process any more", exc_info=error)
        message = shown("the GPU reports an error after which this process can't use it", error)
        raise Broken(Failure(kind=FailureKind.WORKER_DIED, message=message)) from None


def shown(what: str, error: BaseException) -> str:
    """Return the message of a failure, without secrets, of a bounded length."""
    return redact(f"{what}: {type(error).__name__}: {error}")[:_MAX_MESSAGE]
