"""Server-sent events out of chunks of bytes, bounded: the sender is a pod that may be hostile.

The grammar is the HTML standard's (section 9.2.6), for the part that a state stream uses: `event`, `data` and
comments. `id` and `retry` are read over.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MAX_EVENT_BYTES: Final = 256 * 1024
"""Of one event, its lines and the one that isn't complete yet included: a state is a few KiB."""


MAX_LINES: Final = 4096
"""Of one chunk, which is a quarter of a MiB at most: hundreds of states have fewer."""


class InvalidStream(ValueError):
    """The sender breaks the bounds; nothing that follows can be trusted."""


@dataclass(frozen=True, slots=True)
class Message:
    event: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A comment line: the sender is alive."""


class Parser:
    """Feed it chunks as they come; it keeps what isn't complete yet."""

    __slots__ = ("_data", "_event", "_max", "_rest", "_size")

    def __init__(self, max_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_bytes
        self._rest = b""
        self._event = ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[Message | Heartbeat]:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(lines) > MAX_LINES:
            raise InvalidStream(f"more than {MAX_LINES} lines at once")
        for line in lines:
            if (found := self._line(line.removesuffix(b"\r"))) is not None:
                yield found
        if self._size + len(self._rest) > self._max:
            raise InvalidStream(f"an event of more than {self._max} bytes")

    def _line(self, line: bytes) -> Message | Heartbeat | None:
        if not line:
            return self._dispatch()
        self._size += len(line)
        if self._size > self._max:
            raise InvalidStream(f"an event of more than {self._max} bytes")
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match field:
            case b"":
                self._size -= len(line)
                return Heartbeat()
            case b"event":
                self._event = value[:64].decode("utf-8", "replace")
            case b"data":
                self._data.append(value)
        return None

    def _dispatch(self) -> Message | None:
        message = Message(self._event or "message", b"\n".join(self._data)) if self._data else None
        self._event, self._data, self._size = "", [], 0
        return message
