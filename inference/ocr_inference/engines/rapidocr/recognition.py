"""What lines of text say, and which way they run.

Upright and upside down look alike to detection, and rapidocr asks its classifier line by line, which errs in one of
fifteen. Lines of a page run one way, so the longest ones vote, and only a line that reads badly is tried another way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ocr_inference.engines.rapidocr.texts import Texts
from ocr_inference.layout import quads
from ocr_inference.layout.quads import Placed, Quad

VOTERS: Final = 12
"""Lines, the longest first, whose direction is asked for."""
SURE: Final = 0.88
"""Confidence from which a line is right; what is upside down has 0.6 to 0.8."""
LEAST: Final = 0.5
"""Confidence below which nothing was read, as for rapidocr."""
LEAST_AGAIN: Final = 0.8
"""The same for what was only found when ink was looked at again: logos and stains have 0.5 to 0.7."""
HIGH: Final = 96
"""Pixels of a line's height that recognition, which works on 48, can make use of."""


@dataclass(frozen=True, slots=True)
class Text:
    text: str
    score: float
    quad: Quad
    """Corners clockwise from the text's top left."""


class Recognition:
    def __init__(self, classifier: Any, recognizer: Any) -> None:
        self._classifier, self._texts = classifier, Texts(recognizer)

    def read(self, page: Image.Image, places: Sequence[Quad], *, again: int = 0) -> list[Text]:
        """Read lines; the last `again` of them were overlooked at first. Those that can't be read are left out."""
        if not places:
            return []
        pixels = np.asarray(page)
        laid = quads.laid(places)
        ways = self._ways(pixels, laid)
        best = self._recognized(
            pixels, [quads.turned(each.quad, way) for each, way in zip(laid, ways, strict=True)]
        )
        others = [
            (at, quads.turned(each.quad, ways[at] + turn))
            for at, each in enumerate(laid)
            if best[at].score < SURE
            for turn in ((2, 1, 3) if each.short else (2,))
        ]
        for (at, _), text in zip(others, self._recognized(pixels, [quad for _, quad in others]), strict=True):
            if text.score > best[at].score:
                best[at] = text
        first_again = len(places) - again
        least = [LEAST if at < first_again else LEAST_AGAIN for at in range(len(places))]
        return [
            text for text, limit in zip(best, least, strict=True) if text.text.strip() and text.score >= limit
        ]

    def _ways(self, pixels: NDArray[np.uint8], laid: Sequence[Placed]) -> list[int]:
        """Return for each line by how many quarters it runs otherwise than it was laid, 0 or 2, by a vote."""
        turned = {across: self._upside_down(pixels, laid, across=across) for across in (False, True)}
        return [2 if turned[each.across] else 0 for each in laid]

    def _upside_down(self, pixels: NDArray[np.uint8], laid: Sequence[Placed], *, across: bool) -> bool:
        lines = [each.quad for each in laid if each.across is across and not each.short]
        if not lines:
            lines = [each.quad for each in laid if each.across is across]
        voters = sorted(lines, key=quads.length, reverse=True)[:VOTERS]
        if not voters:
            return False
        answers = self._classifier([_crop(pixels, quad) for quad in voters]).cls_res
        votes = (
            quads.length(quad) * score * (1 if "180" in label else -1)
            for quad, (label, score) in zip(voters, answers, strict=True)
        )
        return bool(sum(votes) > 0)

    def _recognized(self, pixels: NDArray[np.uint8], lines: Sequence[Quad]) -> list[Text]:
        if not lines:
            return []
        read = self._texts.read([_crop(pixels, quad) for quad in lines])
        return [Text(text, score, quad) for (text, score), quad in zip(read, lines, strict=True)]


def _crop(pixels: NDArray[np.uint8], quad: Quad) -> NDArray[np.uint8]:
    """Return a line upright, from the page's own pixels; blue, green, red."""
    length, height = max(1.0, quads.length(quad)), max(1.0, quads.height(quad))
    scale = min(1.0, HIGH / height)
    size = (max(1, round(length * scale)), max(1, round(height * scale)))
    # Only the part of the page that the line lies in, smaller where the line is: warping alone would skip pixels.
    corners = np.array(quad, np.float32)
    left, top = (max(0, int(edge)) for edge in corners.min(axis=0))
    right, bottom = (int(edge) + 2 for edge in corners.max(axis=0))
    part: Any = pixels[top:bottom, left:right]
    shrink = min(1.0, 2 * scale)
    if shrink < 1:
        part = cv2.resize(part, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    corners = (corners - np.array([left, top], np.float32)) * np.float32(shrink)
    upright = np.array([[0, 0], [size[0], 0], [size[0], size[1]], [0, size[1]]], np.float32)
    matrix = cv2.getPerspectiveTransform(corners, upright)
    line = cv2.warpPerspective(part, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(line[:, :, ::-1])
