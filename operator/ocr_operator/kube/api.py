"""What the operator asks of an API server: five verbs, a watch, and the ways in which they fail.

Only words. `kube` says them to a real API server; tests say them to a small one in memory that passes the
same suite.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, Protocol

from ocr_operator.kube import shapes
from ocr_wire import names

Json = Mapping[str, Any]
"""An object as the API server spells it. Treat as frozen: caches hand out the same one to all."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object and where the API server keeps it."""

    api_version: str
    name: str
    plural: str
    namespaced: bool = True
    free_form: bool = False
    """Some of it has no schema: it may be nested as deep as its author likes."""
    fields: str = ""
    """Field selector: objects that don't match aren't there."""
    shape: type[Any] | None = None
    """A msgspec struct of the only fields that are read; None: all of it."""

    @property
    def root(self) -> str:
        """`/api/v1` or `/apis/<group>/<version>`."""
        return f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"


POD: Final = Kind("v1", "Pod", "pods", shape=shapes.PodShape)
TENANT: Final = Kind(
    *("v1", "Pod", "pods"),
    fields="status.phase!=Succeeded,status.phase!=Failed",
    shape=shapes.TenantShape,
)
"""A pod that takes something of a node, or will, reduced to what others meet of it. Only for watches.

Those without a node are among them: no selector of fields finds the bound ones and those that a node is promised to.
"""
NODE: Final = Kind("v1", "Node", "nodes", namespaced=False)
SECRET: Final = Kind("v1", "Secret", "secrets")
SERVICE: Final = Kind("v1", "Service", "services")
EVENT: Final = Kind("v1", "Event", "events")
DEPLOYMENT: Final = Kind("apps/v1", "Deployment", "deployments")
BUDGET: Final = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
NAMESPACE: Final = Kind("v1", "Namespace", "namespaces", namespaced=False)
PERSISTENT_VOLUME: Final = Kind("v1", "PersistentVolume", "persistentvolumes", namespaced=False)
PERSISTENT_VOLUME_CLAIM: Final = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
STORAGE_CLASS: Final = Kind("storage.k8s.io/v1", "StorageClass", "storageclasses", namespaced=False)
LEASE: Final = Kind("coordination.k8s.io/v1", "Lease", "leases")
RESOURCE_CLAIM: Final = Kind("resource.k8s.io/v1", "ResourceClaim", "resourceclaims")
OCR_DEPLOYMENT: Final = Kind(names.API_VERSION, names.KIND, names.PLURAL, free_form=True)
OCR_IDLE_POLICY: Final = Kind(names.API_VERSION, names.POLICY_KIND, names.POLICY_PLURAL, namespaced=False)

KINDS: Final = (
    *(POD, NODE, SECRET, SERVICE, EVENT, DEPLOYMENT, BUDGET, NAMESPACE, LEASE, RESOURCE_CLAIM),
    *(PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, STORAGE_CLASS, OCR_DEPLOYMENT, OCR_IDLE_POLICY),
)
"""All kinds that the operator touches; the chart's RBAC names the same ones."""


def kind_of(manifest: Json) -> Kind:
    """The kind of a manifest; KeyError for one that the operator has no business with."""
    return _BY_NAME[manifest["apiVersion"], manifest["kind"]]


_BY_NAME: Final = {(kind.api_version, kind.name): kind for kind in KINDS}


@dataclass(frozen=True, slots=True)
class Ref:
    """One object: what an error names and what a verb addresses."""

    kind: Kind
    namespace: str
    name: str

    def __str__(self) -> str:
        place = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind.name} {place}" if self.name else f"{self.kind.plural} of {place or 'the cluster'}"


def ref_of(manifest: Json) -> Ref:
    meta = manifest["metadata"]
    return Ref(kind_of(manifest), meta.get("namespace", ""), meta["name"])


NO_VERSION: Final = "1"
"""A resource version that no object has: the first write of etcd has 2."""


