"""Tags with which DeepSeek-OCR marks places: `<|ref|>label<|/ref|><|det|>[[x1, y1, x2, y2], …]<|/det|>`.

What a model writes depends on the page, so on its author: nothing is evaluated, everything is bounded, and the time is
linear in the text's length whatever it holds.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ocr_inference.families.marks import without
from ocr_inference.protocol.page import Box

Quad = tuple[int, int, int, int]
"""x1, y1, x2, y2 on the scale of the model's coordinates."""

SCALE = 999
"""Coordinates go from 0 to this, whatever the page's size; some models write 1000 for the far edge."""
MAX_BOXES = 5000
MAX_LABEL = 500
MAX_PLACES = 20_000
"""Characters between `<|det|>` and `<|/det|>`."""

_TAG = re.compile(r"<\|(/?ref|/?det|grounding)\|>")
_NUMBER = r"\s*+\d{1,4}+\s*+"
_QUAD = rf"\s*+\[{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\]\s*+"
_PLACES = re.compile(rf"\s*+\[{_QUAD}(?:,{_QUAD})*+\]\s*+", re.ASCII)
_NUMBERS = re.compile(r"\d+", re.ASCII)
_UNFINISHED = re.compile(r"\s*+\[[\d\[\],\s]*+", re.ASCII)
"""What is left of places where a page ended in the middle of them."""
_CONTROLS = re.compile(
    r"\x1b\[[0-?]*+[ -/]*+[@-~]?"  # what terminals obey: colours, the cursor
    r"|\x1b\][^\x07\x1b]{0,1000}+(?:\x07|\x1b\\)?"  # titles, links
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]"  # the rest, and marks of direction
)


@dataclass(frozen=True)
class Block:
    """A labelled place and the text that follows it."""

    label: str
    places: tuple[Quad, ...]
    """Within 0 to `SCALE`, corners in order."""
    text: str


@dataclass(frozen=True)
class Reading:
    before: str
    """Text ahead of the first block: all of it where the model named no places."""
    blocks: tuple[Block, ...]


def parse(text: str) -> Reading:
    """Parse blocks in the order in which they were written. Tags that don't pair up are left out, the text around them
    stays."""
    parts = _TAG.split(text)  # text, tag, text, tag, …, text
    heads: list[tuple[str, tuple[Quad, ...]]] = []
    texts: list[list[str]] = [[parts[0]]]
    boxes, at = 0, 1
    while at < len(parts):
        match parts[at : at + 8]:
            case ["ref", label, "/ref", gap, "det", places, "/det", words] if not gap.strip():
                found = quads(places)[: MAX_BOXES - boxes]
                boxes += len(found)
                heads.append((" ".join(clean(label[:MAX_LABEL]).split()), found))
                texts.append([words])
                at += 8
            case ["det", places, "/det", words, *_]:
                texts[-1].append(words)
                at += 4
            case [tag, words, *_]:
                texts[-1].append("" if tag == "det" and _UNFINISHED.fullmatch(words) else words)
                at += 2
    first, *rest = (clean("".join(words)) for words in texts)
    return Reading(first, tuple(Block(*head, words) for head, words in zip(heads, rest, strict=True)))


def quads(text: str) -> tuple[Quad, ...]:
    """Parse `[[x1, y1, x2, y2], …]`; all or nothing, except that places with numbers beyond the scale are left out."""
    if len(text) > MAX_PLACES or not _PLACES.fullmatch(text):
        return ()
    numbers = [int(number) for number in _NUMBERS.findall(text)]
    found = zip(*(numbers[offset::4] for offset in range(4)), strict=True)
    return tuple(_ordered(quad) for quad in found if max(quad) <= SCALE + 1)


def written(parts: Iterable[tuple[Box, str]], width: int, height: int, gap: str) -> str:
    """Write labelled places of a page, each with the text that follows it, as the models do; `gap` is between them.

    What stands on the page is no tag, whatever it looks like.
    """
    return gap.join(
        f"<|ref|>{without(_TAG, box.label)[:MAX_LABEL]}<|/ref|><|det|>[{list(_scaled(box.box, width, height))}]<|/det|>"
        + (f"\n{without(_TAG, text)}" if text else "")
        for box, text in parts
    )


def _scaled(place: Quad, width: int, height: int) -> Quad:
    x1, y1, x2, y2 = (
        min(SCALE, max(0, round(value * SCALE / max(1, side))))
        for value, side in zip(place, (width, height, width, height), strict=True)
    )
    return x1, y1, x2, y2


def _ordered(quad: Quad) -> Quad:
    x1, y1, x2, y2 = (min(value, SCALE) for value in quad)
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def pixels(quad: Quad, width: int, height: int) -> Quad:
    """Convert a place to pixels of the original page: padding and tiles don't matter to the scale."""
    x1, y1, x2, y2 = quad
    return (
        round(x1 * width / SCALE),
        round(y1 * height / SCALE),
        round(x2 * width / SCALE),
        round(y2 * height / SCALE),
    )


def clean(text: str) -> str:
    """Remove characters that terminals or browsers act upon; line breaks and tabs stay."""
    return _CONTROLS.sub("", text.replace("\r\n", "\n"))
