"""The ResourceClaim of one pod: which GPU a pod with `gpu.sharing: claim` gets, as Dynamic Resource Allocation asks it.

A pod refers to a ResourceClaimTemplate, from which Kubernetes makes the pod's claim, the same for each pod. Ours says
another GPU for each pod, so there is no such template; instead the operator makes the claim, before it opens the gate,
as Kubernetes' own controller would have made it (owner and annotation), and that controller adopts it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ocr_operator.decide.manifests.common import Manifest, labels
from ocr_operator.resources.observed import Pod
from ocr_operator.resources.reading import mapping, mappings, text
from ocr_operator.resources.spec import OcrDeployment
from ocr_wire import placement

CLAIM: Final = "gpu"
"""The claim's name inside the pod, and that of its only request."""
_UUID: Final = re.compile(r"\.uuid in \['([^']{1,128})'\]$")
ANNOTATION: Final = "resource.kubernetes.io/pod-claim-name"
"""What Kubernetes' resource claim controller finds a pod's claims by (`podResourceClaimAnnotation`)."""


def template_name(name: str) -> str:
    """The ResourceClaimTemplate that pods of resource `name` refer to, and that isn't there; made by hand, it gives
    pods a GPU of the scheduler's choice while the operator is down.
    """
    return f"{name}-gpu"


def claim(resource: OcrDeployment, pod: Pod, uuids: Sequence[str], barred: Sequence[str] = ()) -> Manifest:
    """One device of the class that all selectors match: the first of `uuids` that the pod can get; without them any but
    those that are `barred`.
    """
    wanted = resource.spec.gpu.claim
    # Of another driver's device the attribute isn't there, and the whole expression would fail.
    one_of = f"device.driver == '{wanted.driver}' && device.attributes['{wanted.driver}'].uuid in "
    asked: list[dict[str, Any]] = []
    for uuid in uuids or ("",):
        selectors = [*wanted.selectors]
        if uuid:
            selectors.insert(0, f"{one_of}['{uuid}']")
        elif barred:
            selectors.insert(0, f"!({one_of}[{', '.join(repr(each) for each in sorted(barred))}])")
        device: dict[str, Any] = {"deviceClassName": wanted.device_class_name}
        if selectors:
            device["selectors"] = [{"cel": {"expression": each}} for each in selectors]
        asked.append(device)
    several = [{"name": f"{CLAIM}-{n}", **each} for n, each in enumerate(asked)]
    request = {"exactly": asked[0]} if len(asked) == 1 else {"firstAvailable": several}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {
            "name": claim_name(pod),
            "namespace": pod.namespace,
            "labels": labels(resource.name),
            "annotations": {ANNOTATION: CLAIM},
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid, "controller": True}
            ],
        },
        "spec": {"devices": {"requests": [{"name": CLAIM, **request}]}},
    }


def claim_name(pod: Pod) -> str:
    """Return the name of a pod's claim."""
    return f"{pod.name}-{CLAIM}"


def asked(found: Mapping[str, Any]) -> list[tuple[str, str, list[str]]]:
    """List what a claim asks for, the first choice first: name, device class and selectors; the API server adds
    defaults beside them.
    """
    listed: list[tuple[str, str, list[str]]] = []
    for request in mappings(mapping(mapping(found, "spec"), "devices"), "requests"):
        name, several = text(request, "name"), mappings(request, "firstAvailable")
        for each in several or [mapping(request, "exactly")]:
            title = f"{name}/{text(each, 'name')}" if several else name
            selectors = [str(mapping(one, "cel").get("expression")) for one in mappings(each, "selectors")]
            listed.append((title, text(each, "deviceClassName"), selectors))
    return listed


def received(found: Mapping[str, Any]) -> str:
    """Return the UUID of the device that a claim of ours got; empty while it has none, and where it may be any."""
    results = mappings(mapping(mapping(mapping(found, "status"), "allocation"), "devices"), "results")
    got = {text(each, "request") for each in results}
    named = (_UUID.search(ours[0]) for title, _, ours in asked(found) if title in got and ours)
    return next((match[1] for match in named if match and placement.UUID.fullmatch(match[1])), "")


def on_pod(name: str) -> dict[str, Any]:
    """The pod's reference to its claim."""
    return {"resourceClaims": [{"name": CLAIM, "resourceClaimTemplateName": template_name(name)}]}
