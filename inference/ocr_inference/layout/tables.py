"""Rows and columns of a table, with empty and spanning cells."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from statistics import median

from ocr_inference.layout import bands
from ocr_inference.layout import rows as at
from ocr_inference.layout.bands import Band, Span
from ocr_inference.layout.frame import Cell
from ocr_inference.layout.rows import Row

Entry = tuple[Cell, ...]
"""Lines in one place of a table; none where it is empty."""


ALIGNED = 0.75
"""Line heights by which edges or middles of a column's cells may differ."""


@dataclass(frozen=True)
class Table:
    letterhead: tuple[Row, ...]
    """Rows of the band over all else that are texts side by side and share no column with the table."""
    before: tuple[Row, ...]
    """Rows of the band that stand over the table, such as its title."""
    grid: tuple[tuple[Entry, ...], ...]
    after: tuple[Row, ...]


def read(band: Band, height: float) -> Table:
    """Read the rows of a band as a table: as many columns as most rows tell, whatever a few rows span."""
    first, last = _trimmed(band.rows)
    inner = band.rows[first:last]
    gutters = _gutters(inner, height) or band.gutters
    lines = [_entries(row, gutters) for row in inner]
    lines = _without_halves(lines)
    start = _letterhead(lines, height)
    letterhead, first, lines = band.rows[: first + start] if start else (), first + start, lines[start:]
    # A title that spans columns stands over the table.
    while len(lines) > 2 and sum(map(bool, lines[0])) == 1:
        first, lines = first + 1, lines[1:]
    kept = band.rows[first:last]
    before = band.rows[len(letterhead) : first]
    return Table(letterhead, before, tuple(_wrapped(kept, lines, height)), band.rows[last:])


def _trimmed(rows: Sequence[Row]) -> tuple[int, int]:
    """Return the first row and the end of the table: lone lines above it aren't of it, nor those
    below it that stand apart."""
    first, last = 0, len(rows)
    while last - first > 2 and len(rows[first]) == 1:
        first += 1
    usual = max(at.usual_gap([row for row in rows[first:last] if len(row) > 1]), 0.0)
    while last - first > 2 and len(rows[last - 1]) == 1:
        above, lone = rows[last - 2], rows[last - 1]
        if at.gap(above, lone) <= usual * 1.3 + 0.2 * lone[0].height:
            break
        last -= 1
    return first, last


def _gutters(rows: Sequence[Row], height: float) -> tuple[Span, ...]:
    """Return white spaces that nearly all rows keep free, from the rows with the most cells on.

    One row in four may cross a gutter, and at least one: a head over two columns, a sum whose name is long.
    """
    may_cross = max(1, len(rows) // 4) if len(rows) > 2 else 0
    kept: list[Row] = []
    spaces: tuple[Span, ...] = ((-inf, inf),)
    gutters: tuple[Span, ...] = ()
    for row in sorted(rows, key=len, reverse=True):
        remaining = bands.without(spaces, row, height)
        found = bands.gutters([*kept, row], remaining)
        if len(found) >= len(gutters):
            kept.append(row)
            spaces, gutters = remaining, found
    return gutters if len(rows) - len(kept) <= may_cross else ()


def _entries(row: Row, gutters: Sequence[Span]) -> list[list[Cell]]:
    """Put cells into their columns; one that spans several is in the first of them."""
    ends = [(left + right) / 2 for left, right in gutters]
    starts = [-inf, *ends]
    entries: list[list[Cell]] = [[] for _ in starts]
    for cell in row:
        lefts = [index for index, start in enumerate(starts) if cell.left + 0.1 * cell.width >= start]
        entries[lefts[-1]].append(cell)
    return entries


def _letterhead(lines: Sequence[list[list[Cell]]], height: float) -> int:
    """Return how many of the first rows belong to no table: they leave columns empty, and all that they have
    beyond the first one stands out of its column without being aligned with it."""
    body = [line for line in lines if all(line)]
    if len(body) < 2:
        return 0
    first = lines.index(body[0])
    columns = [[_span(line[place]) for line in body] for place in range(len(body[0]))]
    beyond = [
        _fits(_span(cells), column, height)
        for line in lines[:first]
        for cells, column in zip(line[1:], columns[1:], strict=True)
        if cells
    ]
    return first if beyond and not any(beyond) else 0


def _span(cells: Sequence[Cell]) -> Span:
    return min(cell.left for cell in cells), max(cell.right for cell in cells)


def _fits(span: Span, column: Sequence[Span], height: float) -> bool:
    """Tell whether a cell lies in a column, or is aligned as the column's cells are."""
    left, right = min(left for left, _ in column), max(right for _, right in column)
    near = ALIGNED * height
    if span[0] >= left - near and span[1] <= right + near:
        return True
    places = list(zip(*map(_places, column), strict=True))
    spreads = [max(each) - min(each) for each in places]
    least = min(spreads) + 0.2 * height
    best = [index for index, spread in enumerate(spreads) if spread <= least]
    return any(
        min(places[index]) - near <= _places(span)[index] <= max(places[index]) + near for index in best
    )


def _places(span: Span) -> tuple[float, float, float]:
    """Return the edges and the middle of a cell."""
    return span[0], span[1], (span[0] + span[1]) / 2


def _without_halves(lines: Sequence[list[list[Cell]]]) -> list[list[list[Cell]]]:
    """Join a column that has nothing but its head with the one beside it that has everything else: numbers are set to
    the right below a head that is set to the left."""
    columns = [list(column) for column in zip(*lines, strict=True)]
    at = 0
    while at + 1 < len(columns) and len(columns) > 2:
        one, other = columns[at], columns[at + 1]
        filled = [[row for row, cells in enumerate(column) if cells] for column in (one, other)]
        if [0] in filled and not any(a and b for a, b in zip(one, other, strict=True)):
            columns[at : at + 2] = [[a or b for a, b in zip(one, other, strict=True)]]
        else:
            at += 1
    return [list(row) for row in zip(*columns, strict=True)]


def _wrapped(
    rows: Sequence[Row], lines: Sequence[list[list[Cell]]], height: float
) -> list[tuple[Entry, ...]]:
    """Join lines that are wrapped cells of the row above: nothing in the first column, and set closer than rows are."""
    gaps = [at.gap(above, row) for above, row in pairwise(rows)]
    starts = [gap for gap, line in zip(gaps, lines[1:], strict=True) if line[0]]
    usual = median(starts) if starts else 0.0
    grid: list[list[list[Cell]]] = []
    for index, line in enumerate(lines):
        close = index > 0 and gaps[index - 1] < usual - 0.3 * height
        if close and not line[0]:
            for entry, cells in zip(grid[-1], line, strict=True):
                entry.extend(cells)
        else:
            grid.append([list(cells) for cells in line])
    return [tuple(tuple(entry) for entry in line) for line in grid]
