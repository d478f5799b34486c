"""What the inference container asks of its node: the device, and CPU and memory so that no pod is `BestEffort`.

Pods without requests are refused by quotas, evicted first, and invisible to an autoscaler by CPU. Defaults are the
least that a pod takes while it reads a page, as measured (docs/operations.md): asking for more leaves pods without a
node that would have had room. Weights from a hub aren't counted: their size is known once they are there (ADR 38).
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ocr_operator.decide.manifests.claim import CLAIM
from ocr_operator.resources.reading import mapping, mappings, text
from ocr_operator.resources.spec import Spec
from ocr_wire import engines, names
from ocr_wire.quantity import Bytes

CPU: Final = "250m"
"""Ten pages a minute of PP-OCR, of 0.75 s on two cores each. No limit: pages take what is free."""
SERVER_MIB: Final = 64
"""The server without a model, which takes 39 MiB, and pages on their way in."""


def of(spec: Spec) -> dict[str, Any]:
    """Return `resources` of the container, over which the resource's template is laid."""
    requests = {**_defaults(spec), **spec.asked.requests.said()}
    limits = spec.asked.limits.said()
    made: dict[str, Any] = {}
    if spec.gpu.sharing == "exclusive":
        requests[spec.gpu.resource_name] = limits[spec.gpu.resource_name] = "1"
    if requests:
        made["requests"] = requests
    if limits:
        made["limits"] = limits
    if spec.gpu.sharing == "claim":
        made["claims"] = [{"name": CLAIM}]
    return made


def _defaults(spec: Spec) -> dict[str, str]:
    """Return the requests of what the resource says nothing about.

    A limit without a request is one: Kubernetes takes it as the request, and one of ours could be above it. So is what
    the template says of the pod as a whole, which its containers must not exceed together.
    """
    said = {*spec.asked.limits.said(), *_said_by(spec.template.spec)}
    mib = SERVER_MIB + sum(engines.BY_NAME[model.engine].worker_mib for model in spec.models)
    usual = {"cpu": CPU, "memory": Bytes(mib * 2**20).quantity()}
    return {name: amount for name, amount in usual.items() if name not in said}


def _said_by(template: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of what a template limits in our container, and of what it says of the pod as a whole."""
    for each in mappings(template, "containers"):
        if text(each, "name") == names.CONTAINER:
            yield from _names(mapping(mapping(each, "resources"), "limits"))
    whole = mapping(template, "resources")
    yield from _names(mapping(whole, "requests"))
    yield from _names(mapping(whole, "limits"))


def _names(amounts: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of amounts that are said; null says none."""
    yield from (name for name, amount in amounts.items() if amount is not None)
