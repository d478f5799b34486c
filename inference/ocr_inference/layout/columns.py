"""Whether white space from top to bottom parts columns of text, which are read one after the other, or the columns of a
table, which are read row by row.

Lines of both may lie side by side to the pixel, so the text decides: lines of prose go on in the next line and fill
their column, cells of a table are short, often numbers, and begin anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from statistics import mean, median

from ocr_inference.layout import rows as at
from ocr_inference.layout import words
from ocr_inference.layout.bands import Band, Span
from ocr_inference.layout.frame import Cell


class Kind(Enum):
    FLOW = "one column"
    COLUMNS = "columns of text"
    TABLE = "a table"


ADDRESS = 8
"""Most lines of an address."""
BESIDE = 0.25
"""Line heights by which the middles of cells of one row of a table may differ."""


@dataclass(frozen=True)
class _Column:
    """Measures of the lines between two gutters."""

    lines: int
    words: float
    width: float
    """Mean width of the text, in Latin letters."""
    numeric: float
    """Share of the lines that are numbers."""
    goes_on: float
    """Share of the lines whose sentence goes on in the next one."""
    fill: float
    """Median width of a line, in widths of the column."""
    gap: float
    """Median white space between lines, in line heights."""
    digits: float
    """Share of the lines with a digit."""
    cased: bool
    """Whether it has small letters."""
    spaced: bool
    """Whether its script has spaces between words."""

    @property
    def prose(self) -> bool:
        if self.lines < 2 or self.numeric > 0.3:
            return False
        if self.goes_on >= 0.4 and self.width >= 9 and self.words >= 1.5:
            return True
        if not self.spaced and self.width >= 14 and self.fill >= 0.8:
            return True
        # Where there are no small letters, lines can't show that they go on.
        return not self.cased and self.width >= 20 and self.fill >= 0.6 and self.gap <= 1.0

    @property
    def address(self) -> bool:
        """Whether it is set close and has numbers in some lines, such as an address; a table's column has them in all
        lines or in none."""
        close = 3 <= self.lines <= ADDRESS and self.gap <= 0.7
        return close and self.width >= 10 and self.numeric <= 0.3 and 0 < self.digits < 1


def kind(band: Band, height: float) -> Kind:
    """Decide what the gutters of a band part."""
    if not band.gutters or len(band.rows) < 2:
        return Kind.FLOW
    columns = cut(band, band.gutters)
    if _are_text(columns, height):
        return Kind.COLUMNS
    widest = max(right - left for left, right in band.gutters)
    full = sum(len(row) > 1 for row in band.rows)
    if full < 2 or (len(band.rows) == 2 and widest < height):
        return Kind.FLOW
    marks = len(columns) == 2 and all(words.mark(cell.text) for cell in columns[0])
    return Kind.FLOW if marks else Kind.TABLE


def _are_text(columns: Sequence[Sequence[Cell]], height: float) -> bool:
    """Tell whether columns are text: two or more of prose, whose lines don't lie side by side, or two addresses."""
    known = [_known(column, height) for column in columns]
    if sum(column.prose for column in known) >= 2:
        return not _wrapped(columns, height)
    if all(column.lines >= 3 for column in known) and _beside(columns, height) < 0.6:
        return True
    return len(known) == 2 and all(column.address for column in known)


def cut(band: Band, gutters: Sequence[Span]) -> list[list[Cell]]:
    """Return the cells between gutters, from the left, each column from the top."""
    cells = sorted((cell for row in band.rows for cell in row), key=lambda cell: (cell.middle, cell.left))
    ends = sorted((left + right) / 2 for left, right in gutters)
    columns: list[list[Cell]] = [[] for _ in range(len(ends) + 1)]
    for cell in cells:
        columns[sum((cell.left + cell.right) / 2 > end for end in ends)].append(cell)
    return columns


def _known(cells: Sequence[Cell], height: float) -> _Column:
    texts = [cell.text for cell in cells]
    gaps = [max(0.0, below.top - above.bottom) for above, below in pairwise(cells)]
    spaced = not _unspaced(texts)
    extent = max(cell.right for cell in cells) - min(cell.left for cell in cells)
    return _Column(
        lines=len(cells),
        words=mean(len(text.split()) for text in texts) if spaced else 2.0,
        width=mean(words.width(text) for text in texts),
        numeric=mean(words.numeric(text) for text in texts),
        goes_on=mean(words.goes_on(*pair) for pair in pairwise(texts)) if len(texts) > 1 else 0.0,
        fill=median(cell.width for cell in cells) / extent if extent else 1.0,
        gap=median(gaps) / height if gaps else 0.0,
        digits=mean(any(map(str.isdigit, text)) for text in texts),
        cased=any(map(str.islower, "".join(texts))),
        spaced=spaced,
    )


def _unspaced(texts: Sequence[str]) -> bool:
    """Tell whether the script has no spaces, so that words can't be counted."""
    letters = sum(map(len, texts))
    return sum(map(words.width, texts)) > 1.5 * letters


def _beside(columns: Sequence[Sequence[Cell]], height: float) -> float:
    """Return the share of the lines of the shortest column that have a line of another column right beside them."""
    shortest = min(columns, key=len)
    others = [cell.middle for column in columns if column is not shortest for cell in column]
    near = sum(any(abs(cell.middle - other) <= BESIDE * height for other in others) for cell in shortest)
    return near / len(shortest)


def _wrapped(columns: Sequence[Sequence[Cell]], height: float) -> bool:
    """Tell whether lines are wrapped cells of a table: white space runs across all columns between its rows, each of
    which has lines in most columns, and one column has a single line in most rows."""
    cells = sorted((cell for column in columns for cell in column), key=lambda cell: cell.top)
    inner = [_known(column, height).gap for column in columns if len(column) > 1]
    limit = (min(inner, default=0.0) + 0.3) * height
    groups: list[list[Cell]] = [[]]
    end = cells[0].bottom
    for cell in cells:
        if cell.top - end > limit:
            groups.append([])
        groups[-1].append(cell)
        end = max(end, cell.bottom)
    if len(groups) < 3:
        return False
    counts = [[sum(cell in column for cell in group) for column in map(set, columns)] for group in groups]
    complete = sum(sum(map(bool, count)) >= min(2, len(columns)) for count in counts)
    single = any(median(count[place] for count in counts) == 1 for place in range(len(columns)))
    return complete >= 0.8 * len(groups) and single and at.usual_height(cells) > 0
