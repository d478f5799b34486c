"""Requests of the HTTP API, parsed strictly from form fields, and its answers as types."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec import UNSET, Struct, UnsetType

from ocr_inference.api.openapi.operations import Field
from ocr_inference.documents.page import DPI, MAX_DPI, MIN_DPI
from ocr_inference.documents.selection import ALL, MAX_CHARACTERS, Selection
from ocr_inference.errors import ApiError
from ocr_inference.protocol.page import Box, PlacedText
from ocr_wire import numbers
from ocr_wire.errors import ErrorInfo
from ocr_wire.tasks import INFO, RESOLUTIONS, WORDS, Task

MAX_TERM = 200
MAX_PROMPT = 16_000
MAX_TOKENS = 65_536
MAX_NAME = 200

FIELDS: Final[Mapping[str, Field]] = {
    "prompt_type": Field({"enum": WORDS, "default": Task.DOCUMENT}, "the task"),
    "find_term": Field({"type": "string", "maxLength": MAX_TERM}, "what to look for; `find` needs it"),
    "custom_prompt": Field(
        {"type": "string", "maxLength": MAX_PROMPT}, "your own prompt; `freeform` needs it"
    ),
    "grounding": Field(
        {"type": "boolean", "default": False}, "boxes also for tasks that have none of their own"
    ),
    "resolution": Field({"enum": RESOLUTIONS}, "the page size of DeepSeek-OCR"),
    "max_tokens": Field(
        {"type": "integer", "minimum": 1, "maximum": MAX_TOKENS}, "bound of a language model's answer"
    ),
    "loop_guard": Field({"type": "boolean", "default": True}, "a language model's guard against repetition"),
    "model": Field({"type": "string", "maxLength": MAX_NAME}, "one of `GET /v1/models`; else the first one"),
    "pages": Field({"type": "string", "maxLength": MAX_CHARACTERS}, "pages of a document: `1-3,7` or `5-`"),
    "dpi": Field(
        {"type": "number", "minimum": MIN_DPI, "maximum": MAX_DPI, "default": DPI},
        "pixels per inch at which pages of a PDF are drawn",
    ),
}
"""Form fields of `POST /ocr` besides the file."""


@dataclass(frozen=True)
class OcrRequest:
    """Fields of `POST /ocr`, without the picture."""

    task: Task = Task.DOCUMENT
    find_term: str | None = None
    custom_prompt: str | None = None
    grounding: bool = False
    resolution: str | None = None
    max_tokens: int | None = None
    loop_guard: bool = True
    model: str | None = None
    """None: the default model."""
    pages: Selection = ALL
    """Of a document."""
    dpi: float = DPI
    """At which pages of a PDF are drawn."""
    ignored: tuple[str, ...] = ()
    """Fields that were sent and have no effect. They are named in the answer's metadata, not refused: clients of
    compatible servers send fields of theirs."""
    sent_as: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of comparable servers' fields by which a field of this one was sent."""
    wants_output_file: bool = False
    """Whether the client reads `output_file`, as those of the low-VRAM server do."""

    def names(self, name: str) -> tuple[str, ...]:
        """Return the names by which a field was sent."""
        return self.sent_as.get(name, (name,))


def parse_ocr(fields: Mapping[str, str]) -> OcrRequest:
    """Parse form fields; raises 422 that names the field. Empty ones count as absent: browsers send them."""
    given = {name: value.strip() for name, value in fields.items() if value.strip()}
    asked = task(given.get("prompt_type", Task.DOCUMENT), "prompt_type")
    find_term = _text(given, "find_term", MAX_TERM)
    custom_prompt = _text(given, "custom_prompt", MAX_PROMPT)
    needs = INFO[asked].needs
    if needs is not None and needs not in given:
        raise _invalid(f"prompt_type {asked.value!r} needs {needs}", needs)
    return OcrRequest(
        task=asked,
        find_term=find_term,
        custom_prompt=custom_prompt,
        grounding=_flag(given, "grounding", default=False),
        resolution=resolution(given.get("resolution"), "resolution"),
        max_tokens=_count(given, "max_tokens", MAX_TOKENS),
        loop_guard=_flag(given, "loop_guard", default=True),
        model=_text(given, "model", MAX_NAME),
        pages=Selection.parse(given["pages"]) if "pages" in given else ALL,
        dpi=_dpi(given),
        ignored=tuple(sorted(name[:64] for name in fields if name not in FIELDS)),
    )


