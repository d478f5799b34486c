"""What a family of models can be asked, and how its answers become text, Markdown and boxes.

A family is data and pure functions. It knows neither engines nor HTTP. `of` says what an engine can be asked before
any of its models is loaded; a page that was read names its family itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from ocr_inference.families import chat, deepseek_ocr, deepseek_ocr2, grounded, plain
from ocr_inference.families.page import Answer, Page, Read
from ocr_inference.protocol.page import Task


@dataclass(frozen=True)
class Family:
    name: str
    tasks: tuple[Task, ...]
    """Those it can do; others are refused before a model is woken."""
    read: Read
    writes: bool
    """Whether its models write text, so that prompts, `max_tokens` and streaming mean something."""
    resolutions: tuple[str, ...] = ()
    """Page sizes that can be asked for; none where a model decides by itself."""


class Named(Page, Protocol):
    @property
    def family(self) -> str:
        """Of the model that read the page; empty where its engine has only one."""


PLAIN = Family(
    "plain", plain.TASKS, lambda task, term, page: plain.read(task, term, page.lines), writes=False
)
DEEPSEEK_OCR = Family(
    "deepseek_ocr", tuple(Task), grounded.read, writes=True, resolutions=tuple(deepseek_ocr.RESOLUTIONS)
)
DEEPSEEK_OCR2 = Family(
    "deepseek_ocr2", tuple(Task), grounded.read, writes=True, resolutions=tuple(deepseek_ocr2.RESOLUTIONS)
)
CHAT = Family("chat", tuple(Task), chat.read, writes=True)

FAMILIES: Final[Mapping[str, Family]] = {
    family.name: family for family in (PLAIN, DEEPSEEK_OCR, DEEPSEEK_OCR2, CHAT)
}

_OF_ENGINE: Final[Mapping[str, Family]] = {
    "rapidocr": PLAIN,
    "fake": PLAIN,
    "transformers": CHAT,  # the family is known when the checkpoint is; each of them can do all tasks
}


def of(engine: str) -> Family:
    """What a model of that engine can be asked, as far as the engine's name tells."""
    return _OF_ENGINE[engine]


def of_page(engine: str, page: Named) -> Family:
    """Whose way of answering a page is."""
    return FAMILIES[page.family] if page.family else of(engine)


def read(engine: str, task: Task, find_term: str | None, page: Named) -> Answer:
    """(text, boxes) of a page, in the way of the family that read it."""
    return of_page(engine, page).read(task, find_term, page)
