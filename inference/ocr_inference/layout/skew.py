"""The exact direction of lines: short words show it badly, but words of a row lie side by side.

Detection draws the box of a word of three letters up to two degrees askew, all of them to the same side. Across a page
that is more than a line's height, and no row of a table would be found.
"""

from collections.abc import Sequence
from math import degrees, sqrt
from statistics import median
from typing import Final

from ocr_inference.layout import quads
from ocr_inference.layout.quads import Quad

NOISE: Final = 0.1
"""Heights by which the ends of a box lie too high or too low."""
STEPS: Final = 16
"""Directions that are tried to either side."""
BESIDE: Final = 0.2
"""Heights within which words lie side by side."""


def direction(lines: Sequence[Quad], near: float) -> float:
    """Return the direction of lines in degrees, which is near `near`: their mean, unless they are short. Then it is the
    one in which most of them lie side by side, and an upright one if that does as well."""
    longer = [
        (quads.between(quads.angle(quad), near), quads.length(quad), quads.height(quad)) for quad in lines
    ]
    # The longer a line for its height, the more exact it is, and by the square.
    weights = [(length / height) ** 2 if height else 0.0 for _, length, height in longer]
    total = sum(weights)
    if not total:
        return near
    mean = near + sum(weight * lean for weight, (lean, _, _) in zip(weights, longer, strict=True)) / total
    reach = min(4.0, 3 * degrees(NOISE) / sqrt(total))
    upright = 90.0 * round(mean / 90)
    tried = [mean + reach * step / STEPS for step in range(-STEPS, STEPS + 1)]
    if abs(mean - upright) <= reach:
        tried.append(upright)
    if reach < 0.1 or len(lines) < 2:
        return tried[-1] if upright in tried else mean
    tolerance = BESIDE * median(height for _, _, height in longer)
    scores = [_beside(lines, each, tolerance) for each in tried]
    best = [each for each, score in zip(tried, scores, strict=True) if score == max(scores)]
    return upright if upright in best else mean if mean in best else median(best)


def _beside(lines: Sequence[Quad], angle: float, tolerance: float) -> int:
    """Count the pairs of lines that lie side by side if that is their direction."""
    places = sorted(quads.along(quads.center(quad), angle)[1] for quad in lines)
    first = found = 0
    for last, place in enumerate(places):
        while place - places[first] > tolerance:
            first += 1
        found += last - first
    return found
