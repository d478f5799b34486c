"""What a pod asks of its node, as the scheduler counts it.

CPU is counted in thousandths, everything else in whole units (bytes, devices), both rounded up as the scheduler does.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

from ocr_operator.resources.reading import MAX_ENTRIES, count, mapping, mappings, text
from ocr_wire import quantity

PODS: Final = "pods"
"""The resource of which every pod takes one."""
CPU: Final = "cpu"
_ANY_ADDRESS: Final = "0.0.0.0"
_OF_PODS: Final = ("cpu", "memory")
"""Resources that may be given for a pod as a whole, besides huge pages."""


class Port(NamedTuple):
    """A port of the node that a pod takes for itself."""

    address: str
    protocol: str
    number: int

    def clashes(self, other: "Port") -> bool:
        alike = self.protocol == other.protocol and self.number == other.number
        return alike and (self.address == other.address or _ANY_ADDRESS in (self.address, other.address))


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Demand:
    """Equal ones are interchangeable."""

    amounts: tuple[tuple[str, int], ...] = ()
    """By name, without zeros."""
    ports: frozenset[Port] = frozenset()
    priority: int = 0
    preempts: bool = True
    """The scheduler may end pods of a lower priority for it."""


NOTHING: Final = Demand()


def of_pod(spec: Mapping[str, Any], status: Mapping[str, Any] | None = None) -> Demand:
    """Return the demand of a pod: what its containers and sidecars ask for together, or the largest moment of its start
    if that is more; what is asked for the pod as a whole instead; and its overhead. While the pod is resized, the
    larger of what is asked, what the kubelet granted and what it has (`PodRequests` of Kubernetes' component-helpers).
    """
    resizes = _Resizes(status or {})
    containers = mappings(spec, "containers")
    sidecars: dict[str, int] = {}
    first: dict[str, int] = {}
    for each in mappings(spec, "initContainers"):
        asked = _requests(each)
        if each.get("restartPolicy") == "Always":
            containers.append(each)
            _add(sidecars, resizes.counted(each))
            asked = {}
        for name, amount in _sum((sidecars, asked)).items():
            first[name] = max(first.get(name, 0), amount)
    total = _sum(resizes.counted(each) for each in containers)
    for name, amount in first.items():
        total[name] = max(total.get(name, 0), amount)
    for name, amount in resizes.counted_whole(spec).items():
        if name in _OF_PODS or name.startswith("hugepages-"):
            total[name] = amount
    _add(total, amounts(mapping(spec, "overhead")))
    priority = spec.get("priority")
    return Demand(
        amounts=tuple(sorted((name, amount) for name, amount in total.items() if amount)),
        ports=frozenset(_ports(containers)),
        priority=priority if isinstance(priority, int) and abs(priority) < 2**31 else 0,
        preempts=spec.get("preemptionPolicy") != "Never",
    )


def amounts(listed: Mapping[str, Any]) -> dict[str, int]:
    """Return a resource list as numbers; what is no amount is left out."""
    found: dict[str, int] = {}
    for name, amount in list(listed.items())[:MAX_ENTRIES]:
        units = _units_of(amount, name == CPU) if isinstance(amount, str) else _units(amount, name == CPU)
        if units is not None:
            found[name] = units
    return found


def _units(amount: object, thousandths: bool) -> int | None:
    if (number := quantity.parse(amount)) is None or not 0 <= number < 2**63:
        return None
    exact = number * 1000 if thousandths else number
    return -(-exact.numerator // exact.denominator)


_units_of = lru_cache(maxsize=1024)(_units)
"""The same for texts, of which most pods have the same few."""


class _Resizes:
    """Resources of a pod's containers as the kubelet reports them, which may differ from what is asked by now."""

    def __init__(self, status: Mapping[str, Any]) -> None:
        kinds = ("containerStatuses", "initContainerStatuses")
        self._whole = status
        self._of = {text(each, "name"): each for kind in kinds for each in mappings(status, kind)}
        pending = (each for each in mappings(status, "conditions") if each.get("type") == "PodResizePending")
        self._refused = next(pending, {}).get("reason") == "Infeasible"

    def counted(self, container: Mapping[str, Any]) -> dict[str, int]:
        return self._largest(_requests(container), self._of.get(text(container, "name"), {}))

    def counted_whole(self, spec: Mapping[str, Any]) -> dict[str, int]:
        return self._largest(asked, self._whole) if (asked := _requests(spec)) else {}

    def _largest(self, asked: dict[str, int], reported: Mapping[str, Any]) -> dict[str, int]:
        if "resources" not in reported:
            return asked
        has = amounts(mapping(mapping(reported, "resources"), "requests"))
        most = {} if self._refused else dict(asked)
        for each in (has, amounts(mapping(reported, "allocatedResources"))):
            for name, amount in each.items():
                most[name] = max(most.get(name, 0), amount)
        return most


def _requests(of: Mapping[str, Any]) -> dict[str, int]:
    """Limits stand in for absent requests, as the API server's own defaulting does."""
    resources = mapping(of, "resources")
    return amounts({**mapping(resources, "limits"), **mapping(resources, "requests")})


def _ports(containers: Iterable[Mapping[str, Any]]) -> Iterable[Port]:
    for container in containers:
        for each in mappings(container, "ports"):
            if number := count(each, "hostPort"):
                yield Port(text(each, "hostIP") or _ANY_ADDRESS, text(each, "protocol") or "TCP", number)


def _sum(each: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in each:
        _add(total, one)
    return total


def _add(total: dict[str, int], more: Mapping[str, int]) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount
