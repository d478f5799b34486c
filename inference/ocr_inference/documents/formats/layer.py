"""Texts as a layer over a page that can be searched and copied, and isn't seen.

Each line is stretched over its place exactly, whatever font was printed, so that a match is marked where it stands. A
place that holds more than a line, such as a paragraph that a model marked, gets as many lines as fit its shape.
"""

import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ocr_inference.documents.formats import characters
from ocr_inference.documents.formats.font import DESCENT, Font, Piece
from ocr_inference.protocol.page import PlacedText

Point = tuple[float, float]
Corners = tuple[Point, Point, Point, Point]

MAX_ROWS: Final = 500
"""Of one place."""
_SPACING: Final = 1.3
"""Height of a line in print, in heights of its letters."""
_MARGIN: Final = 0.05
"""Of a page whose texts have no places, as a part of it."""


@dataclass(frozen=True)
class Affine:
    """Map from pixels of a page's picture, whose y grows downwards, to its points."""

    a: float
    b: float
    c: float
    d: float
    e: float
    f: float

    def __call__(self, point: Point) -> Point:
        x, y = point
        return self.a * x + self.c * y + self.e, self.b * x + self.d * y + self.f


def whole(text: str, width: float, height: float) -> PlacedText:
    """Return a text without a place as one that has the whole page."""
    left, top = round(width * _MARGIN), round(height * _MARGIN)
    right, bottom = round(width) - left, round(height) - top
    return PlacedText(text, ((left, top), (right, top), (right, bottom), (left, bottom)))


def content(texts: Iterable[PlacedText], to_points: Affine, font: Font) -> bytes:
    """Return a content stream that writes the texts; empty where there is none."""
    written = [line for text in texts for line in _lines(text, to_points, font)]
    if not written:
        return b""
    return b"\n".join((b"q BT 3 Tr", *written, b"ET Q"))


def _lines(text: PlacedText, to_points: Affine, font: Font) -> Iterator[bytes]:
    for line, corners in rows(unicodedata.normalize("NFC", characters.safe(text.text)), text.corners):
        pieces = font.pieces(characters.shown(line))
        advance = sum(piece.advance for piece in pieces)
        if advance > 0 and (matrix := _matrix(corners, to_points, advance)) is not None:
            yield b"%s Tm %s" % (matrix, b" ".join(map(_shown, pieces)))


def _shown(piece: Piece) -> bytes:
    return b"/%s 1 Tf <%s> Tj" % (piece.font.encode(), piece.codes.hex().encode())


def _matrix(corners: Corners, to_points: Affine, advance: float) -> bytes | None:
    """Return the matrix that puts a text of that advance, in ems, over a place."""
    first, second, _, fourth = map(to_points, corners)
    along = (second[0] - first[0], second[1] - first[1])
    up = (first[0] - fourth[0], first[1] - fourth[1])
    if not abs(along[0] * up[1] - along[1] * up[0]) > 1e-6:
        return None  # a place without an area
    begin = (fourth[0] + up[0] * DESCENT, fourth[1] + up[1] * DESCENT)
    numbers = (along[0] / advance, along[1] / advance, *up, *begin)
    return b" ".join(b"%.4f" % number for number in numbers)


def rows(text: str, corners: Sequence[Point]) -> Iterator[tuple[str, Corners]]:
    """Yield the lines of a text with their places: parts of its place, from the top."""
    width, height = math.dist(corners[0], corners[1]), math.dist(corners[0], corners[3])
    written = [" ".join(line.split()) for line in text.splitlines()]
    written = [line for line in written if line]
    if not written or width <= 0 or height <= 0:
        return
    lines = _broken(written, width, height)
    widest = max(map(characters.advance, lines))
    for number, line in enumerate(lines):
        top, bottom = number / len(lines), (number + 1) / len(lines)
        # The last line of several ends where its words end.
        part = min(1.0, characters.advance(line) / widest) if len(lines) > 1 and widest else 1.0
        left, right = (1 - part, 1.0) if characters.runs_left(line) else (0.0, part)
        places = ((left, top), (right, top), (right, bottom), (left, bottom))
        first_part, second_part, third_part, fourth_part = (_between(corners, *each) for each in places)
        yield line, (first_part, second_part, third_part, fourth_part)


def _between(corners: Sequence[Point], across: float, down: float) -> Point:
    """Return a point within a place, by how far it is from its left and its top, from 0 to 1."""
    upper, lower = _on(corners[0], corners[1], across), _on(corners[3], corners[2], across)
    return _on(upper, lower, down)


def _on(start: Point, end: Point, part: float) -> Point:
    return start[0] + (end[0] - start[0]) * part, start[1] + (end[1] - start[1]) * part


def _broken(written: Sequence[str], width: float, height: float) -> list[str]:
    """Return the lines of a text, broken where its place is higher than they are long."""
    whole_advance = sum(map(characters.advance, written))
    count = round(math.sqrt(whole_advance * height / width / _SPACING))
    if count <= len(written):
        return list(written[:MAX_ROWS])
    most = whole_advance / min(count, MAX_ROWS)
    lines = [line for each in written for line in _wrapped(each, most)]
    return (
        lines[:MAX_ROWS]
        if len(lines) <= MAX_ROWS
        else [*lines[: MAX_ROWS - 1], " ".join(lines[MAX_ROWS - 1 :])]
    )


def _wrapped(text: str, most: float) -> Iterator[str]:
    line, advance = "", 0.0
    for word in _words(text):
        wide = characters.advance(word)
        if line.strip() and advance + wide > most * 1.1:
            yield line.strip()
            line, advance = "", 0.0
        line, advance = line + word, advance + wide
    if line.strip():
        yield line.strip()


def _words(text: str) -> Iterator[str]:
    """Yield parts between which a line may end: words with their spaces, and wide characters."""
    part = ""
    for character in text:
        if part and (part[-1] == " " or characters.is_wide(character) or characters.is_wide(part[-1])):
            yield part
            part = ""
        part += character
    if part:
        yield part
