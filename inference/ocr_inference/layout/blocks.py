"""Titles, paragraphs, tables, in the order in which people read them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Literal

from ocr_inference.layout import bands, columns, frame, tables, words
from ocr_inference.layout import rows as at
from ocr_inference.layout.columns import Kind
from ocr_inference.layout.frame import Cell, Line
from ocr_inference.layout.rows import Row
from ocr_inference.layout.tables import Entry

HEADING = 1.3
"""A line this much taller than the page's median is a heading; rendered body text varies by about 10 %."""
WIDER = 1.15
"""Its letters are this much wider, too: a line's height depends on which letters it happens to have."""
TITLE = 2.0
"""A line this much taller is the title of the page."""
GAP = 0.9
"""White space between rows, in median line heights, that ends a paragraph; 1.5 line spacing leaves about 0.5."""
GAP_AGAIN = 0.4
"""White space beyond that between the rows of a text set wide, in median line heights, that ends a paragraph."""
DEPTH = 8
"""Columns within columns. Nothing printed has as many; it bounds what a made page can cost."""


@dataclass(frozen=True, slots=True)
class Block:
    kind: Literal["title", "text", "table"]
    rows: tuple[tuple[Entry, ...], ...]
    """Rows from the top, the entries of each in order; an entry has several lines where a cell is wrapped, none where a
    table is empty."""
    level: int = 0
    """Level of a title's heading."""

    @property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(cell for row in self.rows for entry in row for cell in entry)


@dataclass(frozen=True, slots=True)
class Usual:
    """Medians of the lines of a page, by which all else is measured."""

    height: float
    letter: float
    """Width of a letter."""


def read(lines: Iterable[Line]) -> list[Block]:
    """Return the blocks of a page in reading order; every line with text is in exactly one of them."""
    groups = frame.groups(lines)
    if not groups:
        return []
    cells = [cell for group in groups for cell in group]
    usual = Usual(at.usual_height(cells), median(map(_letter, cells)))
    return [block for group in groups for block in _region(group, usual, at.usual_height(group), 0)]


def order(lines: Sequence[Line]) -> list[int]:
    """Return the numbers of lines with text in reading order."""
    return [cell.number for block in read(lines) for cell in block.cells]


def _region(cells: Sequence[Cell], usual: Usual, height: float, depth: int) -> Iterator[Block]:
    """Read a part of the page; `height` is that of the lines of its group."""
    flow: list[Row] = []
    for band in bands.split(at.arrange(cells), max(height, 1e-9)):
        match columns.kind(band, height) if depth < DEPTH else Kind.FLOW:
            case Kind.FLOW:
                flow += band.rows
            case Kind.COLUMNS:
                yield from _paragraphs(flow, usual)
                flow = []
                for column in columns.cut(band, band.gutters):
                    yield from _region(column, usual, height, depth + 1)
            case Kind.TABLE:
                table = tables.read(band, height)
                if table.letterhead:
                    yield from _paragraphs(flow, usual)
                    flow = []
                    for column in columns.cut(bands.Band(table.letterhead, band.gutters), band.gutters):
                        yield from _region(column, usual, height, depth + 1)
                yield from _paragraphs([*flow, *table.before], usual)
                flow = list(table.after)
                yield Block("table", table.grid)
    yield from _paragraphs(flow, usual)


def _paragraphs(rows: Sequence[Row], usual: Usual) -> Iterator[Block]:
    if not rows:
        return
    gaps = [at.gap(above, row) for above, row in pairwise(rows)]
    limit = max(GAP, min(median(gaps) / usual.height, 2) + GAP_AGAIN) * usual.height if gaps else 0.0
    group: list[Row] = [rows[0]]
    for above, row in pairwise(rows):
        if _level(row, usual) or _level(above, usual) or at.gap(above, row) > limit:
            yield _block(group, usual)
            group = []
        group.append(row)
    yield _block(group, usual)


def _block(rows: Sequence[Row], usual: Usual) -> Block:
    level = _level(rows[0], usual)
    entries = tuple(tuple((cell,) for cell in row) for row in rows)
    return Block("title" if level else "text", entries, level)


def _level(row: Row, usual: Usual) -> int:
    """Return the level of the heading that a row is, or 0."""
    if len(row) > 1 or _letter(row[0]) < WIDER * usual.letter:
        return 0
    return 1 if row[0].height >= TITLE * usual.height else 2 if row[0].height >= HEADING * usual.height else 0


def _letter(cell: Cell) -> float:
    """Return the mean width of a letter."""
    return cell.width / max(1, words.width(cell.text))
