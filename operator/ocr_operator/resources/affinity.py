"""Which pods a pod wants to be near, apart from, or spread among, as far as its spec requires it.

What can't be read, such as a selector of more than its bounds, is left out, and so to the scheduler.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from ocr_operator.resources.reading import MAX_ITEMS, mapping, mappings, strings
from ocr_operator.resources.selectors import Selector

Policy = Literal["Honor", "Ignore"]

_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"

T = TypeVar("T")


class _Part(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """camelCase outside; unknown fields are ignored."""


class Term(_Part, frozen=True):
    """Pods in the same domain: on nodes of one value of the label `topology_key`."""

    topology_key: str
    label_selector: Selector | None = None
    namespaces: Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_ITEMS)] = ()
    namespace_selector: Selector | None = None

    def reach(self, owner: str) -> frozenset[str] | None:
        """Return the namespaces whose pods it may mean, None for any; `owner` is that of the pod whose term it is."""
        return frozenset(self.namespaces or (owner,)) if self.namespace_selector is None else None

    def matches(
        self, owner: str, namespace: str, namespace_labels: Mapping[str, str], labels: Mapping[str, str]
    ) -> bool:
        """Return whether it means a pod with these labels in that namespace; `owner` is the namespace of the pod whose
        term it is, which counts where the term names none.
        """
        if self.label_selector is None or not self.label_selector.selects(labels):
            return False
        if self.namespace_selector is None:
            return namespace in (self.namespaces or (owner,))
        return namespace in self.namespaces or self.namespace_selector.selects(namespace_labels)


class Spread(_Part, frozen=True):
    """A topology spread constraint."""

    topology_key: str
    max_skew: int = 1
    label_selector: Selector | None = None
    min_domains: int | None = None
    node_affinity_policy: Policy = "Honor"
    node_taints_policy: Policy = "Ignore"
    match_label_keys: Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_ITEMS)] = ()

    def counts(self, mine: Mapping[str, str], labels: Mapping[str, str]) -> bool:
        """Return whether it counts a pod with these labels; `mine` are those of the pod whose constraint it is."""
        if self.label_selector is None or not self.label_selector.selects(labels):
            return False
        return all(labels.get(key) == mine[key] for key in self.match_label_keys if key in mine)

    @property
    def counts_nothing(self) -> bool:
        """Whether its selector is empty, by which the scheduler counts no pod but the new one."""
        found = self.label_selector
        return found is not None and not (
            found.match_labels or found.match_expressions or self.match_label_keys
        )


def near(affinity: Mapping[str, Any] | None) -> tuple[Term, ...]:
    """Return the terms of required pod affinity."""
    return _read(mappings(mapping(affinity or {}, "podAffinity"), _REQUIRED), Term)


def apart(affinity: Mapping[str, Any] | None) -> tuple[Term, ...]:
    """Return the terms of required pod anti-affinity."""
    return _read(mappings(mapping(affinity or {}, "podAntiAffinity"), _REQUIRED), Term)


def spread(spec: Mapping[str, Any]) -> tuple[Spread, ...]:
    """Return the constraints of a pod's spec that must hold."""
    listed = mappings(spec, "topologySpreadConstraints")
    return _read([each for each in listed if each.get("whenUnsatisfiable") == "DoNotSchedule"], Spread)


def with_domains(found: tuple[Spread, ...], template: Mapping[str, Any]) -> tuple[Spread, ...]:
    """Return a pod's constraints with the least numbers of domains of the template that it was made from: pods that are
    placed by name don't have them.
    """
    asked = spread(template)
    if [each.topology_key for each in asked] != [each.topology_key for each in found]:
        return found
    return tuple(
        msgspec.structs.replace(mine, min_domains=theirs.min_domains)
        for mine, theirs in zip(found, asked, strict=True)
    )


def _read(listed: list[Mapping[str, Any]], kind: type[T]) -> tuple[T, ...]:
    found = []
    for each in listed:
        try:
            found.append(msgspec.convert({k: v for k, v in each.items() if v is not None}, kind))
        except (msgspec.ValidationError, RecursionError):
            continue
    return tuple(found)


def key(affinity: Mapping[str, Any] | None, namespace: str, labels: Mapping[str, str]) -> bytes:
    """Return what is equal for pods that others can't tell apart by their affinity."""
    listed = mapping(affinity or {}, "podAntiAffinity").get(_REQUIRED)
    return msgspec.json.encode((namespace, strings(labels), listed or None), order="sorted")
