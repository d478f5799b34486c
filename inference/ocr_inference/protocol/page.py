"""A place on a page, as it is answered and as families find it."""

from msgspec import Struct


class Box(Struct, frozen=True):
    """Labelled place on a page."""

    label: str
    box: tuple[int, int, int, int]
    """x1, y1, x2, y2 in pixels of the upright picture."""
