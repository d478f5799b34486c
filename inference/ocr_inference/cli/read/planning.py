"""Decides which documents are read, in which order, and where each result goes; pure.

Results keep the folders: below the output folder stands what stands below the deepest folder that holds all that was
named. `a.pdf` becomes `a.pdf.md`, so `a.png` beside it has a name of its own, today and when it comes next week.
"""

import os.path
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

STDIN: Final = "-"
SUFFIXES: Final = frozenset(
    f".{each}"
    for each in "pdf png jpg jpeg jpe jfif webp tif tiff bmp gif avif jp2 j2k jpx".split()  # noqa: SIM905
)
"""Names of documents: a damaged one is a document, too, and its failure is reported."""


class Collision(ValueError):
    """Two documents whose results would have one name."""


@dataclass(frozen=True)
class Found:
    """Document that was named, or found in a folder."""

    path: str
    """Absolute; `-` is standard input."""
    shown: str
    """Path as people know it."""
    root: str
    """Folder, absolute, from which its place counts."""


@dataclass
class Inventory:
    """All that was found."""

    found: list[Found] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    """Numbers of files that are no documents, by what they are."""
    problems: list[tuple[str, str]] = field(default_factory=list)
    """(Path, why it can't be listed)."""


@dataclass(frozen=True)
class Document:
    path: str
    shown: str
    output: str | None
    """Path of the result below the output folder; None where results are printed."""


def documents(found: Sequence[Found], suffix: str | None) -> tuple[Document, ...]:
    """Return each document once, in the order in which they were named; `suffix` is that of results in an output
    folder, None without one. Raises `Collision`."""
    once = list({each.path: each for each in reversed(found)}.values())[::-1]
    if suffix is None:
        return tuple(Document(each.path, each.shown, None) for each in once)
    roots = [each.root for each in once if each.path != STDIN]
    top = os.path.commonpath(roots) if roots else ""
    taken: dict[str, Document] = {}
    for each in once:
        place = "stdin" if each.path == STDIN else os.path.relpath(each.path, top)
        document = Document(each.path, each.shown, place + suffix)
        if (other := taken.setdefault(place + suffix, document)) is not document:
            raise Collision(
                f"{other.shown} and {each.shown} would both be written to {place}{suffix}: read one alone"
            )
    return tuple(taken.values())


def is_document(name: str, *, is_known: bool) -> bool:
    """Return whether a file of a folder is read: by its content, or else by its name."""
    return is_known or suffix(name) in SUFFIXES


def suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def is_hidden(name: str) -> bool:
    return name.startswith(".")


def base(pattern: str) -> str:
    """Return the folder of a pattern that has no wildcard in it: `.` of `*.pdf`."""
    parts = pattern.split("/")
    fixed = [*_until_magic(parts[:-1])]
    return "/".join(fixed) or ("/" if pattern.startswith("/") else ".")


def is_pattern(word: str) -> bool:
    return any(char in word for char in "*?[")


def is_wanted(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether a path matches, or a folder that it is in: one that matches is read with all that is in it."""
    return any(matches(parts[:depth], pattern) for depth in range(1, len(parts) + 1))


def matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether a path matches, part by part; `**` is any number of folders."""
    if pattern and pattern[-1] == "**":
        pattern = (*pattern, "*")  # all that is in the folder, not the folder itself
    reached = {0}
    for part in parts:
        reached = {after for at in _skipping(reached, pattern) for after in _after(at, part, pattern)}
    return len(pattern) in _skipping(reached, pattern)


def _skipping(reached: Collection[int], pattern: Sequence[str]) -> set[int]:
    """Return the positions in the pattern that are reached, too, since `**` may be no folder."""
    found = set()
    for at in reached:
        found.add(at)
        while at < len(pattern) and pattern[at] == "**":
            at += 1  # noqa: PLW2901 - walks on from there
            found.add(at)
    return found


def _after(at: int, part: str, pattern: Sequence[str]) -> tuple[int, ...]:
    if at == len(pattern):
        return ()
    if pattern[at] == "**":
        return (at,)
    return (at + 1,) if fnmatchcase(part, pattern[at]) else ()


def _until_magic(parts: Sequence[str]) -> Sequence[str]:
    for index, part in enumerate(parts):
        if is_pattern(part):
            return parts[:index]
    return parts


def counted(skipped: Mapping[str, int]) -> str:
    """Return what was skipped, the most first: "3 .txt, 1 .docx"."""
    ranked = sorted(skipped.items(), key=lambda each: (-each[1], each[0]))
    rest = sum(number for _, number in ranked[6:])
    return ", ".join([f"{number} {kind}" for kind, number in ranked[:6]] + ([f"{rest} more"] if rest else []))
