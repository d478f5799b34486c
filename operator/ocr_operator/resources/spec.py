"""The resource as frozen data: what `crds/ocrdeployments.yaml` says, in types.

The API server validates and fills defaults before anything is stored, so `parse` normally finds nothing
wrong. It checks all the same, because a body can slip through: stored under an older CRD, or written while
the CRD was edited by hand. Field names, bounds, defaults and enumerations are the CRD's own; a contract test
compares the two.

Unknown fields are ignored: the API server prunes them and `kubectl` refuses them with a warning, so one that
arrives here comes from a newer CRD than this operator, and refusing to run what we do understand would turn a
rollback into an outage.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Final, Literal

import msgspec

from ocr_operator.resources import free_form
from ocr_wire import names
from ocr_wire.engines import Attention, Dtype, Engine, broken_rules
from ocr_wire.quantity import Amount, Bytes
from ocr_wire.settings import LogLevel, RoutingPolicy, admitted
from ocr_wire.text import whole

MAX_NAME: Final = 46
"""A pod is named `<name>-<10 characters>-<5>`; up to here that stays a DNS label (63), so it is never cut."""

Sharing = Literal["exclusive", "shared", "claim", "none"]
MemoryPolicy = Literal["reserved", "onDemand"]

NAME_PATTERN: Final = whole(r"^[a-z]([-a-z0-9]*[a-z0-9])?$")
MODEL_PATTERN: Final = whole(r"^[a-z0-9]([-._a-z0-9]*[a-z0-9])?$")
SUBDOMAIN_PATTERN: Final = whole(r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")
OPTIONAL_SUBDOMAIN_PATTERN: Final = whole(r"^([a-z0-9]([-.a-z0-9]*[a-z0-9])?)?$")
REPO_PATTERN: Final = whole(r"^[A-Za-z0-9][-._A-Za-z0-9]*/[A-Za-z0-9][-._A-Za-z0-9]*$")
REVISION_PATTERN: Final = whole(r"^[A-Za-z0-9][-._/A-Za-z0-9]*$")
PATH_PATTERN: Final = whole(r"^/[^\x00-\x1f]*$")
SUBPATH_PATTERN: Final = whole(r"^[^/\x00-\x1f][^\x00-\x1f]*$")
IMAGE_PATTERN: Final = whole(r"^[^\s]+$")
LABEL_VALUE_PATTERN: Final = whole(r"^[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?$")
RESOURCE_PATTERN: Final = whole(r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?/[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?$")

Timeout = Annotated[int, admitted("idle.offloadAfterSeconds")]
"""Seconds since the last activity; -1 is never, 0 as soon as the last request is done."""


class _Part(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A part of the resource: camelCase outside, unknown fields ignored (see the module)."""


class HuggingFace(_Part, frozen=True):
    repo: Annotated[str, msgspec.Meta(min_length=3, max_length=200, pattern=REPO_PATTERN)]
    revision: Annotated[str, msgspec.Meta(min_length=1, max_length=128, pattern=REVISION_PATTERN)] = "main"


class Source(_Part, frozen=True):
    """Exactly one of the two is set."""

    hugging_face: HuggingFace | None = None
    path: Annotated[str, msgspec.Meta(min_length=2, max_length=1024, pattern=PATH_PATTERN)] | None = None


class IdleOverride(_Part, frozen=True):
    """A model's own timeouts; None keeps the one of `spec.idle`."""

    offload_after_seconds: Timeout | None = None
    exit_after_seconds: Timeout | None = None
    drop_standby_after_seconds: Timeout | None = None
    release_after_seconds: Timeout | None = None


class Idle(_Part, frozen=True):
    offload_after_seconds: Timeout = 60
    exit_after_seconds: Timeout = 300
    drop_standby_after_seconds: Timeout = 900
    release_after_seconds: Timeout = 1800

    def merged(self, override: IdleOverride) -> "Idle":
        """Field by field: what the model sets wins."""
        ours = {name: getattr(override, name) for name in override.__struct_fields__}
        return msgspec.structs.replace(
            self, **{name: value for name, value in ours.items() if value is not None}
        )


