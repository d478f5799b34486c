"""Page that was read, as answers and results of jobs have it; what they have besides is ignored."""

from typing import Any, Final

import msgspec
from msgspec import Struct

from ocr_inference.protocol.page import PlacedText
from ocr_wire.errors import ErrorInfo
from ocr_wire.tasks import Task

_RAPIDOCR: Final = "rapidocr"


class Size(Struct, frozen=True):
    w: int
    h: int


class ReadPage(Struct, frozen=True, kw_only=True):
    """Page of a document: its text, or why there is none."""

    index: int
    """From 0, in its document."""
    text: str = ""
    lines: tuple[PlacedText, ...] = ()
    """Texts with their places, in pixels of `image_dims`."""
    image_dims: Size | None = None
    metadata: dict[str, Any] = {}
    error: ErrorInfo | None = None

    @property
    def is_markdown(self) -> bool:
        """Whether its text is Markdown: what a task is for, and models write unasked."""
        mode = self.metadata.get("mode", Task.DOCUMENT)
        if mode in (Task.OCR, Task.FIND):
            return False
        return mode == Task.DOCUMENT or not self.is_escaped

    @property
    def is_escaped(self) -> bool:
        """Whether all that only looks like Markdown is escaped in it, so that it holds no formulas."""
        return self.metadata.get("engine") == _RAPIDOCR

    @property
    def fault(self) -> str | None:
        """Why it couldn't be read, with its number; None where it was."""
        if self.error is None:
            return None
        number, message = f"page {self.index + 1}", self.error.message
        return message if message.startswith(f"{number} ") else f"{number} couldn't be read: {message}"


_DECODER: Final = msgspec.json.Decoder(ReadPage)


def decode(result: bytes) -> ReadPage:
    """Decode a page's result; raises `msgspec.DecodeError`."""
    return _DECODER.decode(result)
