"""Decides which pages are suspected of harming others, by digest: a mapping that each death or failure replaces.

When a worker dies, any page that it had begun may be the cause. Such a page is read alone from then on, so that it
harms no other, until it has been read; one that was being read when a second worker died is refused for some minutes.
A page at which an engine failed, with all pages beside it, is read alone from then on, too, and never refused for that.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

MAX_KILLS = 2
"""Deaths after which a page is refused. The first may be chance, or the fault of another page in the worker; the second
one happens while it is read alone."""
KEEP_SECONDS = 600.0
"""Time from its last death for which a page is suspected or refused. It bounds the harm of a page that kills a worker
twice by chance, such as when memory runs out."""
MAX_PAGES = 256
"""Most digests that are kept; the oldest are dropped."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """Page that was being read when a worker died, or at which an engine failed."""

    kills: int
    """Number of workers that died."""
    since: float
    """Time of the last death or failure."""


Suspects = Mapping[bytes, Suspect]


def current(suspects: Suspects, now: float) -> Suspects:
    """Return the pages that are suspected still."""
    return {digest: each for digest, each in suspects.items() if now < each.since + KEEP_SECONDS}


def died(suspects: Suspects, begun: Collection[bytes], now: float) -> Suspects:
    """Return the suspects after the death of a worker that had begun these pages, in any number of copies."""
    before = current(suspects, now)
    again = {digest: Suspect(before[digest].kills + 1 if digest in before else 1, now) for digest in begun}
    return _newest({**before, **again})


def failed(suspects: Suspects, digest: bytes, now: float) -> Suspects:
    """Return the suspects after an engine failed at this page alone, which it had with others before. The worker lives,
    so no death counts any more."""
    return _newest({**current(suspects, now), digest: Suspect(0, now)})


def acquitted(suspects: Suspects, digest: bytes) -> Suspects:
    """Return the suspects without a page that a worker was done with, whatever its answer."""
    return {other: each for other, each in suspects.items() if other != digest}


def find(suspects: Suspects, digest: bytes, now: float) -> Suspect | None:
    """Return what the page is suspected of; None where it isn't."""
    return current(suspects, now).get(digest)


def kills(suspects: Suspects, digest: bytes, now: float) -> int:
    """Return how many workers died while they read the page."""
    found = find(suspects, digest, now)
    return 0 if found is None else found.kills


def _newest(suspects: Suspects) -> Suspects:
    newest = sorted(suspects, key=lambda digest: suspects[digest].since, reverse=True)[:MAX_PAGES]
    return {digest: suspects[digest] for digest in newest}
