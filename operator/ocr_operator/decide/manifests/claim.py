"""The ResourceClaim of one pod: which GPU a pod with `gpu.sharing: claim` gets, as Dynamic Resource Allocation asks it.

A pod refers to a ResourceClaimTemplate, from which Kubernetes makes the pod's claim, the same for each pod. Ours says
another GPU for each pod, so there is no such template; instead the operator makes the claim, before it opens the gate,
as Kubernetes' own controller would have made it (owner and annotation), and that controller adopts it.
"""

from collections.abc import Sequence
from typing import Any, Final

from ocr_operator.decide.manifests.common import Manifest, labels
from ocr_operator.resources.observed import Pod
from ocr_operator.resources.spec import OcrDeployment

CLAIM: Final = "gpu"
"""The claim's name inside the pod, and that of its only request."""
ANNOTATION: Final = "resource.kubernetes.io/pod-claim-name"
"""What Kubernetes' resource claim controller finds a pod's claims by (`podResourceClaimAnnotation`)."""


def template_name(name: str) -> str:
    """The ResourceClaimTemplate that pods of resource `name` refer to, and that isn't there; made by hand, it gives
    pods a GPU of the scheduler's choice while the operator is down.
    """
    return f"{name}-gpu"


def claim(resource: OcrDeployment, pod: Pod, uuids: Sequence[str]) -> Manifest:
    """Any one device of the class that all selectors match; with `uuids`, one of these."""
    wanted = resource.spec.gpu.claim
    selectors = [*wanted.selectors]
    if uuids:
        listed = ", ".join(f"'{uuid}'" for uuid in sorted(uuids))
        # Of another driver's device the attribute isn't there, and the whole expression would fail.
        selectors.insert(
            0,
            f"device.driver == '{wanted.driver}' && device.attributes['{wanted.driver}'].uuid in [{listed}]",
        )
    exactly: dict[str, Any] = {"deviceClassName": wanted.device_class_name}
    if selectors:
        exactly["selectors"] = [{"cel": {"expression": each}} for each in selectors]
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {
            "name": f"{pod.name}-{CLAIM}",
            "namespace": pod.namespace,
            "labels": labels(resource.name),
            "annotations": {ANNOTATION: CLAIM},
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid, "controller": True}
            ],
        },
        "spec": {"devices": {"requests": [{"name": CLAIM, "exactly": exactly}]}},
    }


def on_pod(name: str) -> dict[str, Any]:
    """The pod's reference to its claim."""
    return {"resourceClaims": [{"name": CLAIM, "resourceClaimTemplateName": template_name(name)}]}
