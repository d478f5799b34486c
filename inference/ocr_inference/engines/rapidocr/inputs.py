"""Pictures as the models take them: planes of numbers from -1 to 1, equal bit by bit to what rapidocr makes of them.

rapidocr computes each pixel by itself, for detection with 8 bytes for each of its colours. A pixel has one of 256
levels, so here they are looked up.
"""

from collections.abc import Sequence
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

Levels = NDArray[np.float32]
"""What the model takes for each of the 256 levels of a pixel."""

HIGH: Final = 48
"""Pixels of a line's height as recognition takes it."""
_HALF: Final = np.float32(0.5)


def _of_detection() -> Levels:
    scaled = np.arange(256, dtype=np.float32) * (1 / 255.0)
    return ((scaled - np.float64(0.5)) / np.float64(0.5)).astype(np.float32)


def _of_recognition() -> Levels:
    return ((np.arange(256, dtype=np.float32) / 255 - _HALF) / _HALF).astype(np.float32)


DETECTION: Final = _of_detection()
RECOGNITION: Final = _of_recognition()


def page(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return a picture of H x W x 3 as detection takes it: 1 x 3 x H x W."""
    height, width = pixels.shape[:2]
    planes = np.empty((1, 3, height, width), np.float32)
    _look_up(pixels, DETECTION, planes[0])
    return planes


def lines(pictures: Sequence[NDArray[np.uint8]], width: int) -> NDArray[np.float32]:
    """Return pictures of H x W x 3 as recognition takes them together, N x 3 x 48 x `width`: scaled to that height,
    zeros at the right of those that are less wide then."""
    planes = np.zeros((len(pictures), 3, HIGH, width), np.float32)
    for picture, into in zip(pictures, planes, strict=True):
        high, wide = picture.shape[:2]
        scaled = cv2.resize(picture, (min(width, int(np.ceil(HIGH * (wide / float(high))))), HIGH))
        _look_up(scaled, RECOGNITION, into)
    return planes


def _look_up(pixels: Any, levels: Levels, planes: NDArray[np.float32]) -> None:
    wide = pixels.shape[1]
    for plane, colour in zip(planes, cv2.split(pixels), strict=True):
        plane[:, :wide] = cv2.LUT(colour, levels)
