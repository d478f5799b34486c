"""Parts of a page between which white space runs from top to bottom.

A band is a run of rows with gutters that none of its rows crosses. A title across two columns ends the band above it
and stands alone; the columns below it are the next band.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

from ocr_inference.layout import rows as at
from ocr_inference.layout.rows import Row

Span = tuple[float, float]
"""White space from left to right."""

GUTTER = 0.35
"""Least width of a gutter, in line heights: detection joins what is nearer, as words of a sentence are."""
APART = 2.5
"""White space between rows, in line heights, that ends a band; narrower space does where rows are set close."""
APART_AGAIN = 2.2
"""The same in multiples of the white space between the rows of the page: forms are set wide."""
EDGE = 1.2
"""White space, in line heights, between the first or last row of a page and all others: a running head, a footer. They
have two texts at most; the head of a table has more."""


EACH_SIDE = 2
"""Lines on either side of white space that make it a gutter: a page's number beside its title makes none."""
STARTS = 64
"""Rows of one column above, at most, that a band may turn out to begin with."""


@dataclass(frozen=True)
class Band:
    rows: tuple[Row, ...]
    gutters: tuple[Span, ...]
    """Gutters with text on both sides; none where the rows are one column."""


@dataclass(frozen=True)
class _Run:
    """Rows from one on, with the white space that all of them leave."""

    start: int
    spaces: tuple[Span, ...]
    rights: tuple[float, ...] = (inf,) * EACH_SIDE
    """The least right ends of lines."""
    lefts: tuple[float, ...] = (-inf,) * EACH_SIDE
    """The greatest left ends."""

    def longer(self, row: Row, height: float) -> "_Run":
        rights = sorted([*self.rights, *(cell.right for cell in row)])[:EACH_SIDE]
        lefts = sorted([*self.lefts, *(cell.left for cell in row)])[-EACH_SIDE:]
        return _Run(self.start, without(self.spaces, row, height), tuple(rights), tuple(lefts))

    @property
    def gutters(self) -> tuple[Span, ...]:
        return tuple((a, b) for a, b in self.spaces if self.rights[-1] <= a and self.lefts[0] >= b)


def split(rows: Sequence[Row], height: float) -> list[Band]:
    """Split rows into bands, from the top.

    A band begins with the earliest row from which on there is a gutter, and ends before the row that crosses its last
    one, or at white space. Rows between bands are one column.
    """
    if not rows:
        return []
    limits = _breaks(rows, height)
    extent = (min(cell.left for row in rows for cell in row), max(cell.right for row in rows for cell in row))
    found: list[Band] = []
    runs: list[_Run] = []
    band: _Run | None = None
    first = 0
    for index, row in enumerate(rows):
        longer = band.longer(row, height) if band and index not in limits else None
        if longer and longer.gutters:
            band = longer
            continue
        if band or index in limits:
            found.append(Band(tuple(rows[first:index]), band.gutters if band else ()))
            first, runs, band = index, [], None
        begun = (run.longer(row, height) for run in [*runs, _Run(index, (extent,))])
        runs = [run for run in begun if run.spaces][-STARTS:]
        band = next((run for run in runs if run.gutters), None)
        if band and band.start > first:
            found.append(Band(tuple(rows[first : band.start]), ()))
            first = band.start
    found.append(Band(tuple(rows[first:]), band.gutters if band else ()))
    return found


def _breaks(rows: Sequence[Row], height: float) -> set[int]:
    """Return the rows above which a band ends because of the white space there."""
    usual = at.usual_gap(rows)
    gaps = [at.gap(above, row) for above, row in pairwise(rows)]
    limit = max(APART * height, APART_AGAIN * usual)
    found = {index for index, gap in enumerate(gaps, 1) if gap > limit}
    edge = max(EDGE * height, 1.8 * usual)
    if len(rows) > 3:
        ends = ((1, rows[0]), (len(rows) - 1, rows[-1]))
        found |= {index for index, row in ends if gaps[index - 1] > edge and len(row) <= 2}
    return found


def without(spaces: Sequence[Span], row: Row, height: float) -> tuple[Span, ...]:
    """Return what a row leaves of white spaces, without what is too narrow."""
    edges = [-inf, *(edge for cell in row for edge in (cell.left, cell.right)), inf]
    free = list(zip(edges[::2], edges[1::2], strict=True))
    least = GUTTER * height
    both = ((max(a, c), min(b, d)) for a, b in spaces for c, d in free)
    return tuple((a, b) for a, b in both if b - a >= least)


def gutters(rows: Sequence[Row], spaces: Sequence[Span]) -> tuple[Span, ...]:
    """Return the white spaces that have text on both sides."""
    cells = [cell for row in rows for cell in row]
    return tuple(
        (a, b)
        for a, b in spaces
        if any(cell.right <= a for cell in cells) and any(cell.left >= b for cell in cells)
    )
