"""What all nodes have for one kind of request, those that fit in the policy's order, kept as nodes change.

    view.forget("gpu-a")                # something of the node changed
    view.refresh(look, limit)           # looks at such nodes again
    view.first(4, candidate, without={"gpu-b"}, also=[], doubted={"gpu-c"})

What requests of a kind differ in, such as replicas of the same resource, only makes a candidate worse (see
`PlacementPolicy.order`), so the walk from the front looks at such a candidate when it comes by, and ends early. Of
each candidate only its place in the order is kept, as tuples of strings and numbers, which the garbage collector
doesn't visit: 8,000 of them as objects, for a few kinds, would stop the process for half a second now and then.
"""

import heapq
from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from ocr_operator.decide.placement.candidate import Candidate
from ocr_operator.decide.placement.policies import PlacementPolicy
from ocr_operator.decide.placement.predicates import Price
from ocr_operator.decide.placement.types import NoFit, Request

FEW: Final = 32
"""Nodes whose candidates are moved one by one; with more, all are sorted, which is next to free where most are already.
"""

Ranked = tuple[tuple[object, ...], str, str]
"""Place in the order, node, UUID. Orders end with names, so no two are equal."""
Refused = tuple[float, str, str, str]
"""Place in a refusal's examples, name, node, UUID."""


class Offer(NamedTuple):
    """Answer of a node to a request."""

    obstacle: str
    """Why the pod can't go there; empty if it can."""
    candidates: Sequence[Candidate] = ()
    price: Price = Price.NOTHING
    barred: Sequence[str] = ()
    """The node, or GPUs of it, where it can't work though the scheduler would take them, perhaps once the obstacle is
    gone."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Parts of an offer that are kept."""

    obstacle: str
    price: Price
    barred: Sequence[str]
    fitting: Sequence[Ranked]
    refused: Sequence[Refused]
    scarce: bool
    """Something is refused because others have it, whatever its size."""


def summary(offer: Offer, policy: PlacementPolicy) -> Summary:
    fitting, refused = [], []
    for each in offer.candidates:
        uuid = each.gpu.uuid if each.gpu else ""
        if each.fits:
            fitting.append((policy.order(each), each.node, uuid))
        else:
            refused.append((-each.rank, each.name, each.node, uuid))
    scarce = any(each.scarce for each in offer.candidates if not each.fits)
    return Summary(offer.obstacle, offer.price, offer.barred, tuple(fitting), tuple(refused), scarce)


class View:
    """Offers of all nodes to requests of one kind. Written by its owner only, `NodeIndex`."""

    def __init__(self, kind: Request, policy: PlacementPolicy, nodes: Iterable[str]) -> None:
        self.kind = kind
        """The request without what is one pod's, or one resource's."""
        self.offers: dict[str, Summary] = {}
        self.barred: set[str] = set()
        """Nodes, or GPUs, that can't work, though the scheduler would take them."""
        self.refusal: NoFit | None = None
        """The last answer where nothing fitted, for as long as no offer changes."""
        self._policy = policy
        self._stale = set(nodes)
        self._order: list[Ranked] = []

    def fitting(self, without: Iterable[str]) -> int:
        """Count what fits on other nodes."""
        left_out = (self.offers.get(name) for name in without)
        return len(self._order) - sum(len(each.fitting) for each in left_out if each is not None)

    def forget(self, node: str) -> None:
        """Have a node looked at again, since something of it changed."""
        self._stale.add(node)

    def refresh(self, look: Callable[[str], Offer | None], limit: int | None = None) -> bool:
        """Look again at the nodes that changed, at most at `limit`; returns whether none is left. `look` returns None
        for a node that is gone.
        """
        count = len(self._stale) if limit is None else min(limit, len(self._stale))
        if count:
            names = [self._stale.pop() for _ in range(count)]
            offers = ((name, look(name)) for name in names)
            self._replace(
                {name: None if each is None else summary(each, self._policy) for name, each in offers}
            )
            self.refusal = None
        return not self._stale

    def first(
        self,
        count: int,
        candidate: Callable[[str, str], Candidate],
        *,
        without: Container[str],
        also: Iterable[Candidate],
        doubted: Container[str],
        apart: bool = False,
    ) -> list[Candidate]:
        """List the first `count` that fit: those of the nodes `without` left out and `also` added. Those of `doubted`
        nodes may be worse than they are in general. `candidate` finds one by node and UUID, as it is. With `apart`
        only the first of each node counts.
        """
        seen = set[str]()
        heap = [self._rank(each) for each in also]
        heapq.heapify(heap)
        found: list[Candidate] = []
        coming = (ranked for ranked in self._order if ranked[1] not in without)
        ahead = next(coming, None)
        while len(found) < count:
            if ahead is not None and (not heap or ahead[0] <= heap[0][0]):
                if ahead[1] in doubted:
                    heapq.heappush(heap, self._rank(candidate(*ahead[1:])))
                elif ahead[1] not in seen:
                    found.append(candidate(*ahead[1:]))
                ahead = next(coming, None)
            elif heap:
                here = heapq.heappop(heap)[1]
                if here.node not in seen:
                    found.append(here)
            else:
                break
            if apart:
                seen.update(each.node for each in found[-1:])
        return found

    def _rank(self, candidate: Candidate) -> tuple[tuple[object, ...], Candidate]:
        return self._policy.order(candidate), candidate

    def _replace(self, offers: Mapping[str, Summary | None]) -> None:
        old = [each for name in offers if name in self.offers for each in self.offers[name].fitting]
        new: list[Ranked] = []
        for name, offer in offers.items():
            if (before := self.offers.pop(name, None)) is not None:
                self.barred.difference_update(before.barred)
            if offer is not None:
                self.offers[name] = offer
                new += offer.fitting
                self.barred.update(offer.barred)
        if len(offers) <= FEW:
            self._move(old, new)
        else:
            self._order = [each for each in self._order if each[1] not in offers] + new
            self._order.sort()

    def _move(self, old: Collection[Ranked], new: Collection[Ranked]) -> None:
        for each in old:
            del self._order[bisect_left(self._order, each)]
        for each in new:
            insort(self._order, each)
