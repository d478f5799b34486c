"""Which pods are believed as exporters: any pod may have an exporter's labels, and say of its node what it likes."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from ocr_operator.resources.observed import Pod
from ocr_wire import names

EVERYWHERE: Final = "*"
WELL_KNOWN: Final = frozenset({"gpu-operator", "nvidia-gpu-operator", "kube-system", "monitoring", "default"})
"""Namespaces in which exporters are usually installed, and users of a cluster usually have no rights: those of NVIDIA's
GPU operator by Helm and by OperatorHub, and those into which its own chart and manifest of the exporter go.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    owners: Collection[str]
    """Kinds, and `Kind/name`, of owners; `*` is any and none."""
    namespaces: Collection[str] = ()
    """Empty: the operator's own, well-known ones, and those that have the label."""
    home: str = ""
    """The operator's own namespace."""
    labels: Callable[[str], Mapping[str, str]] = field(default=lambda _: {})
    """Returns the labels of a namespace, which its users don't set."""

    def objection(self, pod: Pod) -> str:
        """Say why the pod isn't believed, and the way out; empty where it is."""
        if not self._owned(pod):
            return "by its owner; see OCR_OPERATOR_EXPORTER_OWNERS"
        if not self._at_home(pod.namespace):
            way_out = f"kubectl label namespace {pod.namespace} {names.LABEL_GPU_EXPORTERS}={names.TRUSTED}"
            return f"by its namespace; to believe it: {way_out}, or OCR_OPERATOR_EXPORTER_NAMESPACE"
        return ""

    def _owned(self, pod: Pod) -> bool:
        owner = pod.owner
        return EVERYWHERE in self.owners or (
            owner is not None and (owner.kind in self.owners or f"{owner.kind}/{owner.name}" in self.owners)
        )

    def _at_home(self, namespace: str) -> bool:
        if self.namespaces:
            return EVERYWHERE in self.namespaces or namespace in self.namespaces
        return (
            namespace == self.home
            or namespace in WELL_KNOWN
            or self.labels(namespace).get(names.LABEL_GPU_EXPORTERS) == names.TRUSTED
        )
