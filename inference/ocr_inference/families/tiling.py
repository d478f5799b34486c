"""How a page becomes square views: one of the whole, and tiles of it where it is larger than one."""

from dataclasses import dataclass
from typing import Literal

Grid = tuple[int, int]
"""Columns, rows."""


@dataclass(frozen=True)
class Resolution:
    """Views that a model was trained on."""

    side: int
    """Pixels of the view of the whole page."""
    fit: Literal["pad", "stretch"]
    """How a page becomes square: in the middle of a grey square, or out of proportion."""
    tile: int | None = None
    """Pixels of a tile; None for no tiles."""
    most_tiles: int = 0


@dataclass(frozen=True)
class Views:
    side: int
    fit: Literal["pad", "stretch"]
    tile: int | None
    grid: Grid | None
    """None where the whole is enough."""

    @property
    def tiles(self) -> int:
        return self.grid[0] * self.grid[1] if self.grid else 0


def views(width: int, height: int, resolution: Resolution) -> Views:
    """Return the views of a page of that size."""
    tile = resolution.tile
    if tile is None or max(width, height) <= tile:
        return Views(resolution.side, resolution.fit, tile, None)
    return Views(resolution.side, resolution.fit, tile, grid(width, height, tile, resolution.most_tiles))


def grid(width: int, height: int, tile: int, most: int) -> Grid:
    """Choose the grid of 2 to `most` tiles that is nearest to the page's proportions.

    Of equally near ones the largest whose area isn't twice the page's: that is what the models were trained with.
    """
    candidates = sorted(
        ((columns, rows) for columns in range(1, most + 1) for rows in range(1, most + 1)),
        key=lambda each: each[0] * each[1],
    )
    proportion, area = width / height, width * height
    best, nearest = (1, 1), float("inf")
    for columns, rows in candidates:
        if not 2 <= columns * rows <= most:
            continue
        distance = abs(proportion - columns / rows)
        if distance < nearest or (distance == nearest and area > tile * tile * columns * rows / 2):
            best, nearest = (columns, rows), distance
    return best
