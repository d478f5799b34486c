"""The write of a Lease, which the API server lets one of several make."""

from ocr_operator.decide.leases import Create, Take
from ocr_operator.kube import api


async def write(kube: api.Kube, lease: api.Ref, step: Create | Take, spec: api.Json) -> api.Json:
    """Create the Lease, or write it as it was read; raises `api.Conflict` where another was faster."""
    if isinstance(step, Create):
        meta = {"name": lease.name, "namespace": lease.namespace}
        kind = {"apiVersion": lease.kind.api_version, "kind": lease.kind.name}
        return await kube.create({**kind, "metadata": meta, "spec": spec})
    guard = {"op": "test", "path": "/metadata/resourceVersion", "value": step.version}
    return await kube.patch(lease, [guard, {"op": "add", "path": "/spec", "value": spec}])
