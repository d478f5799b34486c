"""Where a page has lines of text.

rapidocr scales a page so that its shorter side has at least 736 pixels, which makes a picture of 54 million of a strip
of 2000 x 20, and finds nothing where one line stands on an empty page. So pages come to it in pieces of a proper size.
"""

from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ocr_inference.engines.rapidocr import inputs
from ocr_inference.engines.rapidocr.ink import Ink
from ocr_inference.layout import pieces
from ocr_inference.layout.pieces import Found, Rect
from ocr_inference.layout.quads import Quad

SIDE: Final = 2000
"""Most pixels of a side on which text is looked for; larger pages are scaled down or cut."""
MARGIN: Final = 32
"""Pixels around ink, and of ground around a piece: text at the very edge is found worse."""
STEP: Final = 32
"""The model takes sides that are multiples of it."""
CANDIDATES: Final = 8000
"""Most lines of a page; rapidocr's 1000 loses the upper part of a dense one."""


class Detection:
    def __init__(self, detector: Any) -> None:
        detector.postprocess_op.max_candidates = CANDIDATES
        self._detector = detector

    def lines(self, page: Image.Image, ink: Ink) -> list[Quad]:
        """Return the places of lines in pixels of the page: corners clockwise, in no order."""
        if ink.blank:
            return []
        areas = pieces.cut(ink.bounds(page.size, MARGIN), SIDE)
        found = pieces.stitched([Found(area, self._in(page, area)) for area in areas])
        # A line alone on a ground that isn't even is sometimes found only where it is smaller.
        return found or [quad for area in areas for quad in self._in(page, area, smaller=2)]

    def overlooked(self, page: Image.Image, ink: Ink, lines: list[Quad]) -> list[Quad]:
        """Look again where ink lies outside of the lines, each area by itself, and return what is found there."""
        if ink.blank:
            return []
        found = [quad for area in ink.unread(page.size, lines) for quad in self._in(page, area)]
        return pieces.distinct(found, lines)

    def _in(self, page: Image.Image, area: Rect, *, smaller: int = 1) -> tuple[Quad, ...]:
        piece = page.crop(area)
        scale = pieces.scale(piece.size, SIDE) / smaller
        if scale != 1:
            size = (max(1, round(piece.width * scale)), max(1, round(piece.height * scale)))
            piece = piece.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)
        # OpenCV's order of colours is blue, green, red.
        boxes = self._boxes(_framed(np.asarray(piece)[:, :, ::-1]))
        if not len(boxes):
            return ()
        places = (boxes.astype(float) - MARGIN) / scale + np.array(area[:2], float)
        places = np.clip(places, (0, 0), page.size)
        return tuple(tuple((float(x), float(y)) for x, y in quad) for quad in places)  # type: ignore[misc]

    def _boxes(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return corners of what looks like text in a picture of proper sides: N x 4 x 2 in its pixels."""
        # Sizes are decided here; the detector itself would scale small pieces up.
        likely = self._detector.session(inputs.page(pixels))
        boxes, _ = self._detector.postprocess_op(likely, pixels.shape[:2])
        found: NDArray[np.float32] = self._detector.sorted_boxes(boxes)
        return found


def _framed(pixels: Any) -> Any:
    """Return a piece with a frame of its own ground, in sides that the model takes as they are."""
    height, width = pixels.shape[:2]
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    ground = tuple(int(level) for level in np.median(edge, axis=0))
    right = -(width + 2 * MARGIN) % STEP + MARGIN
    bottom = -(height + 2 * MARGIN) % STEP + MARGIN
    return cv2.copyMakeBorder(pixels, MARGIN, bottom, MARGIN, right, cv2.BORDER_CONSTANT, value=ground)
