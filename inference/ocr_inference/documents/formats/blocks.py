"""Headings, paragraphs, lists and tables, as values: what formats are written from."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Run:
    """Text of one look; a line break in it is one on the page."""

    text: str
    bold: bool = False
    italic: bool = False
    struck: bool = False
    code: bool = False
    formula: bool = False


Runs = tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class Heading:
    level: int
    """From 1 to 6."""
    runs: Runs


@dataclass(frozen=True, slots=True)
class Paragraph:
    runs: Runs
    mark: str = ""
    """Of an item of a list: a bullet, or its number as it was written."""
    depth: int = 0
    """Lists and quotes that it stands in."""


@dataclass(frozen=True, slots=True)
class Code:
    """Text whose spaces and line breaks matter."""

    text: str


@dataclass(frozen=True, slots=True)
class Rule:
    """Line across the page."""


@dataclass(frozen=True, slots=True)
class Cell:
    runs: Runs
    columns: int = 1
    """How many it spans, as `rows`."""
    rows: int = 1
    is_head: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    rows: tuple[tuple[Cell, ...], ...] = field(default=())
    """Cells as they were written: places that a cell above spans have none."""


Block = Heading | Paragraph | Code | Rule | Table


def words(runs: Runs) -> str:
    """Return the text of runs."""
    return "".join(run.text for run in runs)
