"""Large pages in pieces that overlap, and the lines found in them put together again.

Detection works on at most `side` pixels a side. A receipt of 600 x 9000 pixels that is scaled down to that has letters
of a few pixels, so it is cut across; a plan is cut both ways.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from ocr_inference.layout import quads
from ocr_inference.layout.quads import Quad

Rect = tuple[int, int, int, int]
"""Left, top, right, bottom."""

SMALL = 736
"""Pixels of the shorter side to which small pieces are scaled up, as rapidocr does."""
MAGNIFY = 2.5
"""Most by which they are: a line of 200 x 20 would become a picture of 7360 x 736."""
SHRINK = 2.5
"""How much smaller a piece may be made: text of 25 pixels is still read in 10."""
STRIP = 3
"""Proportion from which a page is cut across, if it is larger than `side`."""
OVERLAP = 0.15
"""Part of a piece that the next one has, too: more than the height of any line in it."""
EDGE = 6
"""Pixels from the end of a piece within which a line counts as cut."""


WITHIN = 0.8
"""Part of a line's length from which it is part of another one."""


@dataclass(frozen=True, slots=True)
class Found:
    """Lines found in one piece, in pixels of the page."""

    piece: Rect
    lines: tuple[Quad, ...]


def cut(area: Rect, side: int) -> list[Rect]:
    """Cut an area of a page into pieces; one piece where it need not be cut."""
    left, top, right, bottom = area
    width, height = right - left, bottom - top
    longest = round(side * SHRINK)
    if max(width, height) > max(side, STRIP * min(width, height)):
        longest = min(longest, max(side, 2 * min(width, height)))
    columns, rows = _spans(left, right, longest), _spans(top, bottom, longest)
    return [(x, y, end, low) for y, low in rows for x, end in columns]


def scale(size: tuple[int, int], side: int) -> float:
    """Return by how much a piece is scaled before text is looked for in it: down to `side`, or up where it is small."""
    if max(size) > side:
        return side / max(size)
    return max(1.0, min(SMALL / min(size), MAGNIFY, side / max(size)))


def _spans(start: int, end: int, longest: int) -> list[tuple[int, int]]:
    """Return overlapping spans of equal length that cover one."""
    size = end - start
    if size <= longest:
        return [(start, end)]
    step = longest * (1 - OVERLAP)
    count = ceil((size - longest) / step) + 1
    each = ceil(size / (1 + (count - 1) * (1 - OVERLAP)))
    starts = [start + round(at * (size - each) / (count - 1)) for at in range(count)]
    return [(at, min(end, at + each)) for at in starts]


def stitched(found: Sequence[Found]) -> list[Quad]:
    """Return the lines of all pieces: one that was found twice once, one that was cut in its whole length."""
    found = [Found(each.piece, tuple(distinct(each.lines))) for each in found]
    if len(found) < 2:
        return [line for each in found for line in each.lines]
    lefts, tops, rights, bottoms = zip(*(each.piece for each in found), strict=True)
    outer = (min(lefts), min(tops), max(rights), max(bottoms))
    lines: list[_Line] = []
    for each in found:
        fresh = [_Line(quad, _is_cut(quad, each.piece, outer)) for quad in each.lines]
        # Lines of one piece aren't compared with each other, and most of the page doesn't lie in it.
        near = [line for line in lines if _meet(_bounds(line.quad), each.piece)]
        lines = [line for line in lines if line not in near]
        for line in fresh:
            merged = line
            for twin in [other for other in near if _same(line.quad, other.quad)]:
                near.remove(twin)
                merged = _merged(merged, twin)
            lines.append(merged)
        lines += near
    return [line.quad for line in lines]


def distinct(lines: Sequence[Quad], others: Sequence[Quad] = ()) -> list[Quad]:
    """Return lines without those that lie in another one, or in one of `others`: detection takes the gap between words
    for a line of its own now and then."""
    kept: list[Quad] = []
    for quad in sorted(lines, key=_area, reverse=True):
        if not any(_same(quad, other) and _part_within(quad, other) >= WITHIN for other in (*others, *kept)):
            kept.append(quad)
    return kept


@dataclass(frozen=True, slots=True)
class _Line:
    quad: Quad
    cut: bool
    """Whether it reaches the end of a piece, and may go on in the next."""


def _merged(first: _Line, second: _Line) -> _Line:
    longer, shorter = sorted(
        (first, second), key=lambda line: quads.length(quads.lengthwise(line.quad)), reverse=True
    )
    if not longer.cut and (not shorter.cut or _part_within(shorter.quad, longer.quad) >= WITHIN):
        return longer
    return _Line(_joined(longer.quad, shorter.quad), first.cut and second.cut)


def _same(first: Quad, second: Quad) -> bool:
    """Tell whether two places are of one line: they overlap along it, and half of the lower one across it."""
    if not _meet(_bounds(first), _bounds(second)):
        return False
    (left, right, top, bottom), (start, end, high, low) = _seen(first, second)
    beside = min(bottom, low) - max(top, high)
    return min(right, end) > max(left, start) and beside >= 0.5 * min(bottom - top, low - high)


def _part_within(part: Quad, whole: Quad) -> float:
    (left, right, _, _), (start, end, _, _) = _seen(whole, part)
    return (min(right, end) - max(left, start)) / max(end - start, 1e-9)


def _joined(longer: Quad, shorter: Quad) -> Quad:
    direction = quads.angle(quads.lengthwise(longer))
    (left, right, top, bottom), (start, end, high, low) = _seen(longer, shorter)
    left, right, top, bottom = min(left, start), max(right, end), min(top, high), max(bottom, low)
    middle = quads.along(((left + right) / 2, (top + bottom) / 2), -direction)
    return quads.rectangle(middle, (right - left, bottom - top), direction)


def _seen(
    first: Quad, second: Quad
) -> tuple[tuple[float, float, float, float], tuple[float, float, float, float]]:
    """Return left, right, top and bottom of both in the direction of the longer one."""
    longer = max(map(quads.lengthwise, (first, second)), key=quads.length)
    direction = quads.angle(longer)
    return _extent(first, direction), _extent(second, direction)


def _extent(quad: Quad, direction: float) -> tuple[float, float, float, float]:
    places = [quads.along(corner, direction) for corner in quad]
    us, vs = [u for u, _ in places], [v for _, v in places]
    return min(us), max(us), min(vs), max(vs)


def _area(quad: Quad) -> float:
    return quads.length(quad) * quads.height(quad)


def _is_cut(quad: Quad, piece: Rect, outer: Rect) -> bool:
    inner = [edge != end for edge, end in zip(piece, outer, strict=True)]
    left, top, right, bottom = _bounds(quad)
    reaches = (left - piece[0], top - piece[1], piece[2] - right, piece[3] - bottom)
    return any(far <= EDGE and may for far, may in zip(reaches, inner, strict=True))


def _bounds(quad: Quad) -> tuple[float, float, float, float]:
    xs, ys = [x for x, _ in quad], [y for _, y in quad]
    return min(xs), min(ys), max(xs), max(ys)


def _meet(first: tuple[float, float, float, float], second: tuple[float, float, float, float]) -> bool:
    return first[0] <= second[2] and second[0] <= first[2] and first[1] <= second[3] and second[1] <= first[3]
