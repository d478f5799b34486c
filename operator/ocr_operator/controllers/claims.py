"""Makes the ResourceClaim of a pod that is about to be placed, so that Kubernetes adopts it instead of its own."""

import logging
from collections.abc import Callable, Sequence
from typing import Final

from ocr_operator.decide.manifests.claim import asked, claim_name, received
from ocr_operator.kube import api
from ocr_operator.resources.observed import Pod
from ocr_wire import names

UNPROCESSABLE: Final = 422
"""HTTP status of an object that the API server finds invalid, such as one with fields that are switched off."""

log = logging.getLogger(__name__)


async def ensure(kube: api.Kube, manifest: api.Json) -> None:
    """The claim is there and says what `manifest` says. One that says otherwise, left by a placement whose patch
    failed, is made anew: a claim's spec can't be changed. Raises `api.KubeError`.
    """
    try:
        await kube.create(manifest)
    except api.Conflict as error:
        ref = api.ref_of(manifest)
        there = await kube.get(ref)
        owner = _owner(manifest)
        if _owner(there) != owner:
            raise api.Refused(ref, 409, f"it belongs to {_owner(there)}, not to {owner}") from error
        if asked(there) == asked(manifest):
            return
        if (there.get("status") or {}).get("allocation"):
            raise api.Refused(ref, 409, "it is allocated already, by other selectors") from error
        log.info("making %s anew: the pod goes to another GPU", ref)
        await kube.delete(ref, uid=there["metadata"]["uid"])
        await kube.create(manifest)


def _owner(claim: api.Json) -> str:
    owners = claim["metadata"].get("ownerReferences") or [{}]
    return f"{owners[0].get('kind')} {owners[0].get('name')} ({owners[0].get('uid')})"


async def make(
    kube: api.Kube, manifest: Callable[[Sequence[str]], api.Json], uuids: Sequence[str]
) -> Sequence[str]:
    """Make a claim that lists GPUs; where the API server takes no list, of the first alone. Returns those that it
    names. Raises `api.KubeError`.
    """
    try:
        await ensure(kube, manifest(uuids))
    except api.Refused as error:
        if error.status != UNPROCESSABLE or len(uuids) < 2:
            raise
        log.info("claiming one GPU, not one of %d: %s", len(uuids), error)
        uuids = uuids[:1]
        await ensure(kube, manifest(uuids))
    return uuids


async def allocated(kube: api.Kube, pod: Pod) -> str:
    """Return the GPU that the pod got of those that its claim lists; empty while that isn't known, or the claim is
    another pod's. Raises `api.KubeError`.
    """
    try:
        there = await kube.get(api.Ref(api.RESOURCE_CLAIM, pod.namespace, claim_name(pod)))
    except api.NotFound:
        return ""
    users = (there.get("status") or {}).get("reservedFor") or ()
    return received(there) if any(each.get("uid") == pod.uid for each in users) else ""


def unconfirmed(pod: Pod) -> bool:
    """Return whether the pod has one of several GPUs, and its annotation doesn't say which."""
    claims = bool(pod.annotation(names.ANNOTATION_CLAIM))
    return (
        claims and bool(pod.node) and not pod.finished and "," in pod.annotation(names.ANNOTATION_GPU_UUIDS)
    )
