"""What the pods around forbid a pod: required pod affinity and anti-affinity, its own and theirs, and topology spread.

    rules = topology.rules(request, nodes, population)
    rules.bars(node, None)  # "barred by its pod anti-affinity"

The scheduler's own rules (its plugins InterPodAffinity and PodTopologySpread). Counted once for each choice, and only
over pods that matter to it; after that a node is a look into a few tables.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from ocr_operator.decide.placement import nodes as eligible
from ocr_operator.decide.placement.census import Census
from ocr_operator.decide.placement.predicates import Gone
from ocr_operator.decide.placement.types import Request
from ocr_operator.resources.affinity import Spread, Term
from ocr_operator.resources.observed import Node
from ocr_operator.resources.tenant import Kin, Tenant

AFFINITY: Final = "barred by its pod affinity"
ANTI_AFFINITY: Final = "barred by its pod anti-affinity"
OTHERS: Final = "barred by the anti-affinity of other pods"
SPREAD: Final = "barred by its topology spread"


def _unlabelled(_namespace: str) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class Population:
    """Pods that are on nodes, or on their way to one."""

    present: Census = field(default_factory=Census)
    coming: Sequence[Tenant] = ()
    namespace_labels: Callable[[str], Mapping[str, str]] = _unlabelled

    def of(
        self, namespaces: frozenset[str] | None, wanted: Callable[[Kin], bool]
    ) -> Iterator[tuple[Tenant, int]]:
        """List the pods of some namespaces, or of all, that are wanted, each with their number."""
        for kin, there in self.present.of(namespaces):
            if wanted(kin):
                yield from there.items()
        for each in self.coming:
            if (namespaces is None or each.kin.namespace in namespaces) and wanted(each.kin):
                yield each, 1

    def apart_from(self, namespace: str) -> Iterator[tuple[Kin, Mapping[Tenant, int]]]:
        """List the pods with required anti-affinity that may mean pods of that namespace."""
        yield from self.present.apart_from(namespace)
        for each in self.coming:
            if each.kin.apart:
                yield each.kin, {each: 1}


class _Domains:
    """Numbers of pods of one kind in each domain of a topology key.

    One that the scheduler keeps a node for counts on that node only, as it does in the scheduler.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self.total = Counter[str]()
        self._on: dict[str, list[tuple[Tenant, int]]] = {}
        self._kept: dict[str, list[tuple[Tenant, int]]] = {}

    def add(self, tenant: Tenant, number: int, node: Node) -> None:
        if (domain := node.labels.get(self.key)) is not None:
            if tenant.kept:
                self._kept.setdefault(node.name, []).append((tenant, number))
            else:
                self.total[domain] += number
                self._on.setdefault(node.name, []).append((tenant, number))

    def left(self, node: Node, gone: Gone | None) -> int:
        """Count those in the node's domain; `gone` ones of this node don't count."""
        there = self.total.get(node.labels.get(self.key, ""), 0) - self._gone(node, gone)
        kept = self._kept.get(node.name, ())
        return there + sum(number for tenant, number in kept if gone is None or not gone(tenant))

    def any_left(self, node: Node, gone: Gone | None) -> bool:
        """Return whether there are any, in whatever domain."""
        return self.total.total() > self._gone(node, gone)

    def _gone(self, node: Node, gone: Gone | None) -> int:
        there = self._on.get(node.name, ()) if gone is not None else ()
        return sum(number for tenant, number in there if gone is not None and gone(tenant))


class _Spread:
    """One constraint: the pod may go where its domain then has at most `max_skew` pods more than the emptiest."""

    def __init__(self, constraint: Spread, domains: _Domains, request: Request) -> None:
        self._constraint = constraint
        self._domains = domains
        mine = request.kin.labels
        self._itself = int(constraint.counts(mine, mine))
        self._enough = len(domains.total) >= (constraint.min_domains or 1)
        self._emptiest = sorted(domains.total.items(), key=lambda each: each[1])[:2]

    def bars(self, node: Node, gone: Gone | None) -> bool:
        domain = node.labels.get(self._domains.key)
        if domain is None:
            return True
        there = self._domains.left(node, gone)
        least = self._least(domain, there) if self._enough else 0
        return there + self._itself - least > self._constraint.max_skew

    def _least(self, domain: str, there: int) -> int:
        """Count the pods of the emptiest domain, where this one has `there`."""
        others = next((count for name, count in self._emptiest if name != domain), there)
        return min(others, there) if domain in self._domains.total else others