class Model(_Part, frozen=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=63, pattern=MODEL_PATTERN)]
    engine: Engine
    source: Source | None = None
    dtype: Dtype = "auto"
    attention: Attention = "auto"
    gpu_memory: Bytes | None = None
    idle: IdleOverride = IdleOverride()
    priority: Annotated[int, admitted("priority")] = 0
    preload: bool = False


class Batching(_Part, frozen=True):
    max_pages: Annotated[int, admitted("batching.maxPages")] = 8
    max_wait_milliseconds: Annotated[int, admitted("batching.maxWaitMilliseconds")] = 10


class Queue(_Part, frozen=True):
    limit: Annotated[int, admitted("queue.limit")] = 64
    patience_seconds: Annotated[int, admitted("queue.patienceSeconds")] = 10
    deadline_seconds: Annotated[int, admitted("queue.deadlineSeconds")] = 300


class Routing(_Part, frozen=True):
    policy: RoutingPolicy = "warmFirst"
    max_queue_per_pod: Annotated[int, admitted("routing.maxQueuePerPod")] = 4
    min_awake: Annotated[int, admitted("routing.minAwake")] = 0
    stabilization_seconds: Annotated[int, admitted("routing.stabilizationSeconds")] = 30


class Claim(_Part, frozen=True):
    """Request of a pod by Dynamic Resource Allocation."""

    device_class_name: Annotated[
        str, msgspec.Meta(min_length=1, max_length=253, pattern=SUBDOMAIN_PATTERN)
    ] = "gpu.nvidia.com"
    driver: Annotated[str, msgspec.Meta(min_length=1, max_length=63, pattern=SUBDOMAIN_PATTERN)] = (
        "gpu.nvidia.com"
    )
    selectors: Annotated[
        tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=4096)], ...], msgspec.Meta(max_length=16)
    ] = ()


class Gpu(_Part, frozen=True):
    sharing: Sharing = "exclusive"
    memory_policy: MemoryPolicy = "reserved"
    resource_name: Annotated[str, msgspec.Meta(min_length=3, max_length=253, pattern=RESOURCE_PATTERN)] = (
        "nvidia.com/gpu"
    )
    products: Annotated[
        tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=63, pattern=LABEL_VALUE_PATTERN)], ...],
        msgspec.Meta(max_length=16),
    ] = ()
    runtime_class_name: Annotated[str, msgspec.Meta(max_length=253, pattern=OPTIONAL_SUBDOMAIN_PATTERN)] = (
        "nvidia"
    )
    claim: Claim = Claim()


class EmptyDir(_Part, frozen=True):
    size_limit: Bytes | None = None


class PersistentVolumeClaim(_Part, frozen=True):
    claim_name: Annotated[str, msgspec.Meta(min_length=1, max_length=253, pattern=SUBDOMAIN_PATTERN)]
    sub_path: Annotated[str, msgspec.Meta(min_length=1, max_length=512, pattern=SUBPATH_PATTERN)] | None = (
        None
    )


class HostPath(_Part, frozen=True):
    path: Annotated[str, msgspec.Meta(min_length=2, max_length=1024, pattern=PATH_PATTERN)]
    type: Literal["DirectoryOrCreate", "Directory"] = "DirectoryOrCreate"


class Cache(_Part, frozen=True):
    """Exactly one of the three volumes is set."""

    empty_dir: EmptyDir | None = None
    persistent_volume_claim: PersistentVolumeClaim | None = None
    host_path: HostPath | None = None
    weights_in_memory: Literal["perPod", "perNode"] = "perPod"


class Limits(_Part, frozen=True):
    max_upload_bytes: Annotated[int, msgspec.Meta(ge=1024, le=2**30)] = 50 * 2**20
    max_image_pixels: Annotated[int, msgspec.Meta(ge=1024, le=10**9)] = 100_000_000
    max_pdf_pages: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 200


class Server(_Part, frozen=True):
    image: Annotated[str, msgspec.Meta(min_length=1, max_length=500, pattern=IMAGE_PATTERN)] | None = None
    port: Annotated[int, msgspec.Meta(ge=1024, le=65_535)] = 8001
    api_keys_secret_name: (
        Annotated[str, msgspec.Meta(min_length=1, max_length=253, pattern=SUBDOMAIN_PATTERN)] | None
    ) = None
    limits: Limits = Limits()


