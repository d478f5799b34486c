"""Model families: tasks that their models can do, and how their answers become text, Markdown and boxes.

A family is data and pure functions. It knows neither engines nor HTTP. `of` returns what an engine's models can do
before any of them is loaded; a page that was read names its family itself.

- `plain`: engines that find lines of text.
- `grounded`, `deepseek_ocr`, `deepseek_ocr2`: DeepSeek-OCR, both versions.
- `chat`: models with a chat template.
- `tags`, `marks`: marks in answers and in prompts.
- `loops`: the loop guard.
- `tiling`: a page as square views.
- `page`: what an engine found on a page.
- `page_size`: the size at which a page is read where memory is short.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from ocr_inference.families import chat, deepseek_ocr, deepseek_ocr2, grounded, plain
from ocr_inference.families.page import Page, Read
from ocr_inference.protocol.page import Box, PlacedText
from ocr_wire import engines
from ocr_wire.tasks import Task


@dataclass(frozen=True)
class Family:
    name: str
    tasks: tuple[Task, ...]
    """Tasks that it can do; all others are refused before a model is woken."""
    read: Read
    writes: bool
    """Whether its models write text, so that prompts, `max_tokens` and streaming have an effect."""
    resolutions: tuple[str, ...] = ()
    """Page sizes that can be requested; none where a model decides by itself."""
    placed: Callable[[Task, str | None, Page], tuple[str, tuple[Box, ...], str]] | None = None
    """(task, find_term, page) → answer, and the same text with places in tags; None where models write those."""
    lines: Callable[[Task, Page], tuple[PlacedText, ...]] = lambda _task, _page: ()
    """(task, page) → texts with their places, whatever was asked for; none where a model names no places."""


class Named(Page, Protocol):
    @property
    def family(self) -> str:
        """Family of the model that read the page; empty where its engine has only one."""


PLAIN = Family(
    "plain",
    plain.TASKS,
    lambda task, term, page: plain.read(task, term, page.lines),
    writes=False,
    placed=plain.placed,
    lines=plain.lines,
)
DEEPSEEK_OCR = Family(
    "deepseek_ocr",
    tuple(Task),
    grounded.read,
    writes=True,
    resolutions=tuple(deepseek_ocr.RESOLUTIONS),
    lines=grounded.lines,
)
DEEPSEEK_OCR2 = Family(
    "deepseek_ocr2",
    tuple(Task),
    grounded.read,
    writes=True,
    resolutions=tuple(deepseek_ocr2.RESOLUTIONS),
    lines=grounded.lines,
)
CHAT = Family("chat", tuple(Task), chat.read, writes=True)

FAMILIES: Final[Mapping[str, Family]] = {
    family.name: family for family in (PLAIN, DEEPSEEK_OCR, DEEPSEEK_OCR2, CHAT)
}


def of(engine: str) -> Family:
    """Return the family of an engine's models, as far as the engine alone decides it."""
    return FAMILIES[engines.BY_NAME[engine].family]


def of_page(engine: str, page: Named) -> Family:
    """Return the family whose way of answering a page is."""
    return FAMILIES[page.family] if page.family else of(engine)