def as_new(manifest: Json) -> Json:
    """Return the manifest so that `apply` creates it, or else is a `Conflict`: it writes over no object."""
    return {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": NO_VERSION}}


@dataclass(frozen=True, slots=True)
class Listed:
    """The whole truth at one moment; what isn't in it is gone."""

    items: Sequence[Json]


@dataclass(frozen=True, slots=True)
class Changed:
    """One object that was added, modified or deleted; `item` is its last state."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    item: Json


@dataclass(frozen=True, slots=True)
class Alive:
    """The watch proved that it works while nothing changed (a bookmark)."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The watch broke and is retried; what was seen before may be old from now on."""

    error: "KubeError"


WatchEvent = Listed | Changed | Alive | Lost


class KubeError(Exception):
    """The API server did not do what was asked: which object, what it said, what to do next."""

    def __init__(self, ref: Ref, status: int, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(ref, status, message)
        self.ref = ref
        self.status = status
        """The HTTP status; 0 when there was no answer."""
        self.message = message
        self.retry_after = retry_after
        """Seconds that the API server asked us to wait, if it did."""

    verb: ClassVar[str] = "failed"
    ways_out: ClassVar[Mapping[int, str]] = {
        401: "check the operator's token (service account or kubeconfig)",
        403: "check the operator's role and the quotas of the namespace",
    }

    def __str__(self) -> str:
        code = f" ({self.status})" if self.status else ""
        way_out = f"; {self.ways_out[self.status]}" if self.status in self.ways_out else ""
        return f"{self.ref} {self.verb}: {self.message}{code}{way_out}"


class NotFound(KubeError):
    """The object isn't there, or is another one of that name (uid)."""

    verb = "was not found"


class Conflict(KubeError):
    """The object changed since it was read, or exists already: read again, decide again."""

    verb = "changed meanwhile"


class Refused(KubeError):
    """The API server understood and said no: asking again without a change won't help."""

    verb = "was refused"


class Unavailable(KubeError):
    """No answer, a 5xx or a 429: the same request may work later."""

    verb = "was not answered"


class Kube(Protocol):
    """The API server. Every verb raises a `KubeError`, and nothing else that is the API server's fault."""

    async def get(self, ref: Ref) -> Json: ...

    async def find(self, kind: Kind, *, namespace: str = "", selector: str = "") -> Sequence[Json]:
        """All objects of a kind; an empty `namespace` means all. Items bear `apiVersion` and `kind`."""
        ...

    def watch(self, kind: Kind, *, namespace: str = "", selector: str = "") -> AsyncIterator[WatchEvent]:
        """`Listed` first and again after every gap, `Changed` between; never ends and never raises."""
        ...

    async def apply(self, manifest: Json) -> Json:
        """Server-side apply with our field manager and force: creates, or takes the fields it names.

        With a `resourceVersion` it is a `Conflict` where there is an object of another version; where there is none, it
        creates one all the same. So do Kubernetes 1.30 to 1.36; another API server might refuse that as a `Conflict` or
        as `NotFound`.
        """
        ...

    async def apply_status(self, ref: Ref, status: Json, *, resource_version: str) -> Json:
        """Write the complete status, only if the object is still at `resource_version`; else `Conflict`."""
        ...

    async def patch(self, ref: Ref, operations: Sequence[Json], *, subresource: str = "") -> Json:
        """A JSON patch (RFC 6902). One that doesn't fit (a failed `test`, no such path) is a `Conflict`."""
        ...

    async def create(self, manifest: Json) -> Json:
        """`Conflict` when there is one of that name."""
        ...

    async def delete(self, ref: Ref, *, uid: str, resource_version: str = "") -> None:
        """Delete that very object; one that is gone or replaced is `NotFound`. With `resource_version` only as it was
        read; a changed or replaced one is `Conflict`.
        """
        ...
