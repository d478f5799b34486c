"""Lines of a log that clients could cause by the thousand: one of a kind, with the number of those left out."""

import logging
import math
from collections.abc import Callable
from typing import Any


class Sparse:
    """Lines of which clients could cause thousands a second: one of a kind within some seconds."""

    MOST_KINDS = 64

    def __init__(self, now: Callable[[], float], seconds: float = 10.0) -> None:
        self._now = now
        self._seconds = seconds
        self._kinds: dict[str, tuple[float, int]] = {}
        """Of each kind the time of its last line, and the lines that were left out since."""

    def due(self, kind: str) -> int | None:
        """Return how many lines of the kind were left out since the last one, or None: leave this one out."""
        kind = kind if kind in self._kinds or len(self._kinds) < self.MOST_KINDS else "other kinds"
        said, left_out = self._kinds.get(kind, (-math.inf, 0))
        if self._now() - said < self._seconds:
            self._kinds[kind] = said, left_out + 1
            return None
        self._kinds[kind] = self._now(), 0
        return left_out


def loop_errors(log: logging.Logger, sparse: Sparse) -> Callable[[object, dict[str, Any]], None]:
    """Make an asyncio loop's handler of errors that no task awaits, such as those of a broken connection."""

    def handle(_: object, context: dict[str, Any]) -> None:
        message = str(context.get("message", "unhandled error"))[:200]
        error = context.get("exception")
        if (left_out := sparse.due(f"{message} {type(error).__name__}")) is not None:
            log.error("%s left_out=%d", message, left_out, exc_info=error)

    return handle
