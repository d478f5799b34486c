"""Screenshots of the documentation: taken anew by a test, and compared by their layout.

Fonts, their smoothing and the seconds of a countdown differ from machine to machine, so pixels say nothing. Both
pictures are divided into squares, and the mean brightness of each is compared: text that is set a little differently
moves it hardly, and a region that moved, grew or vanished moves that of many.
"""

import io
import os
from pathlib import Path
from typing import Final

from PIL import Image, ImageChops

from tests.support.paths import ROOT

FOLDER: Final = ROOT / "docs" / "images"
MOST_BYTES: Final = 150_000
SQUARE: Final = 32
"""Side of a square in pixels."""
APART: Final = 20
"""Brightness, of 255, by which a square differs from the same one of the other picture."""
MOST_APART: Final = 0.12
"""Share of squares that may differ."""


def check(name: str, png: bytes) -> None:
    """Compare a screenshot with `docs/images/NAME.png`; with `UPDATE_GOLDEN` set, write it there instead."""
    path = FOLDER / f"{name}.png"
    new = Image.open(io.BytesIO(png)).convert("RGB")
    if os.environ.get("UPDATE_GOLDEN"):
        _write(path, new)
    hint = f"look at it, then UPDATE_GOLDEN=1 pytest tests/browser/test_screenshots.py; {path.name}"
    assert path.exists(), f"{hint} is missing"
    assert path.stat().st_size <= MOST_BYTES, f"{hint} has {path.stat().st_size} bytes"
    share = apart(Image.open(path).convert("RGB"), new)
    assert share <= MOST_APART, f"{hint}: {share:.0%} of it look different now"


def apart(old: Image.Image, new: Image.Image) -> float:
    """Return the share of squares that differ; 1 for pictures of other sizes."""
    if abs(old.width - new.width) > SQUARE or abs(old.height - new.height) > SQUARE:
        return 1.0
    size = (min(old.width, new.width), min(old.height, new.height))
    greys = [each.convert("L").crop((0, 0, *size)).reduce(SQUARE) for each in (old, new)]
    counts = ImageChops.difference(*greys).histogram()
    return sum(counts[APART:]) / sum(counts)


def _write(path: Path, picture: Image.Image) -> None:
    path.parent.mkdir(exist_ok=True)
    picture.save(path, optimize=True)
