"""Which pods read pages that wait in another one: a Service sends new requests only, what waits stays where it is."""

from collections.abc import Collection, Mapping, Sequence
from math import inf
from typing import Final

from ocr_operator.decide.routing.types import Candidate, Eligibility, Help, Warmth

AGAIN_SECONDS: Final = 1.0
"""After so long a pod is named again to one in which pages still wait, though it is ready and has nothing to do."""
MAX_HELPS: Final = 32
"""Of one decision. Those that are left out come with the next one, before any that was named already."""
_COMING: Final = frozenset({Warmth.READY, Warmth.RESTORING, Warmth.LOADING})


def decide(
    members: Sequence[Candidate],
    *,
    woken: Collection[str],
    pages: int,
    bar: int,
    named: Mapping[Help, float],
    now: float,
) -> tuple[tuple[Help, ...], Mapping[Help, float]]:
    """Name the members that are to read for others from now on, and return what is to be remembered of that.

    A pod in which more than the next `pages` wait, or more than the `bar` at which others join, is helped by each
    member that has nothing to wait for and is ready, or about to be: those that are `woken` by this decision, too.
    `named` is when each was named last. None that sleeps is woken for this alone: how many are awake is the policy's
    matter.
    """
    waiting = {each.uid: each for each in members if _usable(each) and each.waiting}
    free = {
        each.uid: each
        for each in members
        if _usable(each)
        and not each.waiting
        and each.in_flight < pages
        and (each.warmth in _COMING or each.uid in woken)
    }
    uids = {each.uid for each in members}
    known = {pair: at for pair, at in named.items() if pair.helped in waiting and pair.helper in uids}
    fresh = []
    for one in waiting.values():
        if one.waiting <= min(pages, bar):
            continue
        for other in free.values():
            pair = Help(one.uid, other.uid)
            idle = other.warmth is Warmth.READY and not other.load
            if pair not in known or (idle and now - known[pair] >= AGAIN_SECONDS):
                fresh.append(pair)
    fresh.sort(key=lambda pair: known.get(pair, -inf))
    fresh = fresh[:MAX_HELPS]
    return tuple(fresh), known | dict.fromkeys(fresh, now)


def _usable(pod: Candidate) -> bool:
    return pod.eligibility is Eligibility.USABLE
