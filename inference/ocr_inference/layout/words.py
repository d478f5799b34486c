"""What lines have as text: width in letters, numbers, sentences that go on."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final

_MARK: Final = re.compile(r"[-–—•●○◦▪■*·]|\(?(\d{1,3}|[A-Za-z]|[ivxIVX]{1,5})[.)]")


def width(text: str) -> int:
    """Return the width in Latin letters; a Chinese or Japanese character has two."""
    return sum(2 if _wide(character) else 1 for character in text)


def numeric(text: str) -> bool:
    """Tell whether a text is a number, with or without its unit: digits are half of it, and no word is long."""
    digits = sum(character.isdigit() for character in text)
    if any(len(word) > 3 and word.isalpha() for word in text.split()):
        return False
    return 2 * digits >= sum(character.isalnum() for character in text) > 0


def mark(text: str) -> bool:
    """Tell whether a text is the mark of an item of a list: a bullet, or a number or letter with a point or bracket."""
    return _MARK.fullmatch(text) is not None


def goes_on(text: str, following: str) -> bool:
    """Tell whether a sentence goes on in the following line, as it does in prose and seldom in a table."""
    if text[-1:] in "-,;" and text[-1:]:
        return True
    return following[:1].islower() and text[-1:] not in ".!?:。！？"


def run_left(texts: Iterable[str]) -> bool:
    """Tell whether most letters are of scripts that are written from right to left."""
    balance = 0
    for text in texts:
        for character in text:
            direction = unicodedata.bidirectional(character)
            balance += (direction in {"R", "AL"}) - (direction == "L")
    return balance > 0


def joined(texts: Sequence[str]) -> str:
    """Join pieces of a text: with a space, but for characters of scripts that have none."""
    text = ""
    for piece in texts:
        apart = text and piece and not (_wide(text[-1]) and _wide(piece[0]))
        text += f" {piece}" if apart else piece
    return text


def _wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in {"W", "F"}
