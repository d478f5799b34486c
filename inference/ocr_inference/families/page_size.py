"""Size at which a page is read where memory is short: bounded by what is free, and smaller after it ran out.

A size is a resolution's name or, for models that see a page in its own size, pixels of its longer side, such as
`1536px`. Boxes and sizes in answers are the page's own in any case.
"""

from collections.abc import Iterable
from typing import Final

GIB: Final = 1 << 30
LONGEST_SIDES: Final = ((6 * GIB, 1536), (8 * GIB, 2048), (12 * GIB, 3072))
"""Bytes below which a page's longer side is bounded, and by how many pixels."""
LONGEST_SIDE: Final = 4096
"""Pixels of the longer side with any more memory: finer print than 350 dpi on A4 has is rare, and costs a lot."""
SMALLER_SIDES: Final = (3072, 2048, 1536, 1024)
"""Pixels of the longer side to try after memory ran out, largest first."""
SMALLER_RESOLUTIONS: Final = ("base", "small", "tiny")
"""DeepSeek-OCR's to try after memory ran out, largest first. After `gundam`, too: the one large view of `large` takes
more at its peak than views and tiles that are encoded one after another."""
_UNIT: Final = "px"


def longest_side(available_bytes: int | None, resolution: str | None) -> int | None:
    """Return the most pixels of a page's longer side; None for no bound: where the device's memory isn't known, and
    where the request names a resolution. `available_bytes` may still be taken on the device when the page begins."""
    if available_bytes is None or resolution is not None:
        return None
    return next((side for below, side in LONGEST_SIDES if available_bytes < below), LONGEST_SIDE)


def why(longest: int, available_bytes: int) -> str:
    """Return why a page's longer side is bounded by so many pixels."""
    if longest == LONGEST_SIDE:
        return f"no page has a longer side above {LONGEST_SIDE} pixels, unless a resolution is named"
    return f"{available_bytes / GIB:.1f} GiB of GPU memory were free when the page began"


def smaller_sides(longest: int) -> tuple[str, ...]:
    """Return the sizes below a longer side of that many pixels, largest first."""
    return tuple(size(side) for side in SMALLER_SIDES if side < longest)


def smaller_resolutions(known: Iterable[str], name: str) -> tuple[str, ...]:
    """Return the resolutions below one, largest first, of a model that knows these."""
    below: tuple[str, ...] = SMALLER_RESOLUTIONS
    if name in below:
        below = below[below.index(name) + 1 :]
    found = frozenset(known)
    return tuple(each for each in below if each in found)


def size(side: int) -> str:
    """Return the size of a page with a longer side of so many pixels."""
    return f"{side}{_UNIT}"


def side(size: str | None) -> int | None:
    """Return the pixels of a size; None for a resolution's name, or without a size."""
    if size is None or not size.endswith(_UNIT) or not (digits := size.removesuffix(_UNIT)).isdigit():
        return None
    return int(digits)


def fitted(width: int, height: int, longest: int | None) -> tuple[int, int]:
    """Return a page's width and height, scaled down in proportion where its longer side is over `longest`."""
    if longest is None or max(width, height) <= longest:
        return width, height
    scale = longest / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))
