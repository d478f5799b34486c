"""What a family of models can be asked, and how its answers become text, Markdown and boxes.

A family is data and pure functions. It knows neither engines nor HTTP: `of` says which family an engine's
answers belong to.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ocr_inference.families import plain
from ocr_inference.families.plain import Line
from ocr_inference.schema import Box, Task


@dataclass(frozen=True)
class Family:
    name: str
    tasks: tuple[Task, ...]
    """Those it can do; others are refused before a model is woken."""
    read: Callable[[Task, str | None, Sequence[Line]], tuple[str, tuple[Box, ...]]]
    """(task, find_term, lines) → (text, boxes)."""


PLAIN = Family("plain", plain.TASKS, plain.read)

FAMILIES: Mapping[str, Family] = {"rapidocr": PLAIN, "fake": PLAIN}


def of(engine: str) -> Family:
    return FAMILIES[engine]