@dataclass(frozen=True, slots=True)
class _Rules:
    near: Sequence[_Domains]
    meets_itself: bool
    """It is what its affinity asks for: where there is no other, it may begin anywhere."""
    apart: Sequence[_Domains]
    others: Sequence[_Domains]
    spread: Sequence[_Spread]

    def bars(self, node: Node, gone: Gone | None) -> str:
        first = self.meets_itself and not any(each.any_left(node, gone) for each in self.near)
        for each in self.near:
            if each.key not in node.labels or not (first or each.left(node, gone)):
                return AFFINITY
        if any(each.left(node, gone) for each in self.apart):
            return ANTI_AFFINITY
        if any(each.left(node, gone) for each in self.others):
            return OTHERS
        return SPREAD if any(each.bars(node, gone) for each in self.spread) else ""


def rules(request: Request, listed: Iterable[Node], population: Population) -> _Rules | None:
    """Count the pods that its affinity, that of others, and its spread are about; None where there is no such rule, and
    then no node is looked at.
    """
    others = _others(request, population)
    if not (request.near or request.kin.apart or request.spread or others):
        return None
    nodes = list(listed)
    by_name = {each.name: each for each in nodes}
    return _Rules(
        _near(request, by_name, population),
        bool(request.near) and _all(request, request.kin, population),
        [_of(term, request, by_name, population) for term in request.kin.apart],
        _by_key(others, by_name),
        _spread(request, nodes, by_name, population),
    )


def _near(request: Request, nodes: Mapping[str, Node], population: Population) -> list[_Domains]:
    """Count those that all terms together mean, for each term by its own domains."""
    found = [_Domains(term.topology_key) for term in request.near]
    if found:
        reaches = [term.reach(request.kin.namespace) for term in request.near]
        spaces = None if None in reaches else frozenset[str]().union(*filter(None, reaches))
        for tenant, number in population.of(spaces, lambda kin: _all(request, kin, population)):
            if not tenant.kept and (node := nodes.get(tenant.node)) is not None:
                for each in found:
                    each.add(tenant, number, node)
    return found


def _all(request: Request, kin: Kin, population: Population) -> bool:
    return all(_means(term, request.kin, kin, population) for term in request.near)


def _of(term: Term, request: Request, nodes: Mapping[str, Node], population: Population) -> _Domains:
    found = _Domains(term.topology_key)
    spaces = term.reach(request.kin.namespace)
    for tenant, number in population.of(spaces, lambda kin: _means(term, request.kin, kin, population)):
        if (node := nodes.get(tenant.node)) is not None:
            found.add(tenant, number, node)
    return found


def _others(request: Request, population: Population) -> list[tuple[str, Mapping[Tenant, int]]]:
    """List the pods that keep this one away, with the keys of their terms."""
    return [
        (term.topology_key, there)
        for kin, there in population.apart_from(request.kin.namespace)
        for term in kin.apart
        if _means(term, kin, request.kin, population)
    ]


def _by_key(others: list[tuple[str, Mapping[Tenant, int]]], nodes: Mapping[str, Node]) -> list[_Domains]:
    found: dict[str, _Domains] = {}
    for key, there in others:
        domains = found.setdefault(key, _Domains(key))
        for tenant, number in there.items():
            if (node := nodes.get(tenant.node)) is not None:
                domains.add(tenant, number, node)
    return list(found.values())


def _means(term: Term, owner: Kin, other: Kin, population: Population) -> bool:
    labels = population.namespace_labels(other.namespace) if term.namespace_selector is not None else {}
    return term.matches(owner.namespace, other.namespace, labels, other.labels)


def _spread(
    request: Request, nodes: Sequence[Node], by_name: Mapping[str, Node], population: Population
) -> list[_Spread]:
    """Count, for each constraint, over the nodes that have the keys of all of them and that its policies let count."""
    keys = {each.topology_key for each in request.spread}
    found: list[_Spread] = []
    for constraint in request.spread:
        domains, counted = _Domains(constraint.topology_key), set[str]()
        for node in nodes:
            if keys <= node.labels.keys() and _counts(constraint, request, node):
                domains.total[node.labels[constraint.topology_key]] += 0
                counted.add(node.name)
        wanted = partial(_spreads, constraint, request.kin)
        for tenant, number in population.of(frozenset((request.kin.namespace,)), wanted):
            if tenant.node in counted and not tenant.leaving:
                domains.add(tenant, number, by_name[tenant.node])
        found.append(_Spread(constraint, domains, request))
    return found


def _counts(constraint: Spread, request: Request, node: Node) -> bool:
    if constraint.node_affinity_policy == "Honor" and not eligible.selected(request, node):
        return False
    return constraint.node_taints_policy == "Ignore" or eligible.tolerated(request, node)


def _spreads(constraint: Spread, mine: Kin, other: Kin) -> bool:
    return not constraint.counts_nothing and constraint.counts(mine.labels, other.labels)
