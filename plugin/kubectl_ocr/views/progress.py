"""How far `kubectl ocr read` is, in one line: a pure function of the jobs and of the time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from kubectl_ocr import text

MAX_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Reading:
    """A document that is being read."""

    total: int = 0
    """Pages; 0: not known yet."""
    done: int = 0
    failed: int = 0
    queued_ahead: int | None = None
    rate: float | None = None
    """Pages a second."""
    ends_at: float | None = None
    """Unix time."""


def line(readings: Mapping[str, Reading], ended: int, count: int, now: float, width: int) -> str:
    """Return the line, cut to `width`: of several documents how many have ended, and how far the first ones are."""
    parts = [f"{ended} of {count} documents"] if count > 1 else []
    parts += [_one(name, each, now) for name, each in list(readings.items())[:MAX_NAMED]]
    if (more := len(readings) - MAX_NAMED) > 0:
        parts.append(f"{more} more")
    drawn = " · ".join(parts)
    return drawn if len(drawn) < width else drawn[: max(0, width - 2)] + "…"


def _one(name: str, each: Reading, now: float) -> str:
    if not each.total:
        return f"{text.clean(name, 60)}: sending"
    if each.queued_ahead is not None:
        return f"{text.clean(name, 60)}: waits, {each.queued_ahead} before it"
    failed = f", {each.failed} failed" if each.failed else ""
    rate = f", {each.rate:.2g} pages/s" if each.rate else ""
    left = "" if each.ends_at is None else f", {text.duration(each.ends_at - now)} left"
    return f"{text.clean(name, 60)}: {each.done} of {each.total} pages{failed}{rate}{left}"
