"""Lines side by side."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import median

from ocr_inference.layout.frame import Cell

Row = tuple[Cell, ...]
"""Cells side by side, from the left."""

BACK = 3
"""Rows that a line may still belong to: a tall line, such as an initial, has its middle below the next lines'."""


def arrange(cells: Iterable[Cell]) -> list[Row]:
    """Arrange lines in rows from the top; a line belongs to a row beside whose first line its middle lies."""
    rows: list[list[Cell]] = []
    for cell in sorted(cells, key=lambda cell: (cell.middle, cell.left)):
        for row in reversed(rows[-BACK:]):
            if row[0].top <= cell.middle <= row[0].bottom and not any(_over(cell, other) for other in row):
                row.append(cell)
                break
        else:
            rows.append([cell])
    return [tuple(sorted(row, key=lambda cell: cell.left)) for row in rows]


def top(row: Row) -> float:
    return min(cell.top for cell in row)


def bottom(row: Row) -> float:
    return max(cell.bottom for cell in row)


def gap(above: Row, row: Row) -> float:
    """Return the white space between two rows; below zero where they overlap."""
    return top(row) - bottom(above)


def usual_gap(rows: Sequence[Row]) -> float:
    """Return the white space that most rows have above them; 0 for one row."""
    return median(gap(above, row) for above, row in pairwise(rows)) if len(rows) > 1 else 0.0


def usual_height(cells: Iterable[Cell]) -> float:
    return median(cell.height for cell in cells)


def _over(cell: Cell, other: Cell) -> bool:
    """Tell whether one lies over the other, so that they can't be in one row."""
    common = min(cell.right, other.right) - max(cell.left, other.left)
    return common > 0.5 * min(cell.width, other.width)
