"""The live override of a resource: what its annotation says, when that ends, and why it isn't used.

One that makes no sense is no reason to stop: it counts as none, and the status says what is wrong with it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from ocr_operator.resources.reading import mapping
from ocr_wire import live_override, names, text
from ocr_wire.checked import Invalid
from ocr_wire.live_override import Place
from ocr_wire.settings import Value

ORIGIN: Final = "override"
"""What a status calls it."""
MAX_REJECTION: Final = 256


@dataclass(frozen=True, slots=True)
class LiveOverride:
    text: str
    """The annotation, as it is."""
    values: Mapping[Place, Value] = field(default_factory=dict)
    until: datetime | None = None
    rejection: str = ""
    """Why it isn't used; empty if it is."""

    @property
    def hash(self) -> str:
        return live_override.digest(self.text)

    def ended(self, now: datetime) -> bool:
        return self.until is not None and self.until <= now

    def active(self, now: datetime) -> bool:
        """Return whether its values count now."""
        return not self.rejection and not self.ended(now)

    def seconds_left(self, now: datetime) -> float | None:
        """Return the seconds until it ends; None where it doesn't, or has."""
        return None if self.until is None or self.ended(now) else (self.until - now).total_seconds()


def said(body: Mapping[str, Any]) -> str | None:
    """Return the annotation of a resource as the API server has it; None where there is none."""
    found = mapping(mapping(body, "metadata"), "annotations").get(names.ANNOTATION_LIVE_OVERRIDE)
    return found if isinstance(found, str) else None


def of(body: Mapping[str, Any], models: Iterable[str]) -> LiveOverride | None:
    """Read the override of a resource with these models. Never raises: what is wrong comes back as a `rejection`."""
    if (annotation := said(body)) is None:
        return None
    found = live_override.read(annotation)
    if isinstance(found, Invalid):
        return LiveOverride(annotation, rejection=text.clean(str(found), MAX_REJECTION))
    known = set(models)
    missing = sorted({model for model, _ in found.values} - known - {""})
    rejection = (
        f"values.models: the resource has no model {missing[0]!r}; it has {', '.join(sorted(known))}"
        if missing
        else ""
    )
    return LiveOverride(annotation, found.values, found.until, text.clean(rejection, MAX_REJECTION))