@cache
def fields(struct: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    """Return the fields of a struct, found out once: that takes half a millisecond, as annotations are evaluated."""
    return msgspec.structs.fields(struct)


class Amounts(_Part, frozen=True):
    """Amounts of the resources that every node has; an absent one isn't said."""

    cpu: Amount | None = None
    memory: Amount | None = None
    ephemeral_storage: Amount | None = msgspec.field(default=None, name="ephemeral-storage")

    def said(self) -> dict[str, str]:
        """Return them as a container has them, by Kubernetes' names."""
        both = {each.encode_name: getattr(self, each.name) for each in fields(type(self))}
        return {name: str(amount) for name, amount in both.items() if amount is not None}


class Resources(_Part, frozen=True):
    """Requests and limits of the inference container; absent requests follow from the engines."""

    requests: Amounts = Amounts()
    limits: Amounts = Amounts()


class TemplateMetadata(_Part, frozen=True):
    labels: Annotated[
        dict[str, Annotated[str, msgspec.Meta(max_length=63)]], msgspec.Meta(max_length=64)
    ] = {}
    annotations: Annotated[
        dict[str, Annotated[str, msgspec.Meta(max_length=65_536)]], msgspec.Meta(max_length=64)
    ] = {}


class Template(_Part, frozen=True):
    """A partial pod template; `spec` is whatever the user wrote, checked by the API server with the
    Deployment.
    """

    metadata: TemplateMetadata = TemplateMetadata()
    spec: dict[str, Any] = {}


class Spec(_Part, frozen=True):
    models: Annotated[tuple[Model, ...], msgspec.Meta(min_length=1, max_length=8)]
    replicas: Annotated[int, msgspec.Meta(ge=0, le=500)] = 1
    idle: Idle = Idle()
    batching: Batching = Batching()
    queue: Queue = Queue()
    log_level: LogLevel = "info"
    routing: Routing = Routing()
    gpu: Gpu = Gpu()
    cache: Cache = Cache(empty_dir=EmptyDir())
    server: Server = Server()
    resources: Resources | None = None
    """None and not an empty one, so that stored resources of older versions stay as they are."""
    template: Template = Template()

    @property
    def asked(self) -> Resources:
        """Return `resources`, which say nothing where they are left out."""
        return self.resources or Resources()

    @property
    def gpu_memory_bytes(self) -> int:
        """Return what a pod needs while all of its models are ready: the sum over the models, 0 where none says."""
        return sum(model.gpu_memory or 0 for model in self.models)


class OcrDeployment(msgspec.Struct, frozen=True, kw_only=True):
    """A valid resource. `status` is as last written, for comparison; its shape is never trusted."""

    name: str
    namespace: str
    uid: str
    generation: int
    spec: Spec
    written: Mapping[str, Any] = {}
    """The spec as stored: which fields the resource sets itself, and which `spec` has from the defaults."""
    status: Mapping[str, Any] = {}


class InvalidSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Why a body can't be run: `field` is a path such as `spec.models[0].source`."""

    field: str
    message: str


class _Metadata(msgspec.Struct, frozen=True):
    name: str
    namespace: str
    uid: str
    generation: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Body(msgspec.Struct, frozen=True):
    metadata: _Metadata
    spec: Spec
    status: Any = None


def parse(body: Mapping[str, Any]) -> OcrDeployment | InvalidSpec:
    """Read a resource as the API server returns it: of what `kube.decoding` reads. Never raises: what is wrong comes
    back as a value.
    """
    if excess := free_form.excess(body):
        return InvalidSpec(field="spec.template.spec", message=excess)
    try:
        parts = {part: body[part] for part in ("metadata", "spec", "status") if part in body}
        whole = msgspec.convert(parts, _Body, dec_hook=_decode)
    except msgspec.ValidationError as error:
        return invalid(str(error))
    except RecursionError:
        return InvalidSpec(field="spec", message="is nested too deeply")
    meta = whole.metadata
    for field, message in _broken_rules(meta.name, whole.spec):
        return InvalidSpec(field=field, message=message)
    return OcrDeployment(
        name=meta.name,
        namespace=meta.namespace,
        uid=meta.uid,
        generation=meta.generation,
        spec=whole.spec,
        written=body["spec"],
        status=whole.status if isinstance(whole.status, Mapping) else {},
    )


def _decode(kind: type, value: object) -> object:
    if kind is Bytes:
        return Bytes.of(value)
    if kind is Amount:
        return Amount.of(value)
    raise NotImplementedError(kind)


_ERROR: Final = re.compile(r"(?s)(.*?)(?: - at (?:`key` in )?`\$\.?([^`]*)`)?")
_MISSING: Final = re.compile(r"Object missing required field `(\w+)`")


def invalid(error: str) -> InvalidSpec:
    """From msgspec's "Expected `int`, got `str` - at `$.spec.replicas`" to a field and a message."""
    match = _ERROR.fullmatch(error)
    message, field = match.groups(default="") if match else (error, "")
    if missing := _MISSING.fullmatch(message):
        field, message = f"{field}.{missing[1]}".lstrip("."), "Required value"
    return InvalidSpec(field=field, message=message)


def _broken_rules(name: str, spec: Spec) -> Iterator[tuple[str, str]]:
    """Field and message of each rule that the CRD has in CEL, in the same words."""
    if len(name) > MAX_NAME or not re.fullmatch(NAME_PATTERN, name):
        yield (
            "metadata.name",
            (
                "metadata.name must be at most 46 characters, of a-z, 0-9 and '-', and start with a letter: "
                "Services and pods are named after it"
            ),
        )
    known = [model.name for model in spec.models]
    for index, model in enumerate(spec.models):
        if model.name in known[:index]:
            yield f"spec.models[{index}]", f"Duplicate value: {model.name!r}"
        for field, message in _broken_model_rules(model):
            yield f"spec.models[{index}].{field}", message
    if spec.gpu.sharing == "shared" and any(model.gpu_memory is None for model in spec.models):
        yield (
            "spec.models",
            "every model needs gpuMemory with gpu.sharing: shared, because placement counts with it",
        )
    if spec.gpu.memory_policy == "onDemand" and spec.gpu.sharing != "shared":
        yield (
            "spec.gpu.memoryPolicy",
            "onDemand needs gpu.sharing: shared, because only there others take turns on the same GPU",
        )
    for message in _broken_cache_rules(spec.cache):
        yield "spec.cache", message
    asked = spec.asked
    for field in asked.requests.__struct_fields__:
        request, limit = getattr(asked.requests, field), getattr(asked.limits, field)
        if request is not None and limit is not None and request.number > limit.number:
            yield "spec.resources", "a request must not be above its limit"
            break
    metadata = spec.template.metadata
    if any(names.is_own_label(key) for key in metadata.labels):
        yield (
            "spec.template.metadata.labels",
            (
                "ocr-operator.io/* and app.kubernetes.io/{name,instance,component,managed-by} are the operator's "
                "own labels"
            ),
        )
    if any(names.is_own_annotation(key) for key in metadata.annotations):
        yield "spec.template.metadata.annotations", "ocr-operator.io/* are the operator's own annotations"


def _broken_cache_rules(cache: Cache) -> Iterator[str]:
    if [cache.empty_dir, cache.persistent_volume_claim, cache.host_path].count(None) != 2:
        yield "set exactly one of emptyDir, persistentVolumeClaim and hostPath"
    if cache.weights_in_memory == "perNode" and cache.empty_dir is not None:
        yield "weightsInMemory: perNode needs persistentVolumeClaim or hostPath, because pods share no emptyDir"


def _broken_model_rules(model: Model) -> Iterator[tuple[str, str]]:
    source = model.source
    yield from broken_rules(
        model.engine, has_source=source is not None, dtype=model.dtype, attention=model.attention
    )
    if source is not None and (source.hugging_face is None) == (source.path is None):
        yield "source", "set exactly one of huggingFace and path"
