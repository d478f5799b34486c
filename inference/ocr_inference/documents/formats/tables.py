"""Tables of HTML, as models write them into Markdown, and the text of other HTML. Parsed in Python, within bounds."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Final

from ocr_inference.documents.formats import characters
from ocr_inference.documents.formats.blocks import Cell, Run, Table, words

MAX_SPAN: Final = 200
MAX_CELLS: Final = 20_000
"""Of a table; what comes after goes into one more."""
_TABLE: Final = re.compile(r"<table\b", re.IGNORECASE)
_END: Final = re.compile(r"</table\s*>", re.IGNORECASE)
_BREAKS: Final = frozenset({"br", "p", "div", "li", "tr"})
_HIDDEN: Final = frozenset({"script", "style", "head", "title", "template"})


def parted(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the parts of a Markdown text, each with whether it is a table of HTML. A table that has no end, as the page
    was cut off, goes to the end of the text."""
    at = 0
    while (begin := _TABLE.search(text, at)) is not None:
        if begin.start() > at:
            yield text[at : begin.start()], False
        end = _END.search(text, begin.end())
        stop = end.end() if end else len(text)
        yield text[begin.start() : stop], True
        at = stop
    if at < len(text):
        yield text[at:], False


def table(html: str) -> Table:
    """Return the table; one within a cell is its text."""
    parser = _Parser()
    parser.feed(html)
    parser.close()
    return parser.table()


def text(html: str) -> str:
    """Return the text of HTML that is no table."""
    parser = _Parser()
    parser.feed(html)
    parser.close()
    return parser.outside()


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._rows: list[list[Cell]] = []
        self._pieces: list[str] = []
        """Of the cell, or of what is outside of all."""
        self._rest: list[str] = []
        """What is beyond the bound of cells."""
        self._open: tuple[int, int, bool] | None = None
        """Columns and rows that the open cell spans, and whether it is of a head."""
        self._cells = 0
        self._depth = 0
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in _HIDDEN
        if tag == "table":
            self._depth += 1
        elif self._depth <= 1 and tag == "tr":
            self._end_cell()
            self._rows.append([])
        elif self._depth <= 1 and tag in ("td", "th"):
            self._end_cell()
            given = dict(attrs)
            self._open = (_span(given.get("colspan")), _span(given.get("rowspan")), tag == "th")
        elif tag in _BREAKS:
            self._pieces.append("\n")
        elif tag in ("td", "th"):
            self._pieces.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self._hidden = max(0, self._hidden - (tag in _HIDDEN))
        if tag == "table":
            self._depth = max(0, self._depth - 1)
        if self._depth <= 1 and tag in ("td", "th", "tr", "table"):
            if not (tag == "table" and self._depth):
                self._end_cell()
        elif tag in _BREAKS - {"br"}:
            self._pieces.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._pieces.append(data)

    def _end_cell(self) -> None:
        text = characters.safe("".join(self._pieces))  # entities have become characters
        written = "\n".join(line for line in (" ".join(line.split()) for line in text.splitlines()) if line)
        self._pieces = []
        is_outside = self._open is None
        if is_outside and not written:
            return
        columns, rows, is_head = self._open or (1, 1, False)
        self._open = None
        if self._cells >= MAX_CELLS:
            self._rest.append(written)
            return
        self._cells += 1
        # A caption, and all that follows a table that has no end, is a row.
        if is_outside or not self._rows:
            self._rows.append([])
        self._rows[-1].append(Cell((Run(written, bold=is_head),) if written else (), columns, rows, is_head))
        if is_outside:
            self._rows.append([])

    def table(self) -> Table:
        self._end_cell()
        rest = "\n".join(each for each in self._rest if each)
        rows = [*self._rows, [Cell((Run(rest),))] if rest else []]
        return Table(tuple(tuple(row) for row in rows if row))

    def outside(self) -> str:
        found = ("\t".join(words(each.runs) for each in row if each.runs) for row in self.table().rows)
        return "\n".join(line for line in found if line)


def _span(value: str | None) -> int:
    number = value.strip() if value else ""
    return (
        min(MAX_SPAN, max(1, int(number))) if number.isascii() and number.isdigit() and len(number) < 6 else 1
    )
