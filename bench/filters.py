"""The scheduler's filters over the API's objects: an oracle, made after Kubernetes' rules and not after our code."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

Json = dict[str, Any]

GIB: Final = 2**30
GPU: Final = "nvidia.com/gpu"
UNITS: Final = {"m": 1, "Gi": 1000 * GIB, "": 1000}
"""Thousandths."""


def amount(text: str) -> int:
    number = text.rstrip("mGi")
    return int(number) * UNITS[text[len(number) :]]


def takes(pod: Json) -> Mapping[str, int]:
    """The sum of the containers, each with the most of what it asks and has, or the largest init container."""
    spec = pod["spec"]
    lists = [each["resources"]["requests"] for each in spec["containers"]]
    found = {name: sum(amount(each.get(name, "0")) for each in lists) for name in ("cpu", "memory", GPU)}
    for each in pod.get("status", {}).get("containerStatuses", ()):
        for name, text in each["resources"]["requests"].items():
            found[name] = max(found[name], amount(text))
    for each in spec.get("initContainers", ()):
        for name, text in each["resources"]["requests"].items():
            found[name] = max(found[name], amount(text))
    return found


def ports(pod: Json) -> set[int]:
    return {port["hostPort"] for each in pod["spec"]["containers"] for port in each.get("ports", ())}


def chooses(pod: Json, node: Json) -> bool:
    """NodeUnschedulable, TaintToleration, NodeAffinity."""
    if node["spec"]["unschedulable"]:
        return False
    if node["spec"]["taints"] and not pod["spec"]["tolerations"]:
        return False
    return _affine_to(pod, node)


def _affine_to(pod: Json, node: Json) -> bool:
    spec, name = pod["spec"], node["metadata"]["name"]
    labels = node["metadata"]["labels"]
    if any(labels.get(key) != value for key, value in spec["nodeSelector"].items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    return any(
        all(
            (field["values"] == [name]) is (field["operator"] == "In")
            for field in term.get("matchFields", ())
        )
        and all(labels.get(each["key"]) in each["values"] for each in term.get("matchExpressions", ()))
        for term in required["nodeSelectorTerms"]
    )


def has_room(pod: Json, node: Json, there: Sequence[Json]) -> bool:
    """NodeResourcesFit, NodePorts."""
    allocatable, need = node["status"]["allocatable"], takes(pod)
    for name, more in need.items():
        if more and sum(takes(each)[name] for each in there) + more > amount(allocatable.get(name, "0")):
            return False
    return len(there) < int(allocatable["pods"]) and not any(ports(pod) & ports(each) for each in there)


REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"


def terms(pod: Json, kind: str) -> list[Json]:
    found: list[Json] = ((pod["spec"].get("affinity") or {}).get(kind) or {}).get(REQUIRED) or []
    return found


def means(term: Json, owner: Json, other: Json) -> bool:
    """Selectors here name one label, and namespaces by name."""
    meta = other["metadata"]
    spaces = term.get("namespaces") or [owner["metadata"]["namespace"]]
    return meta["namespace"] in spaces and _selects(term["labelSelector"], meta["labels"])


def _selects(selector: Json, labels: Json) -> bool:
    return all(labels.get(key) == value for key, value in selector["matchLabels"].items())


def affine(pod: Json, node: Json, around: Sequence[tuple[Json, Json]]) -> bool:
    """InterPodAffinity. `around`: all pods of the cluster, each with its node."""
    labels = node["metadata"]["labels"]

    def here(term: Json, there: Json) -> bool:
        key = term["topologyKey"]
        return key in labels and labels[key] == there["metadata"]["labels"].get(key)

    for term in terms(pod, "podAntiAffinity"):
        if any(means(term, pod, other) and here(term, there) for other, there in around):
            return False
    for other, there in around:
        if any(means(term, other, pod) and here(term, there) for term in terms(other, "podAntiAffinity")):
            return False
    near = terms(pod, "podAffinity")
    matching = [(other, there) for other, there in around if all(means(term, pod, other) for term in near)]
    known = [
        (term, there)
        for term in near
        for _, there in matching
        if term["topologyKey"] in there["metadata"]["labels"]
    ]
    if not known and all(means(term, pod, pod) for term in near):
        return all(term["topologyKey"] in labels for term in near)
    return all(any(here(term, there) for other_term, there in known if other_term is term) for term in near)


def even(pod: Json, node: Json, around: Sequence[tuple[Json, Json]], nodes: Sequence[Json]) -> bool:
    """PodTopologySpread, with its default policies for nodes."""
    constraints = pod["spec"].get("topologySpreadConstraints") or []
    keys = [each["topologyKey"] for each in constraints]
    if any(key not in node["metadata"]["labels"] for key in keys):
        return False
    for each in constraints:
        key, selector = each["topologyKey"], each["labelSelector"]
        counts: dict[str, int] = {}
        for one in nodes:
            labels = one["metadata"]["labels"]
            if all(k in labels for k in keys) and _affine_to(pod, one):
                counts.setdefault(labels[key], 0)
                counts[labels[key]] += sum(
                    there is one
                    and other["metadata"]["namespace"] == pod["metadata"]["namespace"]
                    and not leaves(other)
                    and _selects(selector, other["metadata"]["labels"])
                    for other, there in around
                )
        least = min(counts.values(), default=2**31) if len(counts) >= each.get("minDomains", 1) else 0
        itself = _selects(selector, pod["metadata"]["labels"])
        if counts.get(node["metadata"]["labels"][key], 0) + itself - least > each["maxSkew"]:
            return False
    return True


class State:
    """Nodes, and by their names the pods that are on each or that it is kept for."""

    def __init__(self, nodes: Sequence[Json], pods: Mapping[str, Sequence[Json]]) -> None:
        self.nodes = nodes
        self.pods = pods

    def price(self, pod: Json, node: Json) -> int | None:
        """Return what a place there costs pods of a lower priority: 0 nothing; 1 a node that is kept for them, or one's
        that ends anyway; 2 their end. None where there is none.
        """
        ends_others = pod["spec"].get("preemptionPolicy") != "Never"
        if self.passes(pod, node, kept=True):
            return 0
        if self.passes(pod, node) or (ends_others and self.passes(pod, node, without=leaves)):
            return 1
        return 2 if ends_others and self.passes(pod, node, without=lambda _: True) else None

    def passes(
        self,
        pod: Json,
        node: Json,
        *,
        without: Callable[[Json], bool] = lambda _: False,
        kept: bool = False,
    ) -> bool:
        """Return whether all filters pass; `without` those of the node's pods of a lower priority. Who is nominated
        counts on its node, against pods of no higher priority only, and all must pass without it, too. With `kept`
        it counts against any.
        """
        priority, name = pod["spec"]["priority"], node["metadata"]["name"]
        bound = [
            (each, there)
            for there in self.nodes
            for each in self.pods[there["metadata"]["name"]]
            if "nodeName" in each["spec"]
            and not (there is node and each["spec"]["priority"] < priority and without(each))
        ]
        nominated = [
            (each, node)
            for each in self.pods[name]
            if "nodeName" not in each["spec"] and (kept or each["spec"]["priority"] >= priority)
        ]
        return all(self._filters(pod, node, around) for around in ([*bound, *nominated], bound))

    def _filters(self, pod: Json, node: Json, around: Sequence[tuple[Json, Json]]) -> bool:
        return (
            chooses(pod, node)
            and has_room(pod, node, [each for each, there in around if there is node])
            and affine(pod, node, around)
            and even(pod, node, around, self.nodes)
        )


def leaves(pod: Json) -> bool:
    return "deletionTimestamp" in pod["metadata"]
