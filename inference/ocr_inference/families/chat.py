"""Models that are asked in a chat: every image-to-text model whose processor has a chat template.

Models made for reading know a few short prompts, and text comes worse with any others; the rest are asked in plain
words. None of them says where things are.
"""

from collections.abc import Mapping
from typing import Final

from ocr_inference.families import tags
from ocr_inference.families.loops import LoopGuard
from ocr_inference.families.page import Answer, Page
from ocr_inference.schema import Task

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
    "got_ocr2": {
        Task.DOCUMENT: "OCR with format: ",
        Task.OCR: "OCR: ",
        Task.FREE: "OCR: ",
        Task.FIND: "OCR: ",
        Task.FIGURE: "OCR with format: ",
        Task.DESCRIBE: "OCR: ",
    },
}
"""By `model_type`: the prompts that models were trained with. An empty one: the picture alone."""


def prompt(model_type: str, task: Task, custom: str | None) -> str:
    """The text beside the picture."""
    if task is Task.FREEFORM:
        return custom or ""
    return OWN.get(model_type, {}).get(task, GENERAL[task])


def read(task: Task, find_term: str | None, page: Page) -> Answer:
    """The text as it was written; for `find` the lines that hold the term, whatever its case and spacing."""
    text = tags.clean(page.text).strip()
    if task is not Task.FIND:
        return text, ()
    wanted = "".join((find_term or "").casefold().split())
    lines = (line for line in text.splitlines() if wanted and wanted in "".join(line.casefold().split()))
    return "\n".join(lines), ()
