"""What an engine found on a page, as far as families use it."""

from collections.abc import Callable, Sequence
from typing import Protocol

from ocr_inference.layout.frame import Line
from ocr_inference.protocol.page import Box
from ocr_wire.tasks import Task


class Page(Protocol):
    @property
    def text(self) -> str:
        """Text of a language model; engines that find lines join them."""

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def lines(self) -> Sequence[Line]: ...


Answer = tuple[str, tuple[Box, ...]]
"""Text for a reader, and boxes in pixels of the page."""

Read = Callable[[Task, str | None, Page], Answer]
"""(task, find_term, page) → answer."""
