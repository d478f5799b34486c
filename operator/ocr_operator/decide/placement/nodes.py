"""Whether a pod may go to a node at all: what the scheduler would refuse is no candidate."""

from collections.abc import Mapping
from typing import Any, Final

from ocr_operator.decide.placement.types import Request
from ocr_operator.gpuload import dcgm
from ocr_operator.resources.observed import Node, Taint, Toleration

PRODUCT_LABEL: Final = "nvidia.com/gpu.product"
MEMORY_LABEL: Final = "nvidia.com/gpu.memory"
"""MiB, as GPU feature discovery writes it."""
REPLICAS_LABEL: Final = "nvidia.com/gpu.replicas"
"""Above 1: the device plugin hands the same GPU to several pods (time slicing, MPS)."""
SHARED_SUFFIX: Final = ".shared"
"""What the device plugin adds to a resource's name when it is set to rename what it shares."""


def obstacle(request: Request, node: Node) -> str:
    """Why the pod can't go there, in words that follow "2 nodes are"; empty when it can.

    1. cordoned  2. not ready  3. tainted  4. not selected by the pod  5. of another product
    """
    if node.cordoned:
        return "cordoned"
    if not node.ready:
        return "not ready"
    if any(taint.effect != "PreferNoSchedule" and not _tolerated(taint, request) for taint in node.taints):
        return "tainted"
    if not _selected(request, node):
        return "not selected by the pod"
    named = node.labels.get(PRODUCT_LABEL, "")
    if request.products and named and not wanted_product(request, named):
        return "of another product"
    return ""


def wanted_product(request: Request, name: str) -> bool:
    return not request.products or dcgm.product(name) in {dcgm.product(each) for each in request.products}


def memory_bytes(node: Node) -> int | None:
    """The size of each of the node's GPUs by its label; None where it doesn't say."""
    text = node.labels.get(MEMORY_LABEL, "")
    small = text.isascii() and text.isdigit() and len(text) < 9
    return int(text) * dcgm.MEBIBYTE or None if small else None


def shares(node: Node, resource: str = "") -> bool:
    """The device plugin may give one GPU to several pods: of that resource, or of any if none is named."""
    names = (resource,) if resource else node.allocatable
    if any(name.endswith(SHARED_SUFFIX) for name in names):
        return True
    text = node.labels.get(REPLICAS_LABEL, "")
    return text.isascii() and text.isdigit() and len(text) < 9 and int(text) > 1


def _tolerated(taint: Taint, request: Request) -> bool:
    return any(_tolerates(each, taint) for each in request.tolerations)


def _tolerates(toleration: Toleration, taint: Taint) -> bool:
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.operator == "Exists":
        return toleration.key in ("", taint.key)
    return toleration.key == taint.key and toleration.value == taint.value


def _selected(request: Request, node: Node) -> bool:
    if any(node.labels.get(key) != value for key, value in request.node_selector.items()):
        return False
    required = _map(
        _map(request.affinity or {}, "nodeAffinity"), "requiredDuringSchedulingIgnoredDuringExecution"
    )
    if not required:
        return True
    terms = required.get("nodeSelectorTerms")
    return isinstance(terms, list) and any(_matches(term, node) for term in terms)


def _matches(term: object, node: Node) -> bool:
    """Requirements of a term are ANDed; a term without any matches nothing, as in Kubernetes."""
    if not isinstance(term, Mapping):
        return False
    labels = _list(term, "matchExpressions")
    fields = _list(term, "matchFields")
    return bool(labels or fields) and (
        all(_holds(each, node.labels) for each in labels)
        and all(_holds(each, {"metadata.name": node.name}) for each in fields)
    )


def _holds(requirement: object, labels: Mapping[str, str]) -> bool:
    if not isinstance(requirement, Mapping):
        return False
    value = labels.get(str(requirement.get("key")))
    values = [str(each) for each in _list(requirement, "values")]
    match requirement.get("operator"):
        case "In":
            return value is not None and value in values
        case "NotIn":
            return value is None or value not in values
        case "Exists" | "DoesNotExist" as operator:
            return (operator == "Exists") is (value is not None)
        case "Gt" | "Lt" as operator:
            return _compares(operator, value, values)
        case _:
            return False


def _compares(operator: str, value: str | None, values: list[str]) -> bool:
    try:
        left, right = int(value or "", 10), int(values[0], 10)
    except (ValueError, IndexError):
        return False
    return left > right if operator == "Gt" else left < right


def _map(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = raw.get(key)
    return value if isinstance(value, Mapping) else {}


def _list(raw: Mapping[str, Any], key: str) -> list[Any]:
    value = raw.get(key)
    return value if isinstance(value, list) else []
