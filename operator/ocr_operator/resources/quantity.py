"""Kubernetes quantities (`12Gi`, `500m`, `1e9`): read exactly, written in one canonical way.

Fractions are kept exact (no float ever touches a memory size). Both the resource and the comparison of
manifests read quantities, so this stands below them.
"""

import re
from fractions import Fraction
from typing import Final

PATTERN: Final = r"^[0-9]{1,15}(\.[0-9]{1,9})?(k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|m|u|n|e[0-9]{1,2}|E[0-9]{1,2})?$"
"""What the resource accepts: no sign, no more digits than any real size needs. RE2 and Python agree on it."""

_BINARY: Final = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_POWERS: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_SHAPE: Final = re.compile(
    r"([+-]?(?:[0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20}))(?:([eE][+-]?[0-9]{1,2})|(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]?))"
)


def parse(value: object) -> Fraction | None:
    """The exact number that `value` (a string, or a number as YAML reads it) stands for; None if it is no
    quantity.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value)
    if len(text) > 64 or (match := _SHAPE.fullmatch(text)) is None:
        return None
    number, exponent, suffix = match.groups()
    amount = Fraction(number if not number.endswith(".") else number[:-1])
    if exponent:
        return amount * Fraction(10) ** int(exponent[1:])
    return amount * (_BINARY[suffix] if suffix in _BINARY else Fraction(10) ** _POWERS[suffix])


def same(one: object, other: object) -> bool:
    """Whether both are quantities and stand for the same number: `1` and `"1"`, `1Gi` and `1024Mi`."""
    left = parse(one)
    return left is not None and left == parse(other)


class Bytes(int):
    """A size in bytes. In the resource it is written as a quantity; a fraction of a byte counts as a whole
    one.
    """

    @classmethod
    def of(cls, value: object) -> "Bytes":
        """Reads a quantity of at least one byte; raises ValueError with the way out otherwise."""
        amount = parse(value)
        if amount is None or amount <= 0:
            raise ValueError(f"{str(value)[:64]!r} is not a positive quantity such as 12Gi or 500Mi")
        return cls(-(-amount.numerator // amount.denominator))

    def quantity(self) -> str:
        """The canonical spelling: the largest binary unit that divides the size. Equal sizes are spelled
        equally.
        """
        for suffix, factor in reversed(_BINARY.items()):
            if self % factor == 0:
                return f"{int(self) // factor}{suffix}"
        return str(int(self))
