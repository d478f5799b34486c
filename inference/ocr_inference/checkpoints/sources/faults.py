"""The ways in which a source fails, as errors that name the thing, the field and the way out."""

import errno

from ocr_inference.protocol.engine import EngineError, Failure, FailureKind

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MAX_SHOWN = 120


def unavailable(message: str) -> EngineError:
    return EngineError(Failure(kind=FailureKind.SOURCE_UNAVAILABLE, message=message))


def invalid(file: str, field: str, message: str) -> EngineError:
    """`file` may be empty for the folder as a whole, `field` for the file as a whole."""
    where = ": ".join(shown(part) for part in (file, field) if part)
    text = f"{where}: {message}" if where else message
    return EngineError(Failure(kind=FailureKind.INVALID_CHECKPOINT, message=text, param=field or None))


def disk_full(message: str) -> EngineError:
    return EngineError(Failure(kind=FailureKind.DISK_FULL, message=message))


def is_disk_full(error: OSError) -> bool:
    """Also where a quota or a limit on the size of files says so."""
    return error.errno in _FULL


def shown(text: str) -> str:
    """What a stranger wrote, short and printable enough for a message."""
    return "".join(char if char.isprintable() else "?" for char in text[:_MAX_SHOWN])
