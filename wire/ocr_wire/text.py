"""Strings and numbers from outside: their bounds, and how they are made fit for a message or a status."""

from datetime import datetime
from functools import lru_cache
from typing import Annotated, Final

import msgspec

from ocr_wire.redaction import redact

MAX_MESSAGE: Final = 512
"""Characters of a text for people that go into a status."""
MAX_SHOWN: Final = 80
"""Characters of a wrong value that a message repeats."""


@lru_cache(maxsize=1024)
def once(text: str) -> str:
    """Return a text as it was seen before, so that one that many say is in memory once. Only some are remembered: it
    may come from a hostile pod, and what `sys.intern` takes stays for ever in some versions of Python.
    """
    return text


def whole(pattern: str) -> str:
    r"""Return a pattern as Python has to write it so that it matches nothing but the whole text.

    The definitions of resources end theirs with `$`, which there is the end of the text. In Python it also matches
    before a last newline, so `"m\n"` would pass.
    """
    return rf"{pattern[:-1]}\Z" if pattern.endswith("$") else pattern


PRINTABLE: Final = whole(r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$")
MODEL_PATTERN: Final = r"^[a-z0-9]([-._a-z0-9]*[a-z0-9])?$"
"""Of a model's name, as the resource's definition has it."""

# The bounds are those of the status, so that no answer makes a status that the API server refuses.
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=253, pattern=PRINTABLE)]
ModelName = Annotated[str, msgspec.Meta(min_length=1, max_length=63, pattern=whole(MODEL_PATTERN))]
"""Of a model in a configuration."""
ShownModel = Annotated[str, msgspec.Meta(min_length=1, max_length=63, pattern=PRINTABLE)]
"""Of a model that another program reports."""
Label = Annotated[str, msgspec.Meta(min_length=1, max_length=128, pattern=PRINTABLE)]
Text = Annotated[str, msgspec.Meta(max_length=65_536)]
"""For people; cleaned and cut by the reader, never refused for what is in it."""
Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Counter = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Time = Annotated[datetime, msgspec.Meta(tz=True)]


def clean(text: str, limit: int = MAX_MESSAGE) -> str:
    """Return one printable line of at most `limit` characters: control characters become blanks.

    Secrets are taken out before it is cut: half of one has no shape.
    """
    line = redact(text)[: limit * 4]
    if not line.isprintable():  # as nearly all are
        line = "".join(char if char.isprintable() else " " for char in line)
    line = " ".join(line.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def shown(text: str) -> str:
    """Return the start of a text from outside, printable enough to be repeated in a message."""
    return "".join(char if char.isprintable() else "?" for char in redact(text)[:MAX_SHOWN])
