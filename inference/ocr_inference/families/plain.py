"""Engines that find lines of text and where they are (detection and recognition, no language model).

Lines become rows (same height on the page), rows become blocks: headings, paragraphs, tables. That is layout by
geometry alone: pages of one column read well, columns of a newspaper would be interleaved.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from ocr_inference.families.page import Line
from ocr_inference.protocol.page import Box
from ocr_wire.tasks import Task

TASKS = (Task.DOCUMENT, Task.OCR, Task.FREE, Task.FIND)


@dataclass(frozen=True)
class Cell:
    """A line, upright: its text and the rectangle around it."""

    text: str
    left: float
    top: float
    right: float
    bottom: float

    @property
    def height(self) -> float:
        return self.bottom - self.top


Row = tuple[Cell, ...]

HEADING = 1.3
"""A line this much taller than the page's median is a heading; rendered body text varies by about 10 %."""
GAP = 0.9
"""White space between rows, in median line heights, that ends a paragraph; 1.5 line spacing leaves about 0.5."""


def read(task: Task, find_term: str | None, lines: Sequence[Line]) -> tuple[str, tuple[Box, ...]]:
    """Return text and boxes of a page: Markdown for `document`, the rows that match for `find`, else the rows."""
    rows = arrange(lines)
    match task:
        case Task.DOCUMENT:
            return _document(rows)
        case Task.FIND:
            return _find(rows, find_term or "")
        case _:
            cells = [cell for row in rows for cell in row]
            return "\n".join(_joined(row) for row in rows), tuple(_box(cell.text, [cell]) for cell in cells)


def arrange(lines: Iterable[Line]) -> list[Row]:
    """Arrange lines in reading order: rows from the top, the cells of each from the left.

    A line belongs to a row when its middle lies within the row's first line.
    """
    cells = [cell for line in lines if (cell := _cell(line)).text]
    rows: list[list[Cell]] = []
    for cell in sorted(cells, key=lambda cell: (cell.top + cell.bottom, cell.left)):
        middle = (cell.top + cell.bottom) / 2
        if rows and rows[-1][0].top <= middle <= rows[-1][0].bottom:
            rows[-1].append(cell)
        else:
            rows.append([cell])
    return [tuple(sorted(row, key=lambda cell: cell.left)) for row in rows]


def _cell(line: Line) -> Cell:
    xs, ys = [x for x, _ in line.box], [y for _, y in line.box]
    return Cell(" ".join(line.text.split()), min(xs), min(ys), max(xs), max(ys))


def _joined(row: Row) -> str:
    return " ".join(cell.text for cell in row)


def _box(label: str, cells: Sequence[Cell]) -> Box:
    return Box(
        label,
        (
            round(min(cell.left for cell in cells)),
            round(min(cell.top for cell in cells)),
            round(max(cell.right for cell in cells)),
            round(max(cell.bottom for cell in cells)),
        ),
    )


# --- find -----------------------------------------------------------------------------------------------------


def _find(rows: list[Row], term: str) -> tuple[str, tuple[Box, ...]]:
    """Find rows that contain the term, whatever its case and spacing; a match may span the cells of a row."""
    wanted = "".join(term.casefold().split())
    texts, boxes = [], []
    for row in rows:
        squeezed = ["".join(cell.text.casefold().split()) for cell in row]
        text, at, found = "".join(squeezed), 0, False
        while wanted and (start := text.find(wanted, at)) >= 0:
            at, found = start + len(wanted), True
            boxes.append(_box(term, _touched(row, squeezed, start, at)))
        if found:
            texts.append(_joined(row))
    return "\n".join(texts), tuple(dict.fromkeys(boxes))


def _touched(row: Row, squeezed: list[str], start: int, end: int) -> list[Cell]:
    """Return the cells that hold characters `start` to `end` of the row's squeezed text."""
    touched, offset = [], 0
    for cell, text in zip(row, squeezed, strict=True):
        if offset < end and start < offset + len(text):
            touched.append(cell)
        offset += len(text)
    return touched


# --- document -------------------------------------------------------------------------------------------------


def _document(rows: list[Row]) -> tuple[str, tuple[Box, ...]]:
    if not rows:
        return "", ()
    usual = median(cell.height for row in rows for cell in row)
    blocks = [_block(group, usual) for group in _groups(rows, usual)]
    return "\n\n".join(text for text, _ in blocks), tuple(box for _, box in blocks)


def _groups(rows: list[Row], usual: float) -> list[list[Row]]:
    """Group neighbouring rows into blocks: same kind, no gap; rows of a table may be further apart."""
    groups = [[rows[0]]]
    for above, row in pairwise(rows):
        gap = min(cell.top for cell in row) - max(cell.bottom for cell in above)
        kind = _kind(row, usual)
        same = kind == _kind(above, usual)
        near = gap <= usual * (GAP * 2 if kind == "table" else GAP)
        fits = kind != "table" or len(row) == len(above)
        if same and near and fits and kind != "title":
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def _kind(row: Row, usual: float) -> str:
    if len(row) > 1:
        return "table"
    return "title" if row[0].height >= HEADING * usual else "text"


def _block(group: list[Row], usual: float) -> tuple[str, Box]:
    kind = _kind(group[0], usual)
    cells = [cell for row in group for cell in row]
    if kind == "table" and len(group) > 1:
        head, *body = group
        table = [_table_row(head), "|" + " --- |" * len(head), *map(_table_row, body)]
        return "\n".join(table), _box("table", cells)
    text = "\n".join(_escaped(_joined(row)) for row in group)
    if kind == "title":
        return ("# " if group[0][0].height >= 2 * usual else "## ") + text, _box("title", cells)
    return text, _box("text", cells)


def _table_row(row: Row) -> str:
    return "| " + " | ".join(cell.text.replace("|", "\\|") for cell in row) + " |"


def _escaped(text: str) -> str:
    """Escape a line that would start a heading, quote or code block in Markdown."""
    return "\\" + text if text.startswith(("#", ">", "```")) else text
