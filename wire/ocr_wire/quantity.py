"""Kubernetes quantities (`12Gi`, `500m`, `1e9`): read exactly, written in one canonical way.

Fractions are kept exact (no float ever touches a memory size).
"""

import re
from fractions import Fraction
from typing import Final

from ocr_wire import text

PATTERN: Final = r"^[0-9]{1,15}(\.[0-9]{1,9})?(k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|m|u|n|e[0-9]{1,2}|E[0-9]{1,2})?$"
"""What the resource accepts: no sign, no more digits than any real size needs. As its definition writes it."""
MAX_BYTES: Final = 2**63 - 1
"""Larger sizes are none."""

_BINARY: Final = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_POWERS: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_FACTORS: Final = _BINARY | {suffix: Fraction(10) ** power for suffix, power in _POWERS.items()}
_SHAPE: Final = re.compile(
    r"([+-]?(?:[0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20}))(?:([eE][+-]?[0-9]{1,2})|(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]?))"
)


def parse(value: object) -> Fraction | None:
    """Return the exact number that `value` (a string, or a number as YAML reads it) stands for; None if it is no
    quantity.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, int) and abs(value) >= 10**20:
        return None  # Before it becomes text: Python refuses to write a number of thousands of digits.
    written = str(value)
    if len(written) > 64 or (match := _SHAPE.fullmatch(written)) is None:
        return None
    number, exponent, suffix = match.groups()
    amount = Fraction(number if not number.endswith(".") else number[:-1])
    if exponent:
        return amount * Fraction(10) ** int(exponent[1:])
    return amount * _FACTORS[suffix]


def same(one: object, other: object) -> bool:
    """Return whether both are quantities and stand for the same number: `1` and `"1"`, `1Gi` and `1024Mi`."""
    left = parse(one)
    return left is not None and left == parse(other)


def size(value: object) -> int | None:
    """Return the bytes of a quantity, a fraction of one counted as a whole; None if it is no size: no quantity, below
    zero or above `MAX_BYTES`.
    """
    amount = parse(value)
    if amount is None or amount < 0:
        return None
    whole = -(-amount.numerator // amount.denominator)
    return whole if whole <= MAX_BYTES else None


def fault(value: object) -> str:
    """Return the message about a value that is no size, with the way out."""
    return f"{written(value)!r} is not a positive quantity such as 12Gi or 500Mi"


def written(value: object) -> str:
    """Return the start of any value from outside, fit for a message."""
    return (
        f"a number of {value.bit_length()} bits"
        if isinstance(value, int) and abs(value) >= 10**64
        else text.shown(str(value))
    )


class Amount(str):
    """Amount of any resource, zero too, in one spelling for equal ones, the shortest: `250m`, `2`, `512Mi`, `50G`.

    What is finer than a thousandth counts as a whole one, as Kubernetes has it for CPU.
    """

    __slots__ = ()

    @classmethod
    def of(cls, value: object) -> "Amount":
        """Read a quantity that isn't negative. Raise ValueError with the way out otherwise."""
        number = parse(value)
        if number is None or not 0 <= number <= MAX_BYTES:
            raise ValueError(f"{written(value)!r} is no quantity such as 500m or 512Mi")
        thousandths = -(-(number * 1000).numerator // (number * 1000).denominator)
        whole, rest = divmod(thousandths, 1000)
        if rest or not whole:
            return cls(f"{thousandths}m" if rest else "0")
        units = [
            ("", Fraction(1)),
            *((unit, Fraction(factor)) for unit, factor in _FACTORS.items() if factor > 1),
        ]
        spelled = (f"{whole // factor}{unit}" for unit, factor in units if whole % factor == 0)
        return cls(min(spelled, key=lambda each: (len(each), each)))

    @property
    def number(self) -> Fraction:
        return parse(str(self)) or Fraction()


class Bytes(int):
    """Size in bytes. In the resource it is written as a quantity; a fraction of a byte counts as a whole one."""

    @classmethod
    def of(cls, value: object) -> "Bytes":
        """Read a quantity of at least one byte. Raise ValueError with the way out otherwise."""
        found = size(value)
        if not found:
            raise ValueError(fault(value))
        return cls(found)

    def quantity(self) -> str:
        """Return the canonical spelling: the largest binary unit that divides the size. Equal sizes are spelled
        equally.
        """
        for suffix, factor in reversed(_BINARY.items()):
            if self % factor == 0:
                return f"{int(self) // factor}{suffix}"
        return str(int(self))
