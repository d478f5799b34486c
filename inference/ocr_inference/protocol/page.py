"""The words of a page: what may be asked of it, at which resolution, and a place on it."""

from enum import StrEnum

from msgspec import Struct


class Task(StrEnum):
    """What is asked of a page (`prompt_type`)."""

    DOCUMENT = "document"
    """The whole page as Markdown."""
    OCR = "ocr"
    """Every line, with its place."""
    FREE = "free"
    """Plain text without layout."""
    FIGURE = "figure"
    """What a chart or drawing says."""
    DESCRIBE = "describe"
    """What the picture shows."""
    FIND = "find"
    """Where `find_term` stands."""
    FREEFORM = "freeform"
    """The sender's own `custom_prompt`."""


RESOLUTIONS = ("tiny", "small", "base", "large", "gundam")


class Box(Struct, frozen=True):
    label: str
    box: tuple[int, int, int, int]
    """x1, y1, x2, y2 in pixels of the picture as it is looked at."""
