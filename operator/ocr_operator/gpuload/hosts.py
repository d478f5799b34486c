"""Which of our nodes the labels of a Prometheus sample name.

Exporters, relabelling rules and clouds disagree on what a host is called: the node's name, its short or its full name,
an address. A Prometheus of several clusters knows nodes of the same name; where labels give that away, nothing is
believed of such a node, since its GPUs may be another's.
"""

from collections.abc import Collection, Mapping
from typing import Final

_LABELS: Final = (
    "exported_Hostname",
    "exported_hostname",
    "Hostname",
    "hostname",
    "exported_node",
    "node",
    "kubernetes_node",
    "instance",
)
"""Labels that may name the node. The first that names one of ours counts: without attribution to Kubernetes,
`Hostname` is the name of the exporter's pod."""
CLUSTER: Final = "cluster"
"""The label by which a Prometheus of several clusters tells them apart, by convention."""


class Hosts:
    """Names of our nodes, to be looked up in the labels of samples."""

    def __init__(self, nodes: Collection[str]) -> None:
        self._nodes = frozenset(nodes)
        short: dict[str, list[str]] = {}
        for node in self._nodes:
            if "." in node:
                short.setdefault(node.partition(".")[0], []).append(node)
        self._of_short = {name: found[0] for name, found in short.items() if len(found) == 1}
        self._named: dict[str, set[tuple[str, str]]] = {}

    def of(self, labels: Mapping[str, str]) -> str:
        """Return the node; empty where it is none of ours."""
        given = [labels[label].partition(":")[0] for label in _LABELS if labels.get(label)]
        for name in given:
            if name in self._nodes:
                return self._seen(name, labels.get(CLUSTER, ""), "")
        for name in given:
            if node := self._of_short.get(name):
                return self._seen(node, labels.get(CLUSTER, ""), "")
            head, _, domain = name.partition(".")
            if domain and head in self._nodes:
                return self._seen(head, labels.get(CLUSTER, ""), domain)
        return ""

    @property
    def doubtful(self) -> frozenset[str]:
        """Nodes that several clusters, or several domains, have a node of the name of, by what was looked up."""
        return frozenset(
            node
            for node, named in self._named.items()
            if any(len({each[part] for each in named if each[part]}) > 1 for part in (0, 1))
        )

    def _seen(self, node: str, cluster: str, domain: str) -> str:
        self._named.setdefault(node, set()).add((cluster, domain))
        return node
