"""Text for terminals: tables whose first column is a tree, colours, durations, sizes."""

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ocr_wire.redaction import redact

GOOD, BAD, DIM, BOLD, WARM = "32", "31", "2", "1", "33"
"""SGR codes, as `Cell.style`."""

Paint = Callable[[str, str], str]
"""(text, style) → text, with or without escape sequences."""


def plain(text: str, _style: str) -> str:
    return text


def coloured(text: str, style: str) -> str:
    return f"\x1b[{style}m{text}\x1b[0m" if style and text else text


@dataclass(frozen=True, slots=True)
class Cell:
    text: str
    style: str = ""


@dataclass(slots=True)
class Item:
    """Line of the table, and the lines below it. Strings are cells without a style."""

    cells: Sequence[Cell | str]
    children: list["Item"] = field(default_factory=list)


def table(header: Sequence[str], items: Iterable[Item], paint: Paint = plain) -> str:
    """Return a table with columns as wide as their widest cell; the first is drawn as a tree. No newline at the end."""
    rows = [[Cell(each, DIM) for each in header]]
    for item in items:
        _add(rows, item, "", "")
    widths = [
        max((len(row[column].text) for row in rows if column < len(row)), default=0)
        for column in range(max(map(len, rows)))
    ]
    lines = []
    for row in rows:
        last = max((at for at, cell in enumerate(row) if cell.text), default=0)
        cells = [
            paint(cell.text, cell.style) + ("" if at == last else " " * (widths[at] - len(cell.text)))
            for at, cell in enumerate(row[: last + 1])
        ]
        lines.append("  ".join(cells))
    return "\n".join(lines)


def _add(rows: list[list[Cell]], item: Item, first: str, rest: str) -> None:
    cells = [each if isinstance(each, Cell) else Cell(each) for each in item.cells]
    rows.append([Cell(first + cells[0].text, cells[0].style), *cells[1:]])
    for child in item.children:
        last = child is item.children[-1]
        _add(rows, child, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))


def clean(text: str, limit: int = 1024) -> str:
    """Return one printable line without secrets: what comes from a cluster must not move the cursor or change the
    terminal."""
    line = "".join(char if char.isprintable() else " " for char in redact(text)[: limit + 1]).strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"


def lines(raw: str) -> str:
    """Return the text with its lines and tabs, but nothing else that moves a cursor: a page may hold anything."""
    return "".join(char if char.isprintable() or char in "\n\t" else " " for char in raw)


def duration(seconds: float) -> str:
    """Return a duration in two units at most: `48s`, `4m10s`, `3h5m`, `12d`."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60}s" if whole % 60 else f"{whole // 60}m"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60}m" if whole % 3600 // 60 else f"{whole // 3600}h"
    return f"{whole // 86_400}d"


_GIB: Final = 2**30


def size(count: int) -> str:
    """Return a size in Gi with at most one decimal, below that in Mi; 0 has no unit."""
    if count < _GIB:
        return f"{count / 2**20:.0f}Mi" if count else "0"
    return f"{count / _GIB:.1f}".removesuffix(".0") + "Gi"


def nearest(wanted: str, known: Iterable[str], what: str) -> str:
    """Return the way out of a misspelt name, such as ` Did you mean 'invoices'?`; bounded, whatever there is."""
    names = sorted(set(known))
    if not names:
        return f" There are no {what}."
    if close := difflib.get_close_matches(wanted, names, n=1):
        return f" Did you mean {clean(close[0], 253)!r}?"
    listed = ", ".join(clean(name, 253) for name in names[:8])
    return f" There are {what} {listed}{', …' if len(names) > 8 else ''}."
