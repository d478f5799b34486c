"""Engines that find lines of text and where they are (detection and recognition, no language model).

What order they are read in, and what is a title, a paragraph or a table, is found in `layout`.
"""

from collections.abc import Iterator, Sequence

from ocr_inference.families import tags
from ocr_inference.families.page import Page
from ocr_inference.layout import blocks, markdown
from ocr_inference.layout.blocks import Block
from ocr_inference.layout.frame import Cell, Line
from ocr_inference.protocol.page import Box, Corner, PlacedText
from ocr_wire.tasks import Task

TASKS = (Task.DOCUMENT, Task.OCR, Task.FREE, Task.FIND)

Row = tuple[Cell, ...]


def read(task: Task, find_term: str | None, lines: Sequence[Line]) -> tuple[str, tuple[Box, ...]]:
    """Return text and boxes of a page: Markdown for `document`, the rows that match for `find`, else the rows."""
    return _read(task, find_term, blocks.read(lines))


def placed(task: Task, find_term: str | None, page: Page) -> tuple[str, tuple[Box, ...], str]:
    """Return text and boxes as `read` does, and both as DeepSeek-OCR writes them, a tag with its place before each
    part: programs draw places and make documents from that alone."""
    found = blocks.read(page.lines)
    text, boxes = _read(task, find_term, found)
    if task is Task.DOCUMENT:
        parts, gap = list(zip(boxes, map(markdown.block, found), strict=True)), "\n\n"
    else:
        parts, gap = [(box, "") for box in boxes], "\n"
    return text, boxes, tags.written(parts, page.width, page.height, gap)


def lines(_task: Task, page: Page) -> tuple[PlacedText, ...]:
    """Return the lines of a page in reading order, each with its place."""
    rows = _rows(blocks.read(page.lines))
    return tuple(PlacedText(cell.text, _corners(cell)) for row in rows for cell in row)


def _corners(cell: Cell) -> tuple[Corner, Corner, Corner, Corner]:
    first, second, third, fourth = ((round(x), round(y)) for x, y in cell.corners)
    return first, second, third, fourth


def _read(task: Task, find_term: str | None, page: Sequence[Block]) -> tuple[str, tuple[Box, ...]]:
    match task:
        case Task.DOCUMENT:
            return markdown.page(page), tuple(_box(block.kind, block.cells) for block in page)
        case Task.FIND:
            return _find(_rows(page), find_term or "")
        case _:
            rows = list(_rows(page))
            return "\n".join(map(_joined, rows)), tuple(
                _box(cell.text, [cell]) for row in rows for cell in row
            )


def _rows(page: Sequence[Block]) -> Iterator[Row]:
    """Return the rows of all blocks; cells that are wrapped in a table stay together."""
    for block in page:
        for row in block.rows:
            if cells := tuple(cell for entry in row for cell in entry):
                yield cells


def _joined(row: Row) -> str:
    return " ".join(cell.text for cell in row)


def _box(label: str, cells: Sequence[Cell]) -> Box:
    corners = [corner for cell in cells for corner in cell.corners]
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    return Box(label, (round(min(xs)), round(min(ys)), round(max(xs)), round(max(ys))))


# --- find -----------------------------------------------------------------------------------------------------


def _find(rows: Iterator[Row], term: str) -> tuple[str, tuple[Box, ...]]:
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
