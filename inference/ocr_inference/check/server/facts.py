"""What a check of a running server found, in the form of its JSON document. Keys are never renamed."""

from typing import Literal

from msgspec import Struct

from ocr_inference.check.facts import Finding

Door = Literal["open", "token", "closed", "unknown"]
"""Whether calls without a token are answered, need one, or are closed to all callers."""


class Model(Struct, frozen=True, kw_only=True):
    name: str
    state: str
    location: str
    failure: str | None = None
    """Why it was last not loaded, or its worker died."""


class Body(Struct, frozen=True, kw_only=True):
    """Answer to the head of a large upload."""

    nbytes: int
    passes: bool | None
    """Null where nothing was answered in time."""
    answer: str | None = None
    by_server: bool = False
    """Whether the server said so; else it was something before it."""


class Page(Struct, frozen=True, kw_only=True):
    """A small page that was read."""

    seconds: float
    problem: str | None = None


class Facts(Struct, frozen=True, kw_only=True):
    url: str
    outside: bool
    """Whether other machines reach it by this URL."""
    problem: str | None = None
    """Why it can't be asked; the rest is unknown then."""
    certificate_days: float | None = None
    """Days until it ends; null without TLS."""
    ready: str | None = None
    """Null where it takes requests; else its words."""
    version: str = ""
    device: str = ""
    product: str | None = None
    models: tuple[Model, ...] = ()
    controls: Door = "unknown"
    reading: Door = "unknown"
    body: Body | None = None
    first_event_seconds: float | None = None
    """Null where the stream of its state didn't begin in time."""
    page: Page | None = None
    """Null unless `--read`."""


class Report(Struct, frozen=True, kw_only=True):
    ok: bool
    """False where there is a `problem`."""
    findings: tuple[Finding, ...]
    facts: Facts
