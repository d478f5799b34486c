"""Models that are prompted by a chat: every image-to-text model whose processor has a chat template.

Models made for reading know a few short prompts, and text comes worse with any other; all other models get prompts in
plain words. None of them returns places.
"""

import re
from collections.abc import Mapping
from typing import Final

from ocr_inference.families import tags
from ocr_inference.families.loops import LoopGuard
from ocr_inference.families.marks import without
from ocr_inference.families.page import Answer, Page
from ocr_wire.tasks import Task

GUARD: Final = LoopGuard(ngram=35, window=128)
"""The numbers of Unlimited-OCR, wide enough to let tables and forms repeat themselves a little."""

_READ: Final = "Read all text in this image, word for word, in reading order. Write nothing else."
GENERAL: Final[Mapping[Task, str]] = {
    Task.DOCUMENT: (
        "Convert this page to Markdown: all of its text in reading order, tables as HTML, formulas as LaTeX. "
        "Write nothing else."
    ),
    Task.OCR: _READ,
    Task.FREE: _READ,
    Task.FIGURE: "Say what this figure shows: its title, axes, legend and values, as a table where it has data.",
    Task.DESCRIBE: "Describe this image in detail.",
    Task.FIND: _READ,  # what was read is searched afterwards: models asked to search make things up
}

GOT_OCR2: Final = "got_ocr2"
_GOT_MARKS = re.compile(r"<\|\w{1,40}\|>|<imgpad>|</?img>")
CELL_TAGS: Final = ("<td>", "</td>")

_GLM = "Text Recognition:"
_PADDLE = "OCR:"
OWN: Final[Mapping[str, Mapping[Task, str]]] = {
    "glm_ocr": {Task.DOCUMENT: _GLM, Task.OCR: _GLM, Task.FREE: _GLM, Task.FIND: _GLM},
    "paddleocr_vl": {
        Task.DOCUMENT: _PADDLE,
        Task.OCR: _PADDLE,
        Task.FREE: _PADDLE,
        Task.FIND: _PADDLE,
        Task.FIGURE: "Chart Recognition:",
    },
    "lighton_ocr": dict.fromkeys((Task.DOCUMENT, Task.OCR, Task.FREE, Task.FIND), ""),
    GOT_OCR2: {
        **dict.fromkeys((Task.DOCUMENT, Task.FIGURE), " OCR with format: "),
        **dict.fromkeys((Task.OCR, Task.FREE, Task.FIND, Task.DESCRIBE), " OCR: "),
    },
}
"""Prompts that models were trained with, by `model_type`. An empty one: the picture alone."""


def prompt(model_type: str, task: Task, custom: str | None) -> str:
    """Return the text beside the picture."""
    if task is Task.FREEFORM:
        return custom or ""
    return OWN.get(model_type, {}).get(task, GENERAL[task])


def got_ocr2_text(words: str) -> str:
    """Return GOT-OCR2's conversation, which its checkpoints have no template for; `<imgpad>` is the picture's place."""
    words = without(_GOT_MARKS, words)
    return (
        "<|im_start|>system\nYou should follow the instructions carefully and explain your answers in detail.<|im_end|>"
        f"<|im_start|>user\n<img><imgpad></img>\n{words}<|im_end|><|im_start|>assistant\n"
    )


def read(task: Task, find_term: str | None, page: Page) -> Answer:
    """Return the text as it was written; for `find` the lines that hold the term, whatever its case and spacing."""
    text = tags.clean(page.text).strip()
    if task is not Task.FIND:
        return text, ()
    wanted = "".join((find_term or "").casefold().split())
    lines = (line for line in text.splitlines() if wanted and wanted in "".join(line.casefold().split()))
    return "\n".join(lines), ()