def _invalid(message: str, param: str) -> ApiError:
    return ApiError(422, "invalid_value", message, param=param)


def task(word: str, param: str, *others: str) -> Task:
    """Return the task of that name; raises 422 that names the nearest one and `param`. `others` are known, too."""
    try:
        return Task(word)
    except ValueError:
        known = (*WORDS, *others)
        close = difflib.get_close_matches(word, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        raise ApiError(
            422,
            "unknown_task",
            f"no task {word[:40]!r}{hint} There are {', '.join(known)}.",
            param=param,
        ) from None


def meant(find_term: str | None, prompt: str | None, param: str) -> Task:
    """Return the task that a term or a prompt means where none is named; raises 422 where both are there."""
    find, freeform = ((text or "").strip() for text in (find_term, prompt))
    if find and freeform:
        raise _invalid(f"a term and a prompt are of two tasks: say by {param} which one is meant", param)
    return Task.FIND if find else Task.FREEFORM if freeform else Task.DOCUMENT


def resolution(word: str | None, param: str) -> str | None:
    """Return the resolution; raises 422 that lists the known ones."""
    if word is not None and word not in RESOLUTIONS:
        raise _invalid(f"no resolution {word[:40]!r}; there are {', '.join(RESOLUTIONS)}", param)
    return word


def _text(given: Mapping[str, str], name: str, longest: int) -> str | None:
    value = given.get(name)
    if value is not None and len(value) > longest:
        raise _invalid(f"{name} has {len(value)} characters; {longest} are allowed", name)
    return value


FLAGS = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}
"""What a form says for yes and no, in lower case."""


def _flag(given: Mapping[str, str], name: str, *, default: bool) -> bool:
    value = given.get(name)
    if value is None:
        return default
    if value.lower() not in FLAGS:
        raise _invalid(f"{name} is true or false; got {value[:40]!r}", name)
    return FLAGS[value.lower()]


def _count(given: Mapping[str, str], name: str, most: int) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    count = numbers.whole(value, 1, most)
    if count is None:
        raise _invalid(f"{name} is a whole number from 1 to {most}; got {value[:40]!r}", name)
    return count


def _dpi(given: Mapping[str, str]) -> float:
    if (text := given.get("dpi")) is None:
        return DPI
    dpi = numbers.decimal(text, MIN_DPI, MAX_DPI)
    if dpi is None:
        raise _invalid(f"dpi is a number from {MIN_DPI} to {MAX_DPI}; got {text[:40]!r}", "dpi")
    return dpi


# --- answers --------------------------------------------------------------------------------------------------


class Dimensions(Struct, frozen=True):
    w: int
    h: int


class OcrAnswer(Struct, frozen=True, kw_only=True):
    success: bool = True
    text: str
    """Markdown for `document`, the matches for `find`, else plain text."""
    raw_text: str
    """The engine's raw answer."""
    boxes: tuple[Box, ...]
    image_dims: Dimensions
    prompt_type: Task
    metadata: dict[str, Any]
    message: str | UnsetType = UNSET
    """For clients of the low-VRAM server, as the next one."""
    output_file: UnsetType | None = UNSET
    """File with the text; this server keeps none."""
    lines: tuple[PlacedText, ...] | UnsetType = UNSET
    """Texts with their places, of pages of jobs."""


class PageAnswer(Struct, frozen=True, kw_only=True):
    """Page of a document: what `OcrAnswer` has of it, or its error."""

    index: int
    """From 0, in the document."""
    text: str = ""
    raw_text: str = ""
    boxes: tuple[Box, ...] = ()
    image_dims: Dimensions | None = None
    dpi: float | None = None
    """Pixels per inch at which it was drawn; null of pictures."""
    lines: tuple[PlacedText, ...] | UnsetType = UNSET
    """Texts with their places, of pages of jobs: lines where the engine finds them, else the parts that a model marked;
    none where it marks none."""
    metadata: dict[str, Any] = {}
    error: ErrorInfo | None = None
    """Why it couldn't be read; null where it was."""


class DocumentAnswer(OcrAnswer, frozen=True, kw_only=True):
    """Answer of a document: the whole, then each page. The whole has the dimensions of the first page that was read,
    and boxes only where it is the only one."""

    page_count: int
    """Pages that the document has, also those that weren't requested."""
    pages: tuple[PageAnswer, ...]
    """Pages that were requested."""
    errors: tuple[str, ...]
    """What is missing in the text, in words."""
