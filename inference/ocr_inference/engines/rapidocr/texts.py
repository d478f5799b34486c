"""What pictures of single lines say, by rapidocr's recognition model.

The model's answer to a line depends a little on the width that it is given in. rapidocr gives it six lines at a time in
the width of the longest of them, and none in less than 320. Here a line has its own width, so that nothing is computed
for white space, and its answer doesn't depend on what else is on the page.
"""

from collections.abc import Sequence
from math import ceil
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ocr_inference.engines.rapidocr import inputs

TOGETHER: Final = 6
"""Lines of one width that are given to the model at once, so that all threads have work. A thread alone gains nothing
by more than one."""
LEAST: Final = 160
"""Least width of what the model is given, in pixels."""
STEP: Final = 32
"""Widths are multiples of it, so that several lines have the same."""


class Texts:
    def __init__(self, recognizer: Any) -> None:
        self._session = recognizer.session
        self._decode = recognizer.postprocess_op.decode

    def read(self, pictures: Sequence[NDArray[np.uint8]]) -> list[tuple[str, float]]:
        """Return for each picture of a line, H x W x 3 and upright, its text and the confidence in it, 0 to 1."""
        groups: dict[int, list[int]] = {}
        for at, picture in enumerate(pictures):
            groups.setdefault(width(picture), []).append(at)
        read = [("", 0.0)] * len(pictures)
        for wide, group in groups.items():
            for start in range(0, len(group), TOGETHER):
                some = group[start : start + TOGETHER]
                found = self._some([pictures[at] for at in some], wide)
                for at, each in zip(some, found, strict=True):
                    read[at] = each
        return read

    def _some(self, pictures: Sequence[NDArray[np.uint8]], wide: int) -> list[tuple[str, float]]:
        chances = self._session(inputs.lines(pictures, wide))
        best = chances.argmax(axis=2)
        highest = np.take_along_axis(chances, best[:, :, np.newaxis], axis=2)[:, :, 0]
        texts, _ = self._decode(best, highest, remove_duplicate=True)
        return [(str(text), float(score)) for text, score in texts]


def width(picture: NDArray[np.uint8]) -> int:
    """Return the width in which a picture of a line is given to the model."""
    high, wide = picture.shape[:2]
    return max(LEAST, STEP * ceil(inputs.HIGH * (int(wide) / int(high)) / STEP))
