"""One line a decision: `time level logger message`, or the same as JSON with every field on its own."""

import contextlib
import json
import logging
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final, TextIO

from aiohttp.http_exceptions import HttpProcessingError
from prometheus_client import Counter

from ocr_wire import redaction
from ocr_wire.redaction import redact

Redact = Callable[[str], str]

_OURS: Final = "ocr_operator."
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
    "color_message",
}


class Text(logging.Formatter):
    """Text for people: fields follow the message as `name=value`. Secrets are left out."""

    def __init__(self, redactor: Redact = redact) -> None:
        super().__init__()
        self._redact = redactor

    def format(self, record: logging.LogRecord) -> str:
        extra = "".join(f" {name}={value}" for name, value in _fields(record).items())
        line = f"{_time(record)} {record.levelname.lower():7} {record.getMessage()}{extra}"
        return self._redact(f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line)


class Json(logging.Formatter):
    """JSON for machines. Secrets are left out of each text in it."""

    def __init__(self, redactor: Redact = redact) -> None:
        super().__init__()
        self._redact = redactor

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(redaction.everywhere(line, self._redact), default=str)


def quieten(record: logging.LogRecord) -> bool:
    """Leave out the traceback of a request that isn't HTTP, and what the parser quotes: it may be half a token."""
    if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
        said = redaction.parser_words(record.exc_info[1].message)
        record.msg, record.args = f"{record.getMessage()}: not HTTP: {said}", ()
        record.exc_info, record.levelno, record.levelname = None, logging.WARNING, "WARNING"
    return True


def configure(level: str, style: str, stream: TextIO = sys.stderr, redactor: Redact = redact) -> None:
    """Everything goes to one stream; other people's loggers speak from warnings on, unless we debug."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Json(redactor) if style == "json" else Text(redactor))
    handler.addFilter(quieten)
    logging.captureWarnings(True)  # Python would write them to standard error as they are
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if level == "debug" else logging.WARNING)
    logging.getLogger("ocr_operator").setLevel(level.upper())


class FaultCounter(logging.Handler):
    """Counts the lines with a traceback, by the module that wrote them: whatever is contained is still seen."""

    def __init__(self, faults: Counter) -> None:
        """Have the series of all modules that write lines, so that each one's first fault is an increase."""
        super().__init__()
        self._faults = faults
        known = dict(logging.root.manager.loggerDict)
        for name in ("", *(each for each, logger in known.items() if isinstance(logger, logging.Logger))):
            faults.labels(_module(name))

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[0] is not None:
            self._faults.labels(_module(record.name)).inc()


def _module(logger: str) -> str:
    """Return the operator's module that a logger is of; `other` for one of a library."""
    return logger.removeprefix(_OURS) if logger.startswith(_OURS) else "other"


@contextlib.contextmanager
def counted(faults: Counter) -> Iterator[None]:
    """Count faults for as long as the block runs."""
    handler = FaultCounter(faults)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {
        name: value
        for name, value in vars(record).items()
        if name not in _STANDARD and isinstance(value, str | int | float | bool | None)
    }


def _time(record: logging.LogRecord) -> str:
    return (
        datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
