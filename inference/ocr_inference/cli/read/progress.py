"""One line that says how far a run is; pure.

It is ours, not a library's: a run has two counts (documents, and pages of which some aren't known yet), names that may
be as wide as the terminal, and no colours. tqdm and rich draw one known total, and rich takes longer to import than
PP-OCR to read a small page.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Self

RECENT: Final = 32
"""Pages that the rate is measured over."""
BAR: Final = 16
"""Columns of the bar."""


@dataclass(frozen=True)
class Open:
    """Document that is being read."""

    shown: str
    done: int = 0
    total: int | None = None
    """Pages that are requested; None before it is opened."""


@dataclass(frozen=True)
class Progress:
    documents: int
    ended: int = 0
    """Documents that were read, failed or were done before."""
    failed: int = 0
    counted: int = 0
    """Documents that were read here, all of their pages known."""
    counted_pages: int = 0
    open: tuple[tuple[int, Open], ...] = ()
    """Documents that are being read, by their number."""
    recent: tuple[float, ...] = field(default=())
    """Times at which pages ended, the first one when reading began."""
    activity: str = ""
    """What takes time before pages are read."""

    def begun(self, number: int, shown: str, now: float) -> Self:
        opened = (*self.open, (number, Open(shown)))
        return replace(self, open=opened, recent=self.recent or (now,))

    def page(self, number: int, done: int, total: int | None, now: float) -> Self:
        """Note how many pages of a document have ended."""
        opened = dict(self.open)
        more = max(0, done - opened[number].done)
        opened[number] = replace(opened[number], done=done, total=total)
        recent = (*self.recent, *([now] * more))[-RECENT - 1 :]
        return replace(self, open=tuple(opened.items()), recent=recent)

    def closed(self, number: int, pages: int | None, *, failed: bool) -> Self:
        """Note that a document has ended; `pages` is how many it had, None where it wasn't read."""
        return replace(
            self,
            ended=self.ended + 1,
            failed=self.failed + failed,
            counted=self.counted + (pages is not None),
            counted_pages=self.counted_pages + (pages or 0),
            open=tuple(each for each in self.open if each[0] != number),
        )

    def with_activity(self, activity: str) -> Self:
        return replace(self, activity=activity)

    @property
    def rate(self) -> float | None:
        """Pages a second lately; None before the second one has ended."""
        if len(self.recent) < 3:
            return None
        return (len(self.recent) - 1) / max(self.recent[-1] - self.recent[0], 1e-3)

    def seconds_left(self) -> float | None:
        """Return how long it will take at this rate; None while that isn't known.

        Documents that aren't opened are taken to be as long as the others.
        """
        if (rate := self.rate) is None:
            return None
        known = [each for _, each in self.open if each.total is not None]
        pages = self.counted_pages + sum(each.total or 0 for each in known)
        sample = self.counted + len(known)
        if not sample:
            return None
        unknown = max(0, self.documents - self.ended - len(known))
        left = sum((each.total or 0) - each.done for each in known) + unknown * pages / sample
        return left / rate

    @property
    def share(self) -> float:
        """Share that is done, from 0 to 1."""
        part = sum(each.done / each.total for _, each in self.open if each.total)
        return min(1.0, (self.ended + part) / max(1, self.documents))


def line(progress: Progress, columns: int, now: float, *, unicode: bool = True) -> str:
    """Return the line, no wider than the terminal."""
    full, empty = ("━", "─") if unicode else ("#", "-")
    done = round(progress.share * BAR)
    parts = [full * done + empty * (BAR - done)]
    if progress.documents > 1:
        parts.append(f"{progress.ended}/{progress.documents}")
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    if progress.activity:
        parts.append(progress.activity)
    for _, each in progress.open[:1]:
        if each.total is not None and each.total > 1:
            parts.append(f"page {min(each.done + 1, each.total)} of {each.total}")
    if (rate := progress.rate) is not None:
        parts.append(f"{rate:.1f} pages/s" if rate >= 1 else f"{1 / rate:.1f} s a page")
    elif progress.recent and now - progress.recent[0] >= 1:
        parts.append(duration(now - progress.recent[0]))
    if (left := progress.seconds_left()) is not None:
        parts.append(f"{duration(left)} left")
    names = [each.shown for _, each in progress.open]
    text = "  ".join(parts)
    rest = columns - 1 - width(text) - 2
    if names and rest >= 8:
        more = f" +{len(names) - 1}" if len(names) > 1 else ""
        text += "  " + cut_left(names[0], rest - len(more), "…" if unicode else "~") + more
    return cut_right(text, columns - 1)


def duration(seconds: float) -> str:
    """Return a time as people say it: 12 s, 3 m 20 s, 2 h 5 m."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} m"


def width(text: str) -> int:
    """Return the columns that a text takes: two for each Chinese or Japanese character, none for an accent."""
    return sum(_width(char) for char in text)


def cut_left(text: str, columns: int, mark: str) -> str:
    """Return the end of a text: of a path that is what tells it from others."""
    if width(text) <= columns:
        return text
    kept: list[str] = []
    left = columns - 1
    for char in reversed(text):
        if (left := left - _width(char)) < 0:
            break
        kept.append(char)
    return mark + "".join(reversed(kept))


def cut_right(text: str, columns: int) -> str:
    kept: list[str] = []
    for char in text:
        if (columns := columns - _width(char)) < 0:
            break
        kept.append(char)
    return "".join(kept)


def safe(name: str) -> str:
    """Return a file's name as it may be printed: a name may hold what controls a terminal."""
    return "".join(char if char.isprintable() else "?" for char in name)


def _width(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def pages(number: int) -> str:
    return f"{number} page{'' if number == 1 else 's'}"


def documents(numbers: Sequence[object] | int) -> str:
    number = numbers if isinstance(numbers, int) else len(numbers)
    return f"{number} document{'' if number == 1 else 's'}"
