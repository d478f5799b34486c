"""Fields that clients of comparable servers send to `POST /ocr`, as ours.

Two servers are meant, and `docs/migrating.md` says what else differs: DeepSeek-OCR-WebUI (`mode`, `search_text`) and
the low-VRAM server of DeepSeek-OCR (`prompt`, `base_size`, `image_size`, `crop_mode`, `save_to_file`). What is asked
for is done or refused: a field whose name is nearly one of these is a mistake, since without it another task would be
done than the one that was meant.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from ocr_inference.api import schema
from ocr_inference.api.schema import FIELDS, FLAGS, OcrRequest
from ocr_inference.errors import ApiError
from ocr_wire import numbers
from ocr_wire.tasks import INFO, TASKS, Task
from ocr_wire.text import shown

SIZES: Final = ("base_size", "image_size", "crop_mode")
OTHERS: Final = ("mode", "search_text", "prompt", *SIZES, "save_to_file")
"""Fields of comparable servers."""

MODES: Final[Mapping[str, Task]] = {
    "doc": Task.DOCUMENT,
    "plain": Task.FREE,
    "chart": Task.FIGURE,
    "image": Task.DESCRIBE,
    "custom": Task.FREEFORM,
}
"""Words of `mode` that aren't tasks of ours, by which task they mean."""

PROMPTS: Final[Mapping[str, Task]] = {
    "convert the document to markdown": Task.DOCUMENT,
    "convert document to markdown": Task.DOCUMENT,
    "ocr this image": Task.OCR,
    "free ocr": Task.FREE,
    "free ocr. only output the raw text": Task.FREE,
    "parse the figure": Task.FIGURE,
    "describe this image in detail": Task.DESCRIBE,
}
"""Prompts that DeepSeek-OCR and the servers around it publish, in small letters and without their marks."""

WHOLE_VIEWS: Final = ((512, "tiny"), (640, "small"), (1024, "base"), (1280, "large"))
"""Pixels of the view of a whole page, and the resolution without tiles that has it."""
TILED: Final = (1024, 640)
"""`base_size` and `image_size` of `gundam`, the resolution with tiles."""
MOST_PIXELS: Final = 10_000

_MARKS: Final = re.compile(r"^(?:\s|\\n|<image>)+")
"""Place of the picture in a prompt. A shell passes on `\\n` as it was typed."""
_GROUNDING: Final = "<|grounding|>"
_LOCATE: Final = re.compile(
    r"locate\s+<\|ref\|>(?P<term>.*?)<\|/ref\|>\s+in the image\.?", re.IGNORECASE | re.DOTALL
)

_ASKS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("task", "tasks", "ocrtype", "ocrmode", "type", "prompts"), "prompt_type"),
    **dict.fromkeys(
        ("instruction", "instructions", "question", "userprompt", "systemprompt"), "custom_prompt"
    ),
    **dict.fromkeys(("query", "search", "searchterm", "term", "keyword"), "find_term"),
}
"""Names by which other programs say what they want, without `_`, and the field that says it here."""


def parse_ocr(fields: Mapping[str, str]) -> OcrRequest:
    """Parse form fields, ours and those of comparable servers; raises 422 that names the field as it was sent."""
    given = {name: value.strip() for name, value in fields.items() if value.strip()}
    _refuse_mistaken(given)
    own = _Own({name: value for name, value in given.items() if name not in OTHERS})
    own.translate(given)
    unused = own.choose_task()
    if _flag(given, "save_to_file", default=False):
        unused.append("save_to_file")
    try:
        asked = schema.parse_ocr(own.fields)
    except ApiError as error:
        error.param = own.sent_as.get(error.param or "", (error.param,))[0]
        raise
    return replace(
        asked,
        ignored=tuple(sorted({*asked.ignored, *unused})),
        sent_as=own.sent_as,
        wants_output_file="prompt" in given or "save_to_file" in given,
    )


def _refuse_mistaken(given: Mapping[str, str]) -> None:
    """Raise 422 for a field that isn't known and was meant to say what is to be done."""
    known = {_squeezed(name): name for name in (*FIELDS, *OTHERS)}
    for name in given:
        if name in FIELDS or name in OTHERS:
            continue
        squeezed = _squeezed(name[:64])
        near = difflib.get_close_matches(squeezed, known, n=1, cutoff=0.8)
        meant = known[near[0]] if near else _ASKS.get(squeezed)
        if meant is not None:
            message = f"no field {shown(name)!r} here; did you mean {meant!r}? Without it another thing would be done"
            raise ApiError(422, "unknown_field", message, param=shown(name))


