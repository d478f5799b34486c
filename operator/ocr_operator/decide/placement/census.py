"""Pods on nodes, counted by what others' affinity and spread know them by, and found by the namespaces that these mean.

Most terms mean pods of one namespace, so a choice looks at few of the kinds of pods that a large cluster has.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

from ocr_operator.resources.tenant import Kin, Tenant

There = Mapping[Tenant, int]
"""Numbers of pods that are alike, each node's apart."""


class Census:
    """Numbers of pods. Written by its owner only, as pods come and go."""

    def __init__(self) -> None:
        self.changes = 0
        """Pods that were added or taken back so far."""
        self._kinds: dict[str | None, dict[Kin, Counter[Tenant]]] = {}
        self._apart: dict[str | None, dict[Kin, Counter[Tenant]]] = {}
        """Namespace → kinds with required anti-affinity that may mean its pods; None: pods of any."""

    def __len__(self) -> int:
        return sum(there.total() for _, there in self._all(None))

    def add(self, tenant: Tenant) -> None:
        self.changes += 1
        kin = tenant.kin
        there = self._kinds.setdefault(kin.namespace, {}).setdefault(kin, Counter())
        there[tenant] += 1
        for namespace in _reach(kin):
            self._apart.setdefault(namespace, {})[kin] = there

    def remove(self, tenant: Tenant) -> None:
        """Take back one that was added. KeyError for another."""
        self.changes += 1
        kin = tenant.kin
        kinds = self._kinds[kin.namespace]
        there = kinds[kin]
        if there[tenant] > 1:
            there[tenant] -= 1
            return
        del there[tenant]
        if not there:
            _drop(self._kinds, kin.namespace, kin)
            for namespace in _reach(kin):
                _drop(self._apart, namespace, kin)

    def of(self, namespaces: frozenset[str] | None = None) -> Iterator[tuple[Kin, There]]:
        """List the pods of some namespaces, or of all, by kind."""
        yield from self._all(namespaces)

    def apart_from(self, namespace: str) -> Iterator[tuple[Kin, There]]:
        """List those with required anti-affinity that may mean pods of a namespace."""
        for each in (namespace, None):
            yield from self._apart.get(each, {}).items()

    def _all(self, namespaces: frozenset[str] | None) -> Iterator[tuple[Kin, Counter[Tenant]]]:
        for each in [*self._kinds] if namespaces is None else namespaces:
            yield from self._kinds.get(each, {}).items()


def _reach(kin: Kin) -> set[str | None]:
    """Return the namespaces that its terms may mean: None alone where one may mean any."""
    found: set[str | None] = set()
    for term in kin.apart:
        spaces = term.reach(kin.namespace)
        if spaces is None:
            return {None}
        found |= spaces
    return found


def _drop(index: dict[str | None, dict[Kin, Counter[Tenant]]], namespace: str | None, kin: Kin) -> None:
    del index[namespace][kin]
    if not index[namespace]:
        del index[namespace]
