"""Tables of Word documents: cells that span others are merged."""

from collections.abc import Callable
from typing import Final

from docx.oxml.ns import qn
from docx.oxml.parser import OxmlElement
from docx.oxml.xmlchemy import BaseOxmlElement

from ocr_inference.documents.formats.blocks import Cell, Runs, Table

MAX_COLUMNS: Final = 63
"""Of a table in Word; what is beyond that goes into the last one."""
_WIDTH: Final = 9000
"""Of the whole table, in twentieths of a point."""
_SIDES: Final = ("top", "left", "bottom", "right", "insideH", "insideV")

Paragraph = Callable[[Runs], BaseOxmlElement]


def table(content: Table, paragraph: Paragraph) -> BaseOxmlElement:
    """Return the element of a table, whose cells hold what `paragraph` makes of their runs."""
    rows = placed(content)
    columns = max((sum(cell.columns for cell, _ in row) for row in rows), default=1)
    element = OxmlElement("w:tbl")
    element.append(_properties())
    grid = OxmlElement("w:tblGrid")
    for _ in range(columns):
        grid.append(_with("w:gridCol", w=str(_WIDTH // columns)))
    element.append(grid)
    for row in rows or [[(Cell(()), False)]]:
        line = OxmlElement("w:tr")
        free = columns - sum(cell.columns for cell, _ in row)
        for cell, goes_on in [*row, *[(Cell(()), False)] * free]:
            line.append(_cell(cell, goes_on, _WIDTH // columns, paragraph))
        element.append(line)
    return element


def placed(content: Table) -> list[list[tuple[Cell, bool]]]:
    """Return the cells of each row of the grid, from the left; True where one goes on from the row above."""
    found: list[list[tuple[Cell, bool]]] = []
    above: dict[int, tuple[Cell, int]] = {}
    """By column: a cell that goes on, and for how many rows."""
    for row in content.rows:
        line: list[tuple[Cell, bool]] = []
        at, coming = 0, {}
        waiting = list(row)
        while at < MAX_COLUMNS and (waiting or any(column >= at for column in above)):
            if at in above:
                cell, left = above[at]
                line.append((cell, True))
                if left > 1:
                    coming[at] = cell, left - 1
            else:
                until = min((column for column in above if column > at), default=MAX_COLUMNS)
                cell = waiting.pop(0) if waiting else Cell(())
                width = min(cell.columns, until - at)
                cell = Cell(cell.runs, width, cell.rows, cell.is_head)
                line.append((cell, False))
                if cell.rows > 1:
                    coming[at] = cell, cell.rows - 1
            at += cell.columns
        if waiting:
            line[-1] = _joined(line[-1], waiting)
            coming.pop(at - line[-1][0].columns, None)
        above = coming
        found.append(line)
    return found


def _joined(last: tuple[Cell, bool], rest: list[Cell]) -> tuple[Cell, bool]:
    """Return the last cell of a row with all that has no room beside it."""
    cell, goes_on = last
    own = () if goes_on else cell.runs
    return Cell((*own, *(run for each in rest for run in each.runs)), cell.columns), False


def _cell(cell: Cell, goes_on: bool, width: int, paragraph: Paragraph) -> BaseOxmlElement:
    element, properties = OxmlElement("w:tc"), OxmlElement("w:tcPr")
    properties.append(_with("w:tcW", w=str(width * cell.columns), type="dxa"))
    if cell.columns > 1:
        properties.append(_with("w:gridSpan", val=str(cell.columns)))
    if goes_on:
        properties.append(OxmlElement("w:vMerge"))
    elif cell.rows > 1:
        properties.append(_with("w:vMerge", val="restart"))
    element.append(properties)
    element.append(paragraph(() if goes_on else cell.runs))
    return element


def _properties() -> BaseOxmlElement:
    properties, borders = OxmlElement("w:tblPr"), OxmlElement("w:tblBorders")
    properties.append(_with("w:tblW", w="0", type="auto"))
    for side in _SIDES:
        borders.append(_with(f"w:{side}", val="single", sz="4", space="0", color="auto"))
    properties.append(borders)
    return properties


def _with(name: str, **attributes: str) -> BaseOxmlElement:
    element = OxmlElement(name)
    for key, value in attributes.items():
        element.set(qn(f"w:{key}"), value)
    return element