def _squeezed(name: str) -> str:
    return "".join(each for each in name.lower() if each.isalnum())


@dataclass
class _Own:
    """Fields of ours, as far as they are known, none of them empty."""

    fields: dict[str, str]
    sent_as: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Names that a field of ours was sent by, where they aren't its own."""

    def translate(self, given: Mapping[str, str]) -> None:
        """Take over what fields of comparable servers say; raises 422."""
        if (mode := given.get("mode")) is not None:
            self._put("prompt_type", MODES.get(mode) or schema.task(mode, "mode", *MODES), "mode")
        if (term := given.get("search_text")) is not None:
            self._put("find_term", term, "search_text")
        if (prompt := given.get("prompt")) is not None:
            asked, marked = _asked_by(prompt)
            for name, value in asked.items():
                self._put(name, value, "prompt")
            if marked:
                self.fields.setdefault("grounding", "true")
        if sizes := tuple(name for name in SIZES if name in given):
            if (resolution := _resolution(given)) is not None:
                self._put("resolution", resolution, *sizes)
            self.sent_as.setdefault("resolution", sizes)

    def choose_task(self) -> list[str]:
        """Set the task that a term or a prompt means where none is named; returns the names of those that the task has
        no use for. Raises 422 where both are there and no task."""
        needed = {info.needs: info.task for info in TASKS if info.needs in self.fields}
        if "prompt_type" not in self.fields and needed:
            if len(needed) > 1:
                message = (
                    "find_term and custom_prompt are of two tasks: say by prompt_type which one is meant"
                )
                raise ApiError(422, "invalid_value", message, param="prompt_type")
            ((need, task),) = needed.items()
            self.fields["prompt_type"] = task
            self.sent_as["prompt_type"] = self.sent_as.get(str(need), (str(need),))
        chosen = self.fields.get("prompt_type")
        return [self.sent_as.get(name, (name,))[0] for name, each in needed.items() if each != chosen]

    def _put(self, name: str, value: str, *sources: str) -> None:
        """Set a field; raises 422 where something else was said already."""
        before = self.fields.setdefault(name, value)
        if before != value:
            by = self.sent_as.get(name, (name,))[0]
            message = f"{sources[0]} means {name} {shown(value)!r}, and {by} says {shown(before)!r}: send one of them"
            raise ApiError(422, "invalid_value", message, param=sources[0])
        self.sent_as.setdefault(name, sources)


def _asked_by(prompt: str) -> tuple[dict[str, str], bool]:
    """Return the fields that say what a prompt says: of a published one its task, of any other its words; and whether
    it asks for places where its task alone doesn't."""
    words = _MARKS.sub("", prompt)
    plain = _MARKS.sub("", words.replace(_GROUNDING, "", 1)).strip()
    if found := _LOCATE.fullmatch(plain):
        return {"prompt_type": Task.FIND, "find_term": found["term"].strip()}, False
    task = PROMPTS.get(" ".join(plain.lower().removesuffix(".").split()))
    if task is None:
        return {"prompt_type": Task.FREEFORM, "custom_prompt": words}, False
    return {"prompt_type": task}, _GROUNDING in words and not INFO[task].locates


def _resolution(given: Mapping[str, str]) -> str | None:
    """Return the resolution that is nearest to the sizes; None for the model's own choice.

    With tiles, sizes other than those of `gundam` are left to the model, whose own choice has tiles too: naming a
    resolution would keep a page from being read smaller where memory is short.
    """
    base, image = _pixels(given, "base_size"), _pixels(given, "image_size")
    if _flag(given, "crop_mode", default=True):
        return "gundam" if (base or TILED[0], image) == TILED else None
    side = image or base
    return None if side is None else min(WHOLE_VIEWS, key=lambda each: abs(each[0] - side))[1]


def _pixels(given: Mapping[str, str], name: str) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    if (pixels := numbers.whole(value, 1, MOST_PIXELS)) is None:
        message = f"{name} is a whole number of pixels from 1 to {MOST_PIXELS}; got {shown(value)!r}"
        raise ApiError(422, "invalid_value", message, param=name)
    return pixels


def _flag(given: Mapping[str, str], name: str, *, default: bool) -> bool:
    value = given.get(name)
    if value is None:
        return default
    if (found := FLAGS.get(value.lower())) is None:
        raise ApiError(422, "invalid_value", f"{name} is true or false; got {shown(value)!r}", param=name)
    return found
