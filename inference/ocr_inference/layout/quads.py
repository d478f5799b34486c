"""Places of lines on a page, as detection finds them: four corners, clockwise in pixels, from whichever corner.

Which way a line of text runs isn't known from its place: it may be upside down, and a short word's longer side may be
any. So places are laid along the axis of the page first, and what is read decides the rest.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import atan2, cos, degrees, hypot, radians, sin
from statistics import median

Point = tuple[float, float]
Quad = tuple[Point, Point, Point, Point]
"""Corners, clockwise as seen on the page; the first edge runs along the text."""

LONG = 2.0
"""Length in heights from which a line shows which way it runs."""
SHORT = 1.6
"""Length in heights of the page's lines up to which a place is a single character, whichever of its sides is longer."""
APART = 1.5
"""White space between words of a line, in its heights, at most."""
CROOKED = 8.0
"""Degrees from the axis of the page from which the place of a short word is drawn anew along the axis."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Place of a line that runs along the axis of the page, or against it; or across it, down or up."""

    quad: Quad
    across: bool
    """Whether it runs across the axis, such as a heading of a page whose lines run down."""
    short: bool
    """Whether it is too short to show which way it runs."""


def length(quad: Quad) -> float:
    """Return the length of the first edge and of the one opposite, on average."""
    a, b, c, d = quad
    return (hypot(b[0] - a[0], b[1] - a[1]) + hypot(c[0] - d[0], c[1] - d[1])) / 2


def height(quad: Quad) -> float:
    """Return the length of the other edges."""
    return length(turned(quad, 1))


def angle(quad: Quad) -> float:
    """Return the direction of the first edge in degrees clockwise from the right."""
    a, b, c, d = quad
    return degrees(atan2(b[1] - a[1] + c[1] - d[1], b[0] - a[0] + c[0] - d[0]))


def between(first: float, second: float) -> float:
    """Return how far the first direction is turned from the second, from -180 to 180 degrees."""
    return (first - second + 180) % 360 - 180


def turned(quad: Quad, quarters: int) -> Quad:
    """Return the place with a text that runs that many quarters further clockwise."""
    at = quarters % 4
    return quad[at:] + quad[:at]  # type: ignore[return-value]  # four corners in all


def lengthwise(quad: Quad) -> Quad:
    """Return the place with its longer edge first."""
    return quad if length(quad) >= height(quad) else turned(quad, 1)


def center(quad: Quad) -> Point:
    return sum(x for x, _ in quad) / 4, sum(y for _, y in quad) / 4


def rectangle(middle: Point, size: tuple[float, float], direction: float) -> Quad:
    """Return the rectangle of that length and height whose first edge has that direction."""
    (x, y), turn = middle, radians(direction)
    ax, ay = size[0] / 2 * cos(turn), size[0] / 2 * sin(turn)
    dx, dy = -size[1] / 2 * sin(turn), size[1] / 2 * cos(turn)
    return (
        (x - ax - dx, y - ay - dy),
        (x + ax - dx, y + ay - dy),
        (x + ax + dx, y + ay + dy),
        (x - ax + dx, y - ay + dy),
    )


def along(point: Point, direction: float) -> Point:
    """Return how far a point lies along a direction, and a quarter turn clockwise from it."""
    (x, y), turn = point, radians(direction)
    return x * cos(turn) + y * sin(turn), y * cos(turn) - x * sin(turn)


def enclosing(quad: Quad, direction: float) -> Quad:
    """Return the rectangle of that direction around a place."""
    places = [along(corner, direction) for corner in quad]
    us, vs = [u for u, _ in places], [v for _, v in places]
    middle = along(((min(us) + max(us)) / 2, (min(vs) + max(vs)) / 2), -direction)
    return rectangle(middle, (max(us) - min(us), max(vs) - min(vs)), direction)


def axis(places: Iterable[Quad]) -> float:
    """Return the direction along which most text lies, above -90 and up to 90 degrees; 0 where no place is long.

    From a place alone up and down are the same; text that runs down is by far the more frequent.
    """
    weights: dict[int, float] = {}
    lying = []
    for quad in map(lengthwise, places):
        if length(quad) >= LONG * height(quad):
            direction = angle(quad) % 180
            lying.append((direction, length(quad)))
            degree = round(direction) % 180
            weights[degree] = weights.get(degree, 0.0) + length(quad)
    if not lying:
        return 0.0
    near = {at: sum(weights.get((at + step) % 180, 0.0) for step in range(-5, 6)) for at in weights}
    best = max(near, key=lambda at: (near[at], weights[at], -at))
    members = [(_lean(direction, best), weight) for direction, weight in lying]
    members = [(lean, weight) for lean, weight in members if abs(lean) <= 10]
    mean = sum(lean * weight for lean, weight in members) / sum(weight for _, weight in members)
    found = (best + mean) % 180
    return found - 180 if found > 90 + 1e-6 else found


def laid(places: Sequence[Quad]) -> list[Placed]:
    """Lay places along the axis of the page: corners in order, for text that runs along the axis, or down across it."""
    main = axis(places)
    lying = [lengthwise(quad) for quad in places]
    long = [height(quad) for quad in lying if length(quad) >= LONG * height(quad)]
    usual = median(long) if long else 0.0
    found = [_laid(quad, main, usual) for quad in lying]
    across = [each.quad for each in found if each.across]
    return [_beside(each, across, main) if each.short else each for each in found]


def _beside(placed: Placed, across: Sequence[Quad], main: float) -> Placed:
    """Lay a short word across the axis where it stands in line with a longer one that does."""
    for line in across:
        size = max(length(placed.quad), height(placed.quad))
        (u, v), (u0, v0) = along(center(placed.quad), angle(line)), along(center(line), angle(line))
        if abs(v - v0) < height(line) / 2 and abs(u - u0) < length(line) / 2 + size / 2 + APART * height(
            line
        ):
            return Placed(enclosing(placed.quad, main + 90), across=True, short=True)
    return placed


def _laid(quad: Quad, main: float, usual: float) -> Placed:
    """Lay a place whose first edge is the longer one."""
    short = length(quad) < LONG * height(quad) or length(quad) <= SHORT * usual
    lean = min((turned(quad, at) for at in range(4)), key=lambda each: abs(between(angle(each), main)))
    if short:
        crooked = abs(between(angle(lean), main)) > CROOKED
        return Placed(enclosing(lean, main) if crooked else lean, across=False, short=True)
    across = abs(_lean(angle(quad), main)) > 45
    direction = main + 90 if across else main
    return Placed(
        min(quad, turned(quad, 2), key=lambda each: abs(between(angle(each), direction))), across, False
    )


def _lean(direction: float, other: float) -> float:
    """Return how far one axis is turned from another, from -90 to 90 degrees."""
    return (direction - other + 90) % 180 - 90
