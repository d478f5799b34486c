"""Requests of the HTTP API, parsed strictly from form fields, and its answers as types."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import Struct

from ocr_inference.errors import ApiError
from ocr_inference.protocol.page import Box
from ocr_wire.tasks import INFO, RESOLUTIONS, WORDS, Task

FIELDS = (
    *("prompt_type", "find_term", "custom_prompt", "grounding", "resolution"),
    *("max_tokens", "loop_guard", "model"),
)
"""Form fields of `POST /ocr` besides the file."""

MAX_TERM = 200
MAX_PROMPT = 16_000
MAX_TOKENS = 65_536


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
    ignored: tuple[str, ...] = ()
    """Fields that were sent and have no effect. They are named in the answer's metadata, not refused: clients of
    compatible servers send fields of theirs."""


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
        model=_text(given, "model", 200),
        ignored=tuple(sorted(name[:64] for name in fields if name not in FIELDS)),
    )


def _invalid(message: str, param: str) -> ApiError:
    return ApiError(422, "invalid_value", message, param=param)


def task(word: str, param: str) -> Task:
    """Return the task of that name; raises 422 that names the nearest one and `param`."""
    try:
        return Task(word)
    except ValueError:
        close = difflib.get_close_matches(word, WORDS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ApiError(
            422,
            "unknown_task",
            f"no task {word[:40]!r}{hint} There are {', '.join(WORDS)}.",
            param=param,
        ) from None


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
    if not (value.isascii() and value.isdigit() and len(value) <= 9 and 1 <= int(value) <= most):
        raise _invalid(f"{name} is a whole number from 1 to {most}; got {value[:40]!r}", name)
    return int(value)


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
