"""What is known of every node, kept as it changes: a choice looks again at what changed since the last one, and then
only at what can win.

    index = NodeIndex(policy)
    index.set_node("gpu-a", node)               # and its readings, its usage; reservations by pod
    index.reserve("uid-1", reservations)
    index.choose(request, now)                  # as if all had been given anew
    while not index.prepare(request, now, 32):  # optional: the same work in pieces
        await asyncio.sleep(0)

What passing time changes (readings grow too old, nodes are no longer new) is looked at again when it is due. An index
has one owner; nothing here waits or observes.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from ocr_operator.decide.placement import (
    candidates,
    decisions,
    load,
    messages,
    policies,
    predicates,
    topology,
)
from ocr_operator.decide.placement import nodes as eligible
from ocr_operator.decide.placement.candidate import Candidate, Place
from ocr_operator.decide.placement.policies import PlacementPolicy
from ocr_operator.decide.placement.predicates import Price, Rules, Usage
from ocr_operator.decide.placement.refusals import Refusals
from ocr_operator.decide.placement.site import Site
from ocr_operator.decide.placement.topology import Population
from ocr_operator.decide.placement.types import NoFit, Placement, Request, Reservation
from ocr_operator.decide.placement.view import Offer, View, summary
from ocr_operator.decide.placement.withdrawal import Fitting
from ocr_operator.gpuload.dcgm import GpuReading
from ocr_operator.resources.observed import Node
from ocr_operator.resources.tenant import NOBODY, Tenant

KINDS: Final = 64
"""Kinds of requests whose candidates are kept, the last that were asked for."""
OFFERS: Final = 16_000
"""Nodes in all of them together: half a kilobyte for each GPU."""
MANY: Final = 16
"""Nodes with replicas of one resource above which it is a kind of its own: until then what makes those nodes worse for
it is found when they come by, all of them with each choice.
"""
SLACK: Final = timedelta(seconds=1)
"""A clock that is set back by no more changes nothing that was found."""


class NodeIndex:
    """All nodes, and what pods take of them, with the choice among them."""

    def __init__(self, policy: PlacementPolicy = policies.DEFAULT, *, many: int = MANY) -> None:
        self._policy = policy
        self._many = many
        self._sites: dict[str, Site] = {}
        self._nodes: set[str] = set()
        """Names of those sites that have a node."""
        self._places: dict[str, set[str]] = {}
        """Pod UID → nodes that it has reservations on, or is on its way to."""
        self._coming: dict[str, Sequence[Tenant]] = {}
        """Pod UID → the pod, if it is on its way."""
        self._replicas: dict[str, Counter[str]] = {}
        """Resource → node → reservations."""
        self._views: list[View] = []
        """The last asked for at the end."""
        self._touched: set[str] = set()
        self._refusals = Refusals()
        self._due: list[tuple[datetime, str]] = []
        self._now: datetime | None = None

    @classmethod
    def of(
        cls,
        nodes: Iterable[Node],
        gpus: Iterable[GpuReading],
        reservations: Iterable[Reservation],
        *,
        policy: PlacementPolicy = policies.DEFAULT,
        usage: Callable[[str], Usage] = predicates.unused,
    ) -> "NodeIndex":
        """Index all that is known; `usage` tells what all pods take of a node."""
        index = cls(policy)
        for node in nodes:
            index.set_node(node.name, node)
            index.set_usage(node.name, usage(node.name))
        by_node: dict[str, list[GpuReading]] = {}
        for reading in gpus:
            by_node.setdefault(reading.node, []).append(reading)
        for name, readings in by_node.items():
            index.set_readings(name, readings)
        by_pod: dict[str, list[Reservation]] = {}
        for entry in reservations:
            by_pod.setdefault(entry.uid, []).append(entry)
        for uid, entries in by_pod.items():
            index.reserve(uid, entries)
        return index

    # What changes

    def set_node(self, name: str, node: Node | None) -> None:
        self._touch(name).node = node
        (self._nodes.discard if node is None else self._nodes.add)(name)

    def set_readings(self, name: str, readings: Sequence[GpuReading]) -> None:
        """Take all readings of a node, one for each GPU or MIG instance."""
        self._touch(name).readings = readings

    def set_usage(self, name: str, usage: Usage) -> None:
        """Take what the pods that are on a node take of it."""
        self._touch(name).usage = usage

    def reserve(self, uid: str, reservations: Iterable[Reservation], coming: Iterable[Tenant] = ()) -> None:
        """Take all reservations of a pod, in place of those before, and the pod itself where it is on its way."""
        self._coming.pop(uid, None)
        for name in self._places.pop(uid, ()):
            site = self._touch(name)
            site.coming.pop(uid, None)
            for entry in site.entries.pop(uid, ()):
                self._count(entry, -1)
        for entry in reservations:
            self._touch(entry.node).entries.setdefault(uid, []).append(entry)
            self._places.setdefault(uid, set()).add(entry.node)
            self._count(entry, 1)
        if there := tuple(coming):
            self._coming[uid] = there
        for tenant in there:
            self._touch(tenant.node).coming[uid] = tenant
            self._places.setdefault(uid, set()).add(tenant.node)

    # What is asked

    def sizes(self, name: str) -> Mapping[str, int]:
        """Return the bytes of each GPU of a node whose size is known, by UUID."""
        site = self._sites.get(name)
        if site is None or site.node is None:
            return {}
        return load.sizes(site.node, site.readings)

    def choose(
        self, request: Request, now: datetime, population: Population | None = None
    ) -> Placement | NoFit:
        """Choose the GPU (shared) or node (exclusive) that fits and is the policy's first. `population`: which pods are
        on nodes, without those on their way.

        A pod that already has a reservation keeps its place while it fits: a patch whose answer was lost must not
        move it, and the same question with the same inputs gets the same answer.
        """
        if request.sharing == "none":
            return decisions.unpinned(request)
        view = self._view(request, now)
        view.refresh(partial(self._offer, view.kind, now=now))
        mine = self._places.get(request.uid, set()) & self._nodes
        if not mine and (known := self._refusals.known(request, population)) is not None:
            return known
        rules, looked = None, self._look(request, mine, now)
        if view.fitting(mine) or any(each.fits for offer in looked.values() for each in offer.candidates):
            # Elsewhere the pods around are no reason, and to count them takes milliseconds.
            rules = self._rules(request, population)
            looked = self._look(request, mine, now, rules) if rules is not None else looked
        also = [each for offer in looked.values() for each in offer.candidates if each.fits]
        dear = self._ruled(request, view, rules, looked) if rules is not None else ()
        replicas = () if view.kind.deployment else self._replicas_of(request)
        find = partial(self._candidate, request, rules=rules, now=now)
        doubted = {*replicas, *request.refused, *dear}
        first = view.first(decisions.RUNNERS_UP + 1, find, without=looked, also=also, doubted=doubted)
        if not first:
            refusal = self._refusal(request, view, looked, find)
            if not mine:
                self._refusals.keep(request, population, refusal)
            return refusal
        held = (each for each in also if any(decisions.holds(entry, each) for entry in self._of(request.uid)))
        kept = min(held, key=self._policy.order, default=None)
        best = self._anew(request, kept or first[0], now, rules)
        fitting = view.fitting(looked) + len(also)
        placed = decisions.placed(request, best, first, fitting, self._policy, kept=kept is not None)
        excluded = decisions.excluded(_barred(view, looked)) if _free(request) else None
        if excluded is not None and not (excluded and request.spread):
            return replace(placed, excluded=excluded)
        if request.sharing == "shared" or request.spread:
            return placed  # a pin alone keeps reservations of a GPU; and domains, which count by nodes it may go to
        walk = partial(view.first, candidate=find, without=looked, also=also, doubted=doubted)
        return replace(placed, alternatives=decisions.alternatives(best, walk))

    def prepare(self, request: Request, now: datetime, limit: int) -> bool:
        """Look again at up to `limit` nodes that changed, so that `choose` has less to do; returns whether it has
        nothing of that left.
        """
        if request.sharing == "none":
            return True
        view = self._view(request, now)
        return view.refresh(partial(self._offer, view.kind, now=now), limit)

    def forget_refusals(self) -> None:
        """Take no answer for given: something changed that isn't of a node, such as the labels of a namespace."""
        self._refusals.forget()

    def fitting(self, request: Request, now: datetime, population: Population | None = None) -> Fitting:
        """Return what lists the candidates of a node that the pod fits once other pods have lost their reservations."""
        self._pass_time(now)
        rules = self._rules(request, population)

        def look(name: str, gone: Collection[str]) -> Sequence[Candidate]:
            offer = self._offer(request, name, now=now, rules=rules, gone=gone)
            return [each for each in offer.candidates if each.fits] if offer is not None else ()

        return look

    def _touch(self, name: str) -> Site:
        self._touched.add(name)
        return self._sites.setdefault(name, Site())

    def _count(self, entry: Reservation, by: int) -> None:
        nodes = self._replicas.setdefault(entry.deployment, Counter())
        nodes[entry.node] += by
        if not nodes[entry.node]:
            del nodes[entry.node]
            if not nodes:
                del self._replicas[entry.deployment]

    def _replicas_of(self, request: Request) -> Collection[str]:
        """Return the nodes that have replicas of its resource."""
        return self._replicas.get(request.deployment, ()) if request.deployment else ()

    def _of(self, uid: str) -> Iterator[Reservation]:
        for name in self._places.get(uid, ()):
            yield from self._sites[name].entries.get(uid, ())

    def _view(self, request: Request, now: datetime) -> View:
        """Return the view of the request's kind, with all forgotten that has changed."""
        self._pass_time(now)
        ours = request.deployment if len(self._replicas_of(request)) > self._many else ""
        there = {key: value for key, value in (request.affinity or {}).items() if key == "nodeAffinity"}
        kind = replace(
            request,
            pod="",
            uid="",
            deployment=ours,
            refused={},
            affinity=there,
            kin=NOBODY,
            near=(),
            spread=(),
        )
        found = next((each for each in self._views if each.kind == kind), None)
        if found is None:
            found = View(kind, self._policy, self._nodes)
            kinds = min(KINDS, max(2, OFFERS // max(1, len(self._nodes))))
            self._views = self._views[-kinds + 1 :]
        else:
            self._views.remove(found)
        self._views.append(found)
        return found

    def _pass_time(self, now: datetime) -> None:
        if self._now is None or now > self._now or self._now - now > SLACK:
            if self._now is not None and now < self._now:
                self._touched.update(self._sites)
            self._now = now
        while self._due and self._due[0][0] <= now:
            due, name = heapq.heappop(self._due)
            if name in self._sites and self._sites[name].due == due:
                self._touched.add(name)
        if self._touched:
            self.forget_refusals()
        for name in self._touched:
            site = self._sites[name]
            site.loads, site.due = None, site.next_turn(now)
            if site.due is not None:
                heapq.heappush(self._due, (site.due, name))
            for view in self._views:
                view.forget(name)
            if site.empty:
                del self._sites[name]
        self._touched = set()

    def _look(
        self, request: Request, names: Iterable[str], now: datetime, rules: Rules | None = None
    ) -> dict[str, Offer]:
        """Look at nodes that a pod of this UID is on its way to."""
        offers = ((name, self._offer(request, name, now=now, rules=rules)) for name in names)
        return {name: offer for name, offer in offers if offer is not None}

    def _offer(
        self,
        request: Request,
        name: str,
        *,
        now: datetime,
        rules: Rules | None = None,
        gone: Collection[str] = (),
    ) -> Offer | None:
        """Look at a node for a request, without the pod itself and reservations of those `gone`; None: no such node."""
        site = self._sites.get(name)
        if site is None or site.node is None:
            return None
        why, price = eligible.obstacle(request, site.node), Price.NOTHING
        if why and why not in eligible.PASSING:
            return Offer(why)
        usage = site.taken(request.uid)
        if not why:
            why, price = predicates.lacks(request, site.node, usage, rules)
        if why and request.sharing == "shared":
            return Offer(why)
        place, here = Place(site.node, usage, price), site.here(request.uid, *gone)
        found = candidates.find(request, place, site.carried(now, request.uid, *gone), here, now)
        return Offer(why, () if why else found, price, decisions.barred(found))

    def _candidate(
        self, request: Request, name: str, uuid: str, *, now: datetime, rules: Rules | None
    ) -> Candidate:
        """Return a candidate that is known to be there."""
        site = self._sites[name]
        assert site.node is not None
        usage, here = site.taken(request.uid), site.here(request.uid)
        _, price = predicates.lacks(request, site.node, usage, rules)
        place = Place(site.node, usage, price)
        [found] = candidates.find(request, place, site.carried(now, request.uid), here, now, only=uuid)
        return found

    def _anew(self, request: Request, candidate: Candidate, now: datetime, rules: Rules | None) -> Candidate:
        """Return a candidate with the age that its data has now."""
        self._sites[candidate.node].loads = None
        uuid = candidate.gpu.uuid if candidate.gpu else ""
        return self._candidate(request, candidate.node, uuid, now=now, rules=rules)

    def _rules(self, request: Request, population: Population | None) -> Rules | None:
        if population is None:
            return None
        coming = [each for uid, pods in self._coming.items() if uid != request.uid for each in pods]
        nodes = (node for name in self._nodes if (node := self._sites[name].node) is not None)
        return topology.rules(request, nodes, replace(population, coming=(*population.coming, *coming)))

    def _ruled(self, request: Request, view: View, rules: Rules, looked: dict[str, Offer]) -> Collection[str]:
        """Add to `looked` the nodes that the pods around bar; returns those whose price they raise."""
        dear: list[str] = []
        for name, offer in view.offers.items():
            node = self._sites[name].node
            if name in looked or offer.obstacle or node is None:
                continue
            why, price = predicates.lacks(request, node, self._sites[name].taken(request.uid), rules)
            if why:
                looked[name] = Offer(why, barred=offer.barred)
            elif price != offer.price:
                dear.append(name)
        return dear

    def _refusal(
        self,
        request: Request,
        view: View,
        looked: Mapping[str, Offer],
        find: Callable[[str, str], Candidate],
    ) -> NoFit:
        if view.refusal is not None and not looked:
            return view.refusal
        offers = {
            **view.offers,
            **{name: summary(each, self._policy) for name, each in looked.items()},
        }.values()
        obstacles = Counter(each.obstacle for each in offers if each.obstacle)
        refused = [each for offer in offers for each in offer.refused]
        examples = [find(*each[2:]) for each in heapq.nsmallest(messages.EXAMPLES, refused)]
        scarce = any(each.scarce for each in offers)
        answer = replace(
            messages.nofit(request, len(self._nodes), obstacles, examples, len(refused), scarce=scarce),
            excluded=decisions.excluded(_barred(view, looked)),
        )
        if not looked:
            view.refusal = answer
        return answer


def _barred(view: View, own: Mapping[str, Offer]) -> Collection[str]:
    """Return what can't work, though the scheduler would take it."""
    if not own:
        return view.barred
    before = (view.offers[name].barred for name in own if name in view.offers)
    return view.barred.difference(*before).union(*(each.barred for each in own.values()))


def _free(request: Request) -> bool:
    """Return whether the pod may go elsewhere. Other products can't be kept away by name: those of nodes to come, which
    a cluster autoscaler would add.
    """
    return request.sharing == "exclusive" and not request.products
