"""Lines with places, as an engine finds them, set by hand."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import cos, radians, sin

from ocr_inference.layout.blocks import Block

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    text: str
    box: tuple[Point, ...]


def line(text: str, left: float, top: float, *, width: float = 0, height: float = 20) -> Line:
    """Return a line upright, by default as wide as its text is in letters of that height."""
    right, bottom = left + (width or len(text) * height / 2), top + height
    return Line(text, ((left, top), (right, top), (right, bottom), (left, bottom)))


def column(
    texts: Iterable[str], left: float, top: float, *, pitch: float = 30, height: float = 20
) -> list[Line]:
    """Return lines one below the other."""
    return [line(text, left, top + pitch * at, height=height) for at, text in enumerate(texts)]


def turned(lines: Iterable[Line], degrees: float, scale: float = 1.0) -> list[Line]:
    """Return lines turned clockwise around a point far away, and scaled."""
    turn = radians(degrees)
    return [
        Line(
            each.text,
            tuple(
                (
                    scale * (x * cos(turn) - y * sin(turn)) + 3000 * scale,
                    scale * (x * sin(turn) + y * cos(turn)) + 3000 * scale,
                )
                for x, y in each.box
            ),
        )
        for each in lines
    ]


def texts(blocks: Sequence[Block]) -> list[list[list[str]]]:
    """Return the texts of blocks: rows, and their entries."""
    return [
        [[" ".join(cell.text for cell in entry) for entry in row] for row in block.rows] for block in blocks
    ]
