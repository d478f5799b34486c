"""What `kubectl ocr doctor` has read of a cluster, before anything is made of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from kubectl_ocr.objects.cluster import Definition, Deployment, Lease, Node
from kubectl_ocr.objects.pod import Pod
from kubectl_ocr.objects.resource import Resource

RIGHTS: Final = "docs/kubectl-plugin.md lists the rights that this command uses"


@dataclass(frozen=True)
class Unknown:
    """Why a check couldn't be made, and what helps."""

    message: str
    way_out: str = RIGHTS


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Answers of the cluster. None is what couldn't be read; `unknown` says why, by the check that needs it."""

    namespace: str
    version: str
    now: datetime
    definitions: Sequence[Definition] | None = None
    operators: Sequence[Deployment] | None = None
    leader: Lease | None = None
    owner: Lease | None = None
    nodes: Sequence[Node] | None = None
    runtime_classes: Sequence[str] | None = None
    resources: Sequence[Resource] | None = None
    pods: Sequence[Pod] | None = None
    metrics: Mapping[str, float] | None = None
    """Sums of the operator's own metrics, by name and labels as they are exposed."""
    unknown: Mapping[str, Unknown] = field(default_factory=dict)

    def operator(self) -> Deployment | None:
        """Return the operator of this namespace: its owner, else the only one that would watch it."""
        found = [each for each in self.operators or () if watches(each, self.namespace)]
        holder = "/".join(self.owner.held(self.now).split("/")[:2]) if self.owner is not None else ""
        return next((each for each in found if each.full_name == holder), found[0] if found else None)


def watches(operator: Deployment, namespace: str) -> bool:
    watched = operator.variable("OCR_OPERATOR_WATCH_NAMESPACES")
    return not watched or namespace in [each.strip() for each in watched.split(",")]
