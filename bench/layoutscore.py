"""How near a text is to what stands on the page, and how near an order is to the right one."""

from collections.abc import Sequence
from itertools import combinations


def squeezed(text: str) -> str:
    """Return the text without white space, which layouts set as they like."""
    return "".join(text.split())


def edits(first: str, second: str) -> int:
    """Return the fewest insertions, deletions and replacements that make one text of the other (Levenshtein).

    By Myers' bit vectors in Hyyrö's form: a column of the table is a whole number.
    """
    if not first or not second:
        return len(first) or len(second)
    places: dict[str, int] = {}
    for at, character in enumerate(first):
        places[character] = places.get(character, 0) | 1 << at
    full, last = (1 << len(first)) - 1, 1 << (len(first) - 1)
    plus, minus, score = full, 0, len(first)
    for character in second:
        match = places.get(character, 0)
        zero = (((match & plus) + plus) ^ plus) | match | minus
        up, down = minus | ~(zero | plus) & full, plus & zero
        score += bool(up & last) - bool(down & last)
        up, down = (up << 1 | 1) & full, down << 1 & full
        plus, minus = down | ~(zero | up) & full, up & zero
    return score


def error(wanted: str, found: str) -> float:
    """Return the edit distance for each character of the right text; 1 at most."""
    wanted, found = squeezed(wanted), squeezed(found)
    return min(1.0, edits(wanted, found) / max(1, len(wanted)))


def kendall(ranks: Sequence[int]) -> float:
    """Return Kendall's tau of a sequence that should ascend: 1 in order, -1 backwards."""
    pairs = list(combinations(ranks, 2))
    if not pairs:
        return 1.0
    return sum((first < second) - (first > second) for first, second in pairs) / len(pairs)
