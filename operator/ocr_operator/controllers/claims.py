"""Makes the ResourceClaim of a pod that is about to be placed, so that Kubernetes adopts it instead of its own."""

import logging
from typing import Any

from ocr_operator.kube import api

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
        if _selectors(there) == _selectors(manifest):
            return
        if (there.get("status") or {}).get("allocation"):
            raise api.Refused(ref, 409, "it is allocated already, by other selectors") from error
        log.info("making %s anew: the pod goes to another GPU", ref)
        await kube.delete(ref, uid=there["metadata"]["uid"])
        await kube.create(manifest)


def _owner(claim: api.Json) -> str:
    owners = claim["metadata"].get("ownerReferences") or [{}]
    return f"{owners[0].get('kind')} {owners[0].get('name')} ({owners[0].get('uid')})"


def _selectors(claim: api.Json) -> list[Any]:
    """List what the scheduler is asked for; the API server adds defaults beside it."""
    found = []
    for each in ((claim.get("spec") or {}).get("devices") or {}).get("requests") or ():
        exactly = each.get("exactly") or {}
        found.append((exactly.get("deviceClassName"), exactly.get("selectors") or []))
    return found
