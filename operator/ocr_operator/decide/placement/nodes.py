"""Whether a pod may go to a node at all: what the scheduler would refuse is no candidate."""

from collections.abc import Mapping
from typing import Any, Final

from ocr_operator.decide.placement import devices
from ocr_operator.decide.placement.types import Request
from ocr_operator.gpuload import dcgm
from ocr_operator.resources.observed import Node, Taint, Toleration
from ocr_wire import numbers

REPLICAS_LABEL: Final = "nvidia.com/gpu.replicas"
"""Above 1: the device plugin hands the same GPU to several pods (time slicing, MPS)."""
GPU_RESOURCES: Final = ("nvidia.com/gpu", "amd.com/gpu")
"""What device plugins call a whole GPU."""
CORDONED: Final = "cordoned"
NOT_READY: Final = "not ready"
PASSING: Final = (CORDONED, NOT_READY)
"""Obstacles that are often gone soon; what a node lacks is another."""
SHARED_SUFFIX: Final = ".shared"
"""What the device plugin adds to a resource's name when it is set to rename what it shares."""


def obstacle(request: Request, node: Node) -> str:
    """Why the pod can't go there, in words that follow "2 nodes are"; empty when it can.

    1. cordoned  2. not ready  3. tainted  4. not selected by the pod  5. out of reach of its volumes
    6. of another product
    """
    if node.cordoned:
        return CORDONED
    if not node.ready:
        return NOT_READY
    if not tolerated(request, node):
        return "tainted"
    if not selected(request, node):
        return "not selected by the pod"
    if not all(_selects(each, node) for each in request.volumes):
        return "out of reach of its volumes"
    named = product(request, node) if request.products else ""
    return "of another product" if named and not wanted_product(request, named) else ""


def product(request: Request, node: Node) -> str:
    """Return what the node says of the product of its GPUs; empty where it doesn't."""
    return node.labels.get(devices.product_label(request.resource), "")


def wanted_product(request: Request, name: str) -> bool:
    return not request.products or dcgm.product(name) in {dcgm.product(each) for each in request.products}


def shares(node: Node, resource: str = "") -> bool:
    """The device plugin may give one GPU to several pods: of that resource, or of any if none is named."""
    names = (resource,) if resource else node.allocatable
    if any(name.endswith(SHARED_SUFFIX) for name in names):
        return True
    return numbers.whole(node.labels.get(REPLICAS_LABEL, ""), 2, 99_999_999) is not None


def tolerated(request: Request, node: Node) -> bool:
    """Return whether the pod tolerates all taints that keep pods away."""
    return all(
        taint.effect == "PreferNoSchedule" or any(_tolerates(each, taint) for each in request.tolerations)
        for taint in node.taints
    )


def selected(request: Request, node: Node) -> bool:
    """Return whether the node is what the pod's selector and required node affinity ask for."""
    if any(node.labels.get(key) != value for key, value in request.node_selector.items()):
        return False
    required = _map(
        _map(request.affinity or {}, "nodeAffinity"), "requiredDuringSchedulingIgnoredDuringExecution"
    )
    return not required or _selects(required, node)


def _tolerates(toleration: Toleration, taint: Taint) -> bool:
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.operator == "Exists":
        return toleration.key in ("", taint.key)
    if toleration.key != taint.key:
        return False
    if toleration.operator in ("Gt", "Lt"):
        return _compares(toleration.operator, taint.value, [toleration.value], canonical=True)
    return toleration.operator == "Equal" and toleration.value == taint.value


def _selects(selector: Mapping[str, Any], node: Node) -> bool:
    terms = selector.get("nodeSelectorTerms")
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


def _compares(operator: str, value: str | None, values: list[str], *, canonical: bool = False) -> bool:
    """Compare numbers; `canonical` ones are written as numbers are, without zeros in front and `+`: those of taints."""
    texts = value or "", values[0] if values else ""
    left, right = (_integer(each) for each in texts)
    if left is None or right is None or (canonical and (str(left), str(right)) != texts):
        return False
    return left > right if operator == "Gt" else left < right


def _integer(text: str) -> int | None:
    """Return what the scheduler reads there: a number of 64 bits, which may have a sign."""
    return numbers.whole(text.removeprefix("+") if text[1:2].isdigit() else text, -(2**63), 2**63 - 1)


def _map(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = raw.get(key)
    return value if isinstance(value, Mapping) else {}


def _list(raw: Mapping[str, Any], key: str) -> list[Any]:
    value = raw.get(key)
    return value if isinstance(value, list) else []
