"""Numbers in texts from outside: variables, options, queries, labels, headers.

Python's `int` and `float` take more than that: `8_001`, `+8001`, digits of other scripts, blanks around,
`nan`, and an integer of 400 digits. Here a number is what a person, a shell and a YAML file agree on.
"""

import argparse
import math
import re
from collections.abc import Callable
from typing import Final

_WHOLE: Final = re.compile(r"-?[0-9]{1,19}")
_DECIMAL: Final = re.compile(r"-?[0-9]{1,19}(?:\.[0-9]{1,25})?(?:[eE][+-]?[0-9]{1,3})?")


def whole(text: str, low: int, high: int) -> int | None:
    """Return a whole number in decimal digits from `low` to `high`; None for anything else."""
    if _WHOLE.fullmatch(text) is None:
        return None
    number = int(text)
    return number if low <= number <= high else None


def decimal(text: str, low: float, high: float) -> float | None:
    """Return a number such as `2`, `0.5` or `1e-3` from `low` to `high`; None for anything else."""
    if _DECIMAL.fullmatch(text) is None:
        return None
    number = float(text)
    return number if math.isfinite(number) and low <= number <= high else None


def argument(low: int, high: int) -> Callable[[str], int]:
    """Return the `type` of a command line's option that is a whole number."""

    def read(text: str) -> int:
        number = whole(text, low, high)
        if number is None:
            raise argparse.ArgumentTypeError(
                f"expected a whole number from {low} to {high}; got {text[:80]!r}"
            )
        return number

    return read
