"""Plots as SVG, without a library: lines of points on axes whose steps are factors, and points."""

import math
from collections.abc import Mapping, Sequence
from typing import Final
from xml.sax.saxutils import escape

WIDTH: Final = 640
HEIGHT: Final = 400
LEFT: Final = 70
TOP: Final = 40
RIGHT: Final = 210
BOTTOM: Final = 50
LIST: Final = 40
"""Width that the names of points take beyond that of lines."""
STEPS: Final = 5
"""Of an axis from 0."""
COLOURS: Final = ("#1b6ca8", "#c2410c", "#15803d", "#7e22ce", "#525252")


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """Return the power with which a cost grows: 1 is linear. The least squares of the logarithms."""
    logs = [(math.log(x), math.log(y)) for x, y in points if x > 0 and y > 0]
    if len(logs) < 2:
        return math.nan
    middle_x, middle_y = sum(x for x, _ in logs) / len(logs), sum(y for _, y in logs) / len(logs)
    across = sum((x - middle_x) * (x - middle_x) for x, _ in logs)
    return sum((x - middle_x) * (y - middle_y) for x, y in logs) / across


def growth(title: str, lines: Mapping[str, Sequence[tuple[float, float]]], across: str) -> str:
    """Draw costs over sizes, both axes by factors, so that a linear cost is a line of 45° whatever its unit is: each is
    relative to its first point. The legend has the growth.
    """
    sizes = sorted({x for points in lines.values() for x, _ in points})
    relative = {
        name: [(x, y / points[0][1]) for x, y in points if y > 0]
        for name, points in lines.items()
        if points and points[0][1] > 0
    }
    most = max((y for points in relative.values() for _, y in points), default=1.0)
    top = max(10.0, 10 ** math.ceil(math.log10(max(most, sizes[-1] / sizes[0]))))

    def place(x: float, y: float) -> tuple[float, float]:
        part = math.log(x / sizes[0]) / math.log(sizes[-1] / sizes[0])
        height = math.log10(max(y, 0.5) / 0.5) / math.log10(top / 0.5)
        return (
            LEFT + part * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - height * (HEIGHT - TOP - BOTTOM),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-size="12">',
        "<style>text { font-family: sans-serif }</style>",
        f'<title>{escape(title)}</title><rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="24" font-size="15">{escape(title)}</text>',
        f'<text x="{LEFT}" y="{HEIGHT - 12}">{escape(across)}; each cost relative to its first point</text>',
    ]
    for size in sizes:
        x, y = place(size, 0.5)
        parts.append(f'<text x="{x:.0f}" y="{y + 16:.0f}" text-anchor="middle">{size:,.0f}</text>')
    for power in range(round(math.log10(top)) + 1):
        x, y = place(sizes[0], 10**power)
        end = WIDTH - RIGHT
        parts.append(f'<line x1="{x}" x2="{end}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{x - 8:.0f}" y="{y + 4:.1f}" text-anchor="end">{10**power} ×</text>')
    linear = " ".join("{:.1f},{:.1f}".format(*place(size, size / sizes[0])) for size in sizes)
    parts.append(f'<polyline points="{linear}" fill="none" stroke="#999" stroke-dasharray="4 4"/>')
    for number, (name, points) in enumerate(relative.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        label = f"{name}: n^{exponent(points):.2f}"
        parts.append(
            f'<text x="{WIDTH - RIGHT + 12}" y="{TOP + 16 + 20 * number}" fill="{colour}">{escape(label)}</text>'
        )
    y = TOP + 16 + 20 * len(relative)
    parts.append(f'<text x="{WIDTH - RIGHT + 12}" y="{y}" fill="#777">dashed: linear, n^1</text></svg>')
    return "\n".join(parts) + "\n"


def scatter(title: str, points: Mapping[str, tuple[float, float]], axes: tuple[str, str]) -> str:
    """Draw points with numbers, whose names are beside the plot. Across from 0, upwards by factors of ten from 1: what
    is less than 1 lies on the lowest line. `axes` say what they are.
    """
    right, bottom = WIDTH - RIGHT - LIST, HEIGHT - BOTTOM
    most = _round(max((x for x, _ in points.values()), default=0.0))
    powers = max(1, math.ceil(math.log10(max(1.0, *(y for _, y in points.values())))))

    def place(x: float, y: float) -> tuple[float, float]:
        up = math.log10(max(1.0, y)) / powers
        return LEFT + x / most * (right - LEFT), bottom - up * (bottom - TOP)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-size="12">',
        "<style>text { font-family: sans-serif }</style>",
        f'<title>{escape(title)}</title><rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="24" font-size="15">{escape(title)}</text>',
        f'<text x="{LEFT}" y="{HEIGHT - 12}">{escape(axes[0])}; upwards: {escape(axes[1])}</text>',
    ]
    for step in range(STEPS + 1):
        x, _ = place(most * step / STEPS, 1.0)
        parts.append(
            f'<text x="{x:.0f}" y="{bottom + 16}" text-anchor="middle">{most * step / STEPS:g}</text>'
        )
    for power in range(powers + 1):
        _, y = place(0.0, 10.0**power)
        parts.append(f'<line x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        least = "≤ " if not power else ""
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{least}{10**power:,}</text>')
    for number, (name, point) in enumerate(points.items()):
        x, y = place(*point)
        colour = COLOURS[number % len(COLOURS)]
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
        parts.append(f'<text x="{x + 6:.1f}" y="{y - 6:.1f}" fill="{colour}">{number + 1}</text>')
        label = f"{number + 1} {name}"
        parts.append(
            f'<text x="{right + 14}" y="{TOP + 16 + 20 * number}" fill="{colour}">{escape(label)}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _round(most: float) -> float:
    """Return the next larger 1, 2 or 5 times a power of ten; 1 for nothing."""
    if most <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= most)
