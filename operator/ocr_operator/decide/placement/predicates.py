"""Whether a node has what a pod asks for besides a GPU: CPU, memory, pods, devices, ports of the node.

    why, price = predicates.lacks(request, node, predicates.usage(tenants), rules)

The scheduler's own rules (its plugins NodeResourcesFit and NodePorts), over all pods, also other people's. `rules` are
those of `topology`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Final, Protocol

from ocr_operator.decide.placement.types import Request
from ocr_operator.resources.demand import PODS, Port
from ocr_operator.resources.observed import Node
from ocr_operator.resources.tenant import Tenant


class Price(IntEnum):
    """Cost of a place to others, the cheapest first."""

    NOTHING = 0
    PROMISES = 1
    """It is promised to pods of a lower priority that aren't there, or held by some that end anyway."""
    PODS = 2
    """The scheduler has to end pods of a lower priority."""


Gone = Callable[[Tenant], bool]
"""Whether a pod is thought away."""


class Rules(Protocol):
    """Rules that the pods around set."""

    def bars(self, node: Node, gone: Gone | None) -> str:
        """Return why the pod may not go there, in words that follow "2 nodes are"; empty when it may. `gone`: which of
        the pods on that node are thought away.
        """
        ...


@dataclass(frozen=True)
class Usage:
    """The sum of what the pods on a node take. Immutable, and kept for as long as none of them changes."""

    tenants: tuple[Tenant, ...] = ()
    amounts: Mapping[str, int] = field(default_factory=dict)
    ports: frozenset[Port] = frozenset()

    @property
    def pods(self) -> int:
        return len(self.tenants)

    @cached_property
    def lowest(self) -> int:
        """The lowest priority of a pod there."""
        return min((each.demand.priority for each in self.tenants), default=0)

    def plus(self, more: Iterable[Tenant]) -> "Usage":
        return usage((*self.tenants, *more))

    def without(self, gone: Gone) -> "Usage":
        return usage(each for each in self.tenants if not gone(each))


EMPTY: Final = Usage()


def unused(_node: str) -> Usage:
    """Return that nothing is taken: everything is left to the scheduler."""
    return EMPTY


def usage(tenants: Iterable[Tenant]) -> Usage:
    there = tuple(tenants)
    amounts: dict[str, int] = {}
    for each in there:
        for name, amount in each.demand.amounts:
            amounts[name] = amounts.get(name, 0) + amount
    return Usage(there, amounts, frozenset().union(*(each.demand.ports for each in there)))


def lacks(request: Request, node: Node, there: Usage, rules: Rules | None = None) -> tuple[str, Price]:
    """Return why the pod has no place there, in words that follow "2 nodes are", empty when it has; and what it costs
    others.
    """
    why = _lacks(request, node, there) or (rules.bars(node, None) if rules else "")
    if not why or there.lowest >= request.demand.priority:
        return why, Price.NOTHING
    for price, gone in _concessions(request):
        if not _lacks(request, node, there.without(gone)) and not (rules and rules.bars(node, gone)):
            return "", price
    return why, Price.NOTHING


def _concessions(request: Request) -> Iterable[tuple[Price, Gone]]:
    """List which pods the scheduler takes for gone, the least costly first: a pod that it promised a place counts
    against pods of no higher priority only.
    """
    priority, preempts = request.demand.priority, request.demand.preempts

    def promised(tenant: Tenant) -> bool:
        return (tenant.kept or tenant.coming) and lower(tenant)

    def ending(tenant: Tenant) -> bool:
        return (tenant.kept or tenant.coming or tenant.leaving) and lower(tenant)

    def lower(tenant: Tenant) -> bool:
        return tenant.demand.priority < priority

    yield Price.PROMISES, promised
    if preempts:
        yield Price.PROMISES, ending
        yield Price.PODS, lower


def _lacks(request: Request, node: Node, there: Usage) -> str:
    """Name the first of 1. resources, by name  2. pods  3. ports. The device that placement itself counts isn't looked
    at here; nor is a resource of every node that this one says nothing of.
    """
    taken, has = there.amounts, node.allocatable
    for name, amount in request.demand.amounts:
        if name == request.resource or (name not in has and "/" not in name):
            continue
        if taken.get(name, 0) + amount > has.get(name, 0):
            return f"short of {name}"
    if there.pods >= has.get(PODS, there.pods + 1):
        return "full of pods"
    for port in request.demand.ports:
        if any(port.clashes(other) for other in there.ports):
            return "using its host ports"
    return ""
