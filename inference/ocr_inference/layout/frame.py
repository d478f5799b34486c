"""Groups of lines of one direction, each seen upright.

A page that was scanned on its side or askew, and Japanese or Chinese text in columns from the right to the left, are
one case: lines run in some direction, and the next line lies a quarter turn clockwise from it. So the page is turned
until its lines run to the right. Scripts that run to the left (Arabic, Hebrew) are seen from behind.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ocr_inference.layout import quads, skew, words
from ocr_inference.layout.quads import Point, Quad

WITHIN = 20.0
"""Degrees by which lines of one direction may differ: photographed pages are curved, boxes of short words inexact."""


class Line(Protocol):
    """Line as an engine found it: corners clockwise from the text's top left, in pixels."""

    @property
    def text(self) -> str: ...
    @property
    def box(self) -> Sequence[Point]: ...


@dataclass(frozen=True, slots=True)
class Cell:
    """Line seen upright: its rectangle, and its corners on the page."""

    text: str
    left: float
    top: float
    right: float
    bottom: float
    corners: tuple[Point, ...] = ()
    number: int = 0
    """Place of the line among those that were given."""

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def middle(self) -> float:
        return (self.top + self.bottom) / 2


def groups(lines: Iterable[Line]) -> list[list[Cell]]:
    """Group lines by direction, each group upright, in the order in which they are read.

    The group with the most text comes first, but for what lies entirely above it or before its lines begin, such as the
    title across the page over columns that run down.
    """
    rest = [
        _Directed(text, line, number)
        for number, line in enumerate(lines)
        if (text := " ".join(line.text.split()))
    ]
    if not rest:
        return []
    main, members, rest = _parted(rest)
    members, apart = _without_numbers(members, main)
    rest += apart
    start = _corner(members, main, min)
    before: list[list[Cell]] = []
    after = [_upright(members, main)]
    while rest:
        angle, members, rest = _parted(rest)
        end = _corner(members, main, max)
        (before if end[0] <= start[0] or end[1] <= start[1] else after).append(_upright(members, angle))
    return before + after


class _Directed:
    """Line with its place and the direction of its text, in degrees clockwise from the right."""

    __slots__ = ("angle", "length", "number", "quad", "text")

    def __init__(self, text: str, line: Line, number: int) -> None:
        a, b, c, d = ((float(x), float(y)) for x, y in line.box)
        self.quad: Quad = (a, b, c, d)
        self.text, self.number = text, number
        self.length = quads.length(self.quad)
        self.angle = quads.angle(self.quad) if self.length else 0.0


def _parted(lines: Sequence[_Directed]) -> tuple[float, list[_Directed], list[_Directed]]:
    """Return the direction in which most text runs, the lines of that direction, and the others."""
    weights: dict[int, float] = {}
    for line in lines:
        degree = round(line.angle) % 360
        weights[degree] = weights.get(degree, 0.0) + line.length
    reach = range(-int(WITHIN) // 2, int(WITHIN) // 2 + 1)
    near = {degree: sum(weights.get((degree + step) % 360, 0.0) for step in reach) for degree in weights}
    best = max(near, key=lambda degree: (near[degree], weights[degree], -degree))
    members = [line for line in lines if abs(quads.between(line.angle, best)) <= WITHIN]
    others = [line for line in lines if abs(quads.between(line.angle, best)) > WITHIN]
    return skew.direction([line.quad for line in members], best), members, others


def _without_numbers(lines: list[_Directed], angle: float) -> tuple[list[_Directed], list[_Directed]]:
    """Return the lines of Japanese or Chinese that run down, and what stands upright above or below them, such as the
    page's number: to detection it is a column of one character."""
    body = [line for line in lines if words.width(line.text) > len(line.text)]
    if abs(abs(angle) - 90) > 45 or 2 * len(body) <= len(lines):
        return lines, []
    start, end = _corner(body, angle, min)[0], _corner(body, angle, max)[0]
    apart = [line for line in lines if line not in body and not start <= _middle(line, angle)[0] <= end]
    return [line for line in lines if line not in apart], apart


def _upright(lines: Sequence[_Directed], angle: float) -> list[Cell]:
    leftwards = words.run_left(line.text for line in lines)
    cells = []
    for line in lines:
        x, y = _middle(line, angle)
        x = -x if leftwards else x
        half, high = line.length / 2, quads.height(line.quad) / 2
        cells.append(Cell(line.text, x - half, y - high, x + half, y + high, line.quad, line.number))
    return cells


def _middle(line: _Directed, angle: float) -> Point:
    return quads.along(quads.center(line.quad), angle)


def _corner(lines: Sequence[_Directed], angle: float, choose: Callable[[Iterable[float]], float]) -> Point:
    """Return the least (or greatest) place of all corners, along the lines and across them."""
    places = [quads.along(corner, angle) for line in lines for corner in line.quad]
    return choose(x for x, _ in places), choose(y for _, y in places)
