"""The ways in which a source fails, as errors that name the thing, the field and the way out."""

import errno

from ocr_inference.protocol.engine import EngineError, Failure, FailureKind
from ocr_wire.redaction import redact

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MAX_SHOWN = 120


def unavailable(message: str) -> EngineError:
    return EngineError(Failure(kind=FailureKind.SOURCE_UNAVAILABLE, message=message))


def invalid(file: str, field: str, message: str) -> EngineError:
    """Return an error about a field; `file` is empty for the whole folder, `field` for the whole file."""
    where = ": ".join(shown(part) for part in (file, field) if part)
    text = f"{where}: {message}" if where else message
    return EngineError(Failure(kind=FailureKind.INVALID_CHECKPOINT, message=text, param=field or None))


def disk_full(message: str) -> EngineError:
    return EngineError(Failure(kind=FailureKind.DISK_FULL, message=message))


def is_disk_full(error: OSError) -> bool:
    """Return whether the disk, a quota or a limit on the size of files is exhausted."""
    return error.errno in _FULL


def shown(text: str) -> str:
    """Return an untrusted text, short and printable enough for a message, and without secrets."""
    return "".join(char if char.isprintable() else "?" for char in redact(text)[:_MAX_SHOWN])
