"""What a cluster has besides resources and their pods: nodes, the operator's own objects, definitions, events."""

from datetime import datetime

import msgspec

from kubectl_ocr.objects.part import Metadata, Part
from kubectl_ocr.objects.pod import PodSpec
from ocr_wire import definitions, names, numbers
from ocr_wire.text import Count, Time


class Event(Part, frozen=True):
    reason: str = ""
    message: str = ""
    first_timestamp: Time | None = None
    last_timestamp: Time | None = None

    @property
    def time(self) -> datetime | None:
        """Time at which it last happened."""
        return self.last_timestamp or self.first_timestamp


class _Amounts(Part, frozen=True):
    capacity: dict[str, str] = msgspec.field(default_factory=dict)
    allocatable: dict[str, str] = msgspec.field(default_factory=dict)


class Node(Part, frozen=True):
    metadata: Metadata
    status: _Amounts = _Amounts()

    @property
    def gpus(self) -> int:
        """Number of GPUs that the node announces."""
        return _number(self.status.capacity.get(names.RESOURCE_GPU, ""))

    def usable(self, resource: str) -> int:
        """Return how many devices of a resource pods may have: a device plugin takes out what is broken."""
        return _number(self.status.allocatable.get(resource, ""))

    @property
    def product(self) -> str:
        return self.metadata.labels.get(names.LABEL_GPU_PRODUCT, "")

    @property
    def gpu_memory_bytes(self) -> int:
        """Memory of each of its GPUs; 0 where no label has it."""
        return _number(self.metadata.labels.get(names.LABEL_GPU_MEMORY, "")) * 2**20


class _Template(Part, frozen=True):
    spec: PodSpec = PodSpec()


class _DeploymentSpec(Part, frozen=True):
    replicas: Count = 1
    template: _Template = _Template()


class _DeploymentStatus(Part, frozen=True):
    ready_replicas: Count = 0


class Deployment(Part, frozen=True):
    """Deployment of apps/v1: the operator's."""

    metadata: Metadata
    spec: _DeploymentSpec = _DeploymentSpec()
    status: _DeploymentStatus = _DeploymentStatus()

    @property
    def version(self) -> str:
        return self.metadata.labels.get("app.kubernetes.io/version", "")

    @property
    def full_name(self) -> str:
        return f"{self.metadata.namespace}/{self.metadata.name}"

    def variable(self, name: str) -> str:
        """Return a variable of its containers; empty where it isn't set."""
        found = (each for container in self.spec.template.spec.containers for each in container.env)
        return next((each.value for each in found if each.name == name), "")


class _LeaseSpec(Part, frozen=True):
    holder_identity: str | None = None
    lease_duration_seconds: Count = 15
    renew_time: Time | None = None


class Lease(Part, frozen=True):
    metadata: Metadata
    spec: _LeaseSpec = _LeaseSpec()

    def held(self, now: datetime) -> str:
        """Return its holder; empty where it has none, or one that hasn't renewed it in time."""
        holder, renewed = self.spec.holder_identity or "", self.spec.renew_time
        late = renewed is None or (now - renewed).total_seconds() > 2 * self.spec.lease_duration_seconds
        return "" if late else holder


class _Schema(Part, frozen=True):
    whole: msgspec.Raw = msgspec.field(default=msgspec.Raw(b"{}"), name="openAPIV3Schema")


class _DefinitionVersion(Part, frozen=True):
    name: str
    schema: _Schema = _Schema()


class _DefinitionSpec(Part, frozen=True):
    versions: tuple[_DefinitionVersion, ...] = ()


class Definition(Part, frozen=True):
    """A CustomResourceDefinition."""

    metadata: Metadata
    spec: _DefinitionSpec = _DefinitionSpec()

    @property
    def schema_digest(self) -> str:
        """Return the digest of the schema of the version that this plugin knows; empty where there is none."""
        found = next((each for each in self.spec.versions if each.name == names.VERSION), None)
        return definitions.digest(msgspec.json.decode(found.schema.whole)) if found else ""


def _number(text: str) -> int:
    return numbers.whole(text, 0, 10**12 - 1) or 0
