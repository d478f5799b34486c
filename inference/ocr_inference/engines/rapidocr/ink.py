"""What of a page isn't blank: where to look for text, and where to look again."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import median
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ocr_inference.layout import quads
from ocr_inference.layout.pieces import Rect
from ocr_inference.layout.quads import Quad

PIXELS: Final = 2_500_000
"""Pixels of the page, made smaller, on which ink is looked for: an A4 page of 200 dots an inch stays as it is."""
CONTRAST: Final = 16
"""Levels of 255 by which ink differs from the ground around it; the noise of scanners and of JPEG stays below."""
AROUND: Final = 61
"""Pixels of the square whose mean is the ground: paper is lit from one side, and pages have coloured parts."""
BLANK: Final = 4
"""Levels by which pixels of a blank page may differ."""
THIN: Final = 0.3
"""Width of the narrowest digit, in least heights of a text."""
AROUND_LINE: Final = 0.3
"""Heights of a line around it in which all ink is its own."""
BESIDE_LINE: Final = 0.8
"""Heights of a line around it in which ink is its own that is joined to its letters."""
AREAS: Final = 12
"""Most areas that are looked at again."""
PART: Final = 0.2
"""Largest part of a page that is looked at again."""


@dataclass(frozen=True)
class Ink:
    """Pixels of a page, made smaller, that differ from the ground around them."""

    mask: NDArray[np.uint8]
    scale: float
    """Pixels of the page for one of the mask."""
    blank: bool
    """Whether all pixels of the page are of one colour."""

    def bounds(self, size: tuple[int, int], margin: int) -> Rect:
        """Return the rectangle around all ink and a margin, within the page; all of it where no ink stands out."""
        width, height = size
        left, top, wide, high = cv2.boundingRect(self.mask)
        if not wide or not high:
            return 0, 0, width, height
        return _grown((left, top, left + wide, top + high), self.scale, margin, size)

    def unread(self, size: tuple[int, int], lines: Sequence[Quad]) -> list[Rect]:
        """Return areas whose ink has the height of text and lies in no line that was found, the largest first."""
        heights = [min(quads.length(quad), quads.height(quad)) for quad in lines]
        rest = self.mask.copy()
        self._fill(rest, lines, heights, AROUND_LINE, 0)
        self._remove_tails(rest, lines, heights)
        usual = median(heights) if heights else 0.0
        low, high = (0.35 * usual, 3 * usual) if usual else (8.0, 0.06 * max(size))
        gap = max(3, round((usual or 24.0) / self.scale))
        near = cv2.dilate(rest, np.ones((gap, gap), np.uint8))
        count, _, stats, _ = cv2.connectedComponentsWithStats(near)
        areas = []
        for left, top, wide, tall, _ in stats[1:count].tolist():
            thin, long = ((side - gap + 1) * self.scale for side in sorted((wide, tall)))
            # A digit alone is narrow; a rule is narrower, for its length.
            if THIN * low <= thin <= high and low <= long:
                rect = (left, top, left + wide, top + tall)
                areas.append(_grown(rect, self.scale, round(min(long, high)), size))
        areas.sort(key=_area, reverse=True)
        left_over = PART * size[0] * size[1] if lines else float(size[0] * size[1])
        chosen: list[Rect] = []
        for area in areas:
            # One that is too large, such as a frame with what it touches, takes nothing from the others.
            if len(chosen) < AREAS and _area(area) <= left_over:
                left_over -= _area(area)
                chosen.append(area)
        return chosen

    def _remove_tails(self, rest: NDArray[np.uint8], lines: Sequence[Quad], heights: Sequence[float]) -> None:
        """Remove what sticks out of a line and is joined to ink in it: the lower ends of its letters, its underline."""
        _, parts = cv2.connectedComponents(self.mask)
        joined = np.zeros(int(parts.max()) + 1, bool)
        joined[parts[(self.mask != 0) & (rest == 0)]] = True
        beside = np.zeros_like(self.mask)
        self._fill(beside, lines, heights, BESIDE_LINE, 1)
        places = np.nonzero(rest & beside)
        rest[places] = ~joined[parts[places]]

    def _fill(
        self,
        mask: NDArray[np.uint8],
        lines: Sequence[Quad],
        heights: Sequence[float],
        around: float,
        value: int,
    ) -> None:
        """Fill the places of lines, and as many of their heights around them."""
        for quad, height in zip(lines, heights, strict=True):
            size = (quads.length(quad) + 2 * around * height, quads.height(quad) + 2 * around * height)
            wide = quads.rectangle(quads.center(quad), size, quads.angle(quad))
            cv2.fillConvexPoly(mask, np.round(np.array(wide) / self.scale).astype(np.int32), value)


def find(page: Image.Image) -> Ink:
    """Find the ink of a page, in RGB: whatever differs from the ground around it."""
    shrink = max(1, round(sqrt(page.width * page.height / PIXELS)))
    grey = np.asarray((page if shrink == 1 else page.reduce(shrink)).convert("L"))
    ground = cv2.blur(grey, (AROUND, AROUND))
    mask = (cv2.absdiff(grey, ground) > CONTRAST).astype(np.uint8)
    blank = not mask.any() and int(np.ptp(np.asarray(page.convert("L")))) <= BLANK
    return Ink(mask, float(shrink), blank)


def _grown(rect: Rect, scale: float, margin: int, size: tuple[int, int]) -> Rect:
    left, top, right, bottom = (round(edge * scale) for edge in rect)
    return (
        max(0, left - margin),
        max(0, top - margin),
        min(size[0], right + margin),
        min(size[1], bottom + margin),
    )


def _area(rect: Rect) -> int:
    return (rect[2] - rect[0]) * (rect[3] - rect[1])
