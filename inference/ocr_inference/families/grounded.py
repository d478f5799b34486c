"""DeepSeek-OCR's way to ask and to answer, the same in both versions: official prompts, tags with places."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from ocr_inference.families import tags
from ocr_inference.families.marks import without
from ocr_inference.families.page import Answer, Page
from ocr_inference.families.tags import Block
from ocr_inference.protocol.page import Box, PlacedText
from ocr_wire.tasks import Task

IMAGE_MARK: Final = "<image>"
IMAGE_TOKEN_ID: Final = 128815
GROUNDING: Final = "<|grounding|>"

PROMPTS: Final[Mapping[Task, str]] = {
    Task.DOCUMENT: f"{GROUNDING}Convert the document to markdown.",
    Task.OCR: f"{GROUNDING}OCR this image.",
    Task.FREE: "Free OCR.",
    Task.FIGURE: "Parse the figure.",
    Task.DESCRIBE: "Describe this image in detail.",
    Task.FIND: "Locate <|ref|>{term}<|/ref|> in the image.",
}
"""Official prompts, word for word: other words give worse text, and a sentence more breaks it."""

LABELS: Final = frozenset(
    {
        *("title", "sub_title", "text", "table", "table_caption", "table_footnote", "image", "image_caption"),
        *(
            "figure",
            "figure_title",
            "chart",
            "equation",
            "equation_number",
            "formula",
            "list",
            "header",
            "footer",
        ),
        *("page_number", "footnote", "reference", "code", "seal", "caption"),
    }
)
"""Labels of a page's parts; anything else between `<|ref|>` tags is a text on the page."""

_PICTURES: Final = frozenset({"image", "figure", "chart", "seal"})
_SPECIAL = re.compile(r"<\|[^|<>]{1,40}\|>|<image>|<｜[^｜<>]{1,40}｜>")
_PICTURE = re.compile(re.escape(IMAGE_MARK))
_BLANK_LINES = re.compile(r"\n[ \t]*+(?:\n[ \t]*+)++")
_SPELLINGS: Final = (("\\coloneqq", ":="), ("\\eqqcolon", "=:"))


def prompt(task: Task, find_term: str | None, custom: str | None, *, grounding: bool) -> str:
    """Return what follows the picture. The caller puts the picture itself first."""
    if task is Task.FREEFORM:
        # A person's own prompt may use the tags; a second picture's place would find no picture.
        words = without(_PICTURE, custom or "").removeprefix("\n")
    else:
        # In a term, tags would be instructions.
        words = PROMPTS[task].format(term=without(_SPECIAL, find_term or "").strip())
    if grounding and GROUNDING not in words and task is not Task.FIND:
        words = GROUNDING + words
    return "\n" + words


def read(task: Task, _term: str | None, page: Page) -> Answer:
    """Return Markdown for `document` (tables stay HTML), what was located for `find`, else the text without tags."""
    reading = tags.parse(page.text)
    blocks = reading.blocks
    boxes = tuple(
        Box(block.label, tags.pixels(quad, page.width, page.height))
        for block in blocks
        for quad in block.places
    )
    if task is Task.FIND:
        return "\n".join(dict.fromkeys(block.label for block in blocks if block.places)), boxes
    parts = [reading.before, *(_text(task, block, page) for block in blocks)]
    return _joined(parts, "\n" if task is Task.OCR else "\n\n"), boxes


def lines(task: Task, page: Page) -> tuple[PlacedText, ...]:
    """Return the parts of a page that have a place and a text, in the order in which they were written."""
    found = []
    for block in tags.parse(page.text).blocks:
        words = block.text.strip("\n ")
        if task is Task.OCR or block.label not in LABELS:
            words = f"{block.label}\n{words}".strip("\n ")
        # The text follows its first place; a term that was looked for is at each of them.
        for quad in block.places if task is Task.FIND else block.places[:1]:
            x1, y1, x2, y2 = tags.pixels(quad, page.width, page.height)
            if words:
                found.append(PlacedText(words, ((x1, y1), (x2, y1), (x2, y2), (x1, y2))))
    return tuple(found)


def _text(task: Task, block: Block, page: Page) -> str:
    words = block.text.strip("\n ")
    if task is not Task.OCR and block.label in LABELS:
        if task is Task.DOCUMENT and block.label in _PICTURES and block.places:
            x1, y1, x2, y2 = tags.pixels(block.places[0], page.width, page.height)
            return f"![{block.label}](#xywh={x1},{y1},{x2 - x1},{y2 - y1})\n{words}"
        return words
    return f"{block.label}\n{words}"


def _joined(parts: Iterable[str], gap: str) -> str:
    text = gap.join(part for part in (part.strip("\n ") for part in parts) if part)
    for spelling, plain in _SPELLINGS:
        text = text.replace(spelling, plain)
    return _BLANK_LINES.sub("\n\n", text)
