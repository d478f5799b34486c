"""Characters of texts from outside: those that no file can hold, and the order in which a line shows them."""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from typing import Final

_HARMFUL: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069\ufeff]"
)
"""Characters that XML can't hold, controls, and overrides of the direction, which show a text as another one."""
_LEFT: Final = frozenset({"R", "AL"})
_NUMERIC: Final = frozenset({"EN", "AN"})
_MARK: Final = "NSM"
_WIDE: Final = frozenset({"W", "F"})


def safe(text: str) -> str:
    """Return the text without what files of XML can't hold or viewers act upon; line breaks and tabs stay."""
    return _HARMFUL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def runs_left(text: str) -> bool:
    """Return whether the first letter that has a direction runs to the left."""
    for character in text:
        direction = unicodedata.bidirectional(character)
        if direction in _LEFT:
            return True
        if direction == "L":
            return False
    return False


def is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in _WIDE


_NARROW: Final = frozenset("iljtfrI.,:;'|!()[]{} \u00a0-")
_BROAD: Final = frozenset("mwMW@%")
_NONE: Final = frozenset({"Mn", "Me", "Cf"})


@lru_cache(1 << 16)
def _advance(character: str) -> float:
    if is_wide(character):
        return 1.0
    if unicodedata.category(character) in _NONE:
        return 0.05  # viewers leave out what has no width
    if character in _NARROW:
        return 0.3
    return 0.85 if character in _BROAD else 0.65 if character.isupper() else 0.52


def advance(text: str) -> float:
    """Return about how long a text is in print, in heights of its letters."""
    return sum(map(_advance, text))


def shown(line: str) -> str:
    """Return a line in the order in which it is shown from the left, as a PDF holds it: viewers turn it back when it is
    searched or copied.

    This is the Unicode bidirectional algorithm (UAX 9) for one line without embeddings, which are taken out before.
    """
    if not any(unicodedata.bidirectional(each) in _LEFT for each in line):
        return line
    left = runs_left(line)
    runs = [
        (goes_left, list(run)) for goes_left, run in groupby(_directed(line, left=left), lambda each: each[0])
    ]
    if left:
        runs.reverse()
    return "".join(
        "".join(_mirrored(character) for _, character in reversed(run))
        if goes_left
        else "".join(character for _, character in run)
        for goes_left, run in runs
    )


def _directed(line: str, *, left: bool) -> Iterator[tuple[bool, str]]:
    """Yield each character with whether it runs to the left; what has no direction goes with its sides where they
    agree, else with the line."""
    kinds = [unicodedata.bidirectional(character) for character in line]
    found: list[bool | None] = []
    for kind in kinds:
        if kind == _MARK:
            found.append(found[-1] if found else None)
        elif kind in _NUMERIC or kind == "L":
            found.append(False)
        else:
            found.append(True if kind in _LEFT else None)
    at = 0
    while at < len(found):
        if found[at] is not None:
            at += 1
            continue
        end = at
        while end < len(found) and found[end] is None:
            end += 1
        before = _side(found, kinds, at - 1, left=left)
        after = _side(found, kinds, end, left=left)
        found[at:end] = [before if before == after else left] * (end - at)
        at = end
    return zip((bool(each) for each in found), line, strict=True)


def _side(found: list[bool | None], kinds: list[str], at: int, *, left: bool) -> bool:
    """Return the direction beside what has none. Numbers count as the direction of the line that runs to the left."""
    if not 0 <= at < len(found):
        return left
    if kinds[at] in _NUMERIC and left:
        return not _joins_numbers(kinds, at)
    return bool(found[at])


def _joins_numbers(kinds: list[str], at: int) -> bool:
    """Return whether a number stands beside a separator that another number follows, as in 12.50."""
    for step in (1, -1):
        if (
            0 <= at + 2 * step < len(kinds)
            and kinds[at + step] in ("CS", "ES", "ET")
            and kinds[at + 2 * step] in _NUMERIC
        ):
            return True
    return False


_PAIRS: Final = dict(zip("()[]{}<>«»‹›", ")(][}{><»«›‹", strict=True))


def _mirrored(character: str) -> str:
    return _PAIRS.get(character, character)
