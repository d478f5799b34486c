"""What callers of a manager meet when they get no model."""

from ocr_inference.scheduling.state import Reason, Refusal


class Closed(RuntimeError):
    """Manager that was closed, or whose program ends."""


class NoRoom(MemoryError):
    """Model that needs more of the GPU than its budget has; waiting doesn't help."""


def as_exception(refusal: Refusal, error: BaseException | None) -> BaseException:
    """Return what is raised for a refusal; `error` is what the model's last call raised, such as its load function."""
    match refusal.reason:
        case Reason.LOAD_FAILED | Reason.OUT_OF_MEMORY if error is not None:
            return error
        case Reason.NO_FIT:
            return NoRoom(f"{refusal.message}: raise budget_bytes, or load a smaller model")
        case Reason.DEADLINE:
            return TimeoutError(refusal.message)
        case Reason.UNKNOWN_MODEL | Reason.DRAINING:
            return Closed(f"the manager is closed: {refusal.message}")
        case _:
            return RuntimeError(refusal.message)
