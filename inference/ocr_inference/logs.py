"""Log lines, one an event, on standard error: time, level, logger, message, then fields as `key=value`."""

import logging
import sys
from collections.abc import Callable

from aiohttp.http_exceptions import HttpProcessingError

from ocr_wire.redaction import parser_words, redact

_OWN = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})
"""Attributes of every record; any other was given as `extra`."""


class Formatter(logging.Formatter):
    """Lines without secrets: those that `redactor` finds, in a message, its fields and its traceback."""

    def __init__(self, redactor: Callable[[str], str] = redact) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")
        self._redact = redactor

    def format(self, record: logging.LogRecord) -> str:
        return self._redact(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's name
        fields = " ".join(f"{key}={_shown(value)}" for key, value in vars(record).items() if key not in _OWN)
        line = super().formatMessage(record).replace("\r", "\\r").replace("\n", "\\n")
        return f"{line} {fields}" if fields else line


def _shown(value: object) -> str:
    text = str(value)
    return repr(text) if not text or not text.isprintable() or " " in text else text


def quieten(record: logging.LogRecord) -> bool:
    """Leave out the traceback of a request that isn't HTTP at all: clients must not fill the log with ours.

    What the parser quotes is left out, too: it may be a part of a token, which has no shape.
    """
    if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
        said = parser_words(record.exc_info[1].message)
        record.msg, record.args = f"{record.getMessage()}: not HTTP: {said}", ()
        record.exc_info, record.levelno, record.levelname = None, logging.WARNING, "WARNING"
    return True


def to_stderr(level: int, redactor: Callable[[str], str] = redact) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter(redactor))
    handler.addFilter(quieten)
    logging.basicConfig(level=level, handlers=[handler])
    logging.captureWarnings(True)  # Python would write them to standard error as they are
