"""Long data URLs, taken out of JSON while it arrives: a page of 45 MiB goes into a file as it comes, and the JSON that
is left is small. What is meant by it is not decided here: the JSON is parsed as ever, and each long data URL in it ends
with a mark in place of its data.

Where anything is odd, it is left in the JSON for its parser to judge. The outcome doesn't depend on where the text is
cut. Nothing here waits, and each step is short, whatever is sent.
"""

import re
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from ocr_inference.api import dataurl
from ocr_inference.api.dataurl import Decoder
from ocr_inference.errors import ApiError

LONG_BYTES: Final = 1 << 14
"""Bytes of JSON from which a string is long."""
MAX_TEXT_BYTES: Final = 4 << 20
"""Bytes of JSON besides long data URLs."""
STEP_BYTES: Final = 1 << 16
"""Bytes of a long data URL that are decoded at a time: few enough to stay in a processor's cache."""
_LONGEST_UNIT: Final = 12
"""Bytes of the longest piece of a string that can't be cut: two escapes that are one character."""

_STRINGS: Final = re.compile(rb'[^"]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"]*+)*+', re.DOTALL)
"""JSON up to the beginning of a string that doesn't end here."""
_INSIDE: Final = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
"""Inside of a string, up to its end or a backslash that nothing follows."""


class Sink(Protocol):
    """File that data is written to, one data URL after the other."""

    @property
    def size(self) -> int: ...

    def write(self, data: bytes) -> None: ...

    def cut(self, size: int) -> None:
        """Drop what comes after `size` bytes."""


@dataclass
class LongUrl:
    """Data URL that was taken out: where its data is."""

    start: int
    decoder: Decoder
    size: int = 0


class Diversion:
    """JSON of one request."""

    def __init__(
        self,
        mark: str,
        sink: Sink,
        max_bytes: int,
        *,
        long_text: int,
        long_bytes: int = LONG_BYTES,
        bare: bool = False,
    ) -> None:
        """Prepare. `mark` is what no client can know, `max_bytes` the most of one picture, and `long_text` the
        most characters of any other text in a request: a data URL that isn't longer stays where it is. With `bare`,
        base64 alone is taken out, too."""
        self.text = bytearray()
        self.urls: list[LongUrl] = []
        self._mark = mark
        self._sink = sink
        self._max_bytes = max_bytes
        self._long_text = long_text
        self._long_bytes = long_bytes
        self._bare = bare
        self._start: int | None = None
        """Where the open string begins in the text; None outside of strings."""
        self._look_at: int | None = None
        """Length of the open string at which it is looked at, which costs that length; None where it stays as it is."""
        self._escaped = False
        """Whether a backslash came last in the open string, and what it escapes is still to come."""
        self._decoder: Decoder | None = None
        """Of the open string, once it is taken out."""
        self._held = b""
        """End of it that can't be decoded yet."""

    def add(self, piece: bytes) -> None:
        """Take what has arrived; raises 413 where the JSON itself is too large."""
        at = 0
        while at < len(piece):
            if self._decoder is not None:
                at = self._add_long(piece, at, min(len(piece), at + STEP_BYTES))
            elif self._start is not None:
                at = self._add_string(piece, at, min(len(piece), at + self._long_bytes))
            else:
                at = self._add_outside(piece, at, min(len(piece), at + self._long_bytes))
            if len(self.text) > MAX_TEXT_BYTES:
                message = f"the body may have {MAX_TEXT_BYTES} bytes besides its pictures"
                raise ApiError(413, "body_too_large", message)

    def place(self, url: str) -> LongUrl | None:
        """Return the data that a URL of the parsed JSON stands for, if it was taken out."""
        rest = url[url.find(",") + 1 :]
        mark, number, _ = (rest[: len(self._mark) + 16] + "::").split(":", 2)
        return self.urls[int(number)] if mark == self._mark else None

    def _add_outside(self, piece: bytes, at: int, end: int) -> int:
        found = _STRINGS.match(piece, at, end)
        assert found is not None
        stop = found.end()
        self.text += piece[at:stop]
        if stop < end:
            self.text += b'"'
            self._start, self._look_at, self._escaped = len(self.text), self._long_bytes, False
            stop += 1
        return stop

    def _add_string(self, piece: bytes, at: int, end: int) -> int:
        stop = self._scan(piece, at, end)
        self.text += piece[at:stop]
        closed = stop < end
        self._divert(closed=closed)
        if closed:
            self._close()
            stop += 1
        return stop

    def _add_long(self, piece: bytes, at: int, end: int) -> int:
        stop = self._scan(piece, at, end)
        closed = stop < end
        self._decode(self._held + piece[at:stop], closed=closed)
        if closed:
            self._close()
            stop += 1
        return stop

    def _scan(self, piece: bytes, at: int, end: int) -> int:
        """Return where the open string ends, or `end`."""
        if self._escaped:
            at, self._escaped = at + 1, False
        stop = piece.find(b'"', at, end)
        if piece.find(b"\\", at, end if stop < 0 else stop) < 0:
            return end if stop < 0 else stop
        found = _INSIDE.match(piece, at, end)
        assert found is not None
        stop = found.end()
        if stop < end and piece[stop] != ord('"'):
            stop, self._escaped = end, True
        return stop

    def _divert(self, *, closed: bool) -> None:
        """Take the open string out, if it is a data URL and longer than any other text."""
        assert self._start is not None
        length = len(self.text) - self._start
        if self._look_at is None or length < (self._long_bytes if closed else self._look_at):
            return
        self._look_at = 2 * length
        known = _decoded(bytes(self.text[self._start :]), closed=closed)
        head = None if known is None else dataurl.split(known[0], bare=self._bare)
        if known is None or head is None:
            self._look_at = None
        elif len(known[0]) > self._long_text:
            text, self._held = known
            self._decoder = Decoder(self._max_bytes, self._sink.write)
            self.urls.append(LongUrl(self._sink.size, self._decoder))
            filler = "-" * self._long_text  # where it stands in place of another text, that is too long, too
            placed = f"{head}{self._mark}:{len(self.urls) - 1}:{filler}"
            self.text[self._start :] = msgspec.json.encode(placed)[1:-1]
            self._decoder.add(text[len(head) :])

    def _decode(self, content: bytes, *, closed: bool) -> None:
        assert self._decoder is not None
        if (known := _decoded(content, closed=closed)) is not None:
            text, self._held = known
            self._decoder.add(text)
        else:
            self.text += content
            self._held = b""

    def _close(self) -> None:
        if self._decoder is not None:
            self._decoder.finish()
            url = self.urls[-1]
            if self._decoder.refused:
                self._sink.cut(url.start)
            else:
                url.size = self._sink.size - url.start
        self.text += b'"'
        self._start, self._decoder, self._held = None, None, b""


def _decoded(content: bytes, *, closed: bool) -> tuple[str, bytes] | None:
    """Return the text of a string's beginning, and the end of it that needs more to be text; None for what isn't JSON.
    Of a whole string nothing is left."""
    for held in range(1 if closed else _LONGEST_UNIT + 1):
        cut = len(content) - held
        try:
            return msgspec.json.decode(b'"' + content[:cut] + b'"', type=str), content[cut:]
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
    return None
