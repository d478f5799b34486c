"""What a status is made from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from ocr_operator.decide.placement import NoFit
from ocr_operator.gpuload.readings import NO_GPU_NODES, GpuNodes
from ocr_operator.pods.unreachable import Unreachable
from ocr_operator.resources.effective import Source
from ocr_operator.resources.live_override import LiveOverride
from ocr_operator.resources.observed import Pod, Rollout
from ocr_wire.live_settings import Envelope
from ocr_wire.state import PodState


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSeen:
    pod: Pod
    state: PodState | Unreachable | None = None
    """None: not asked yet, or not running."""
    push_error: str = ""
    """Why the last push of live settings failed, if it did; doesn't tick."""
    warning: str = ""
    """What its kubelet warns of while it can't prepare the pod, with the reason."""
    node_ready: bool = True
    """False: Kubernetes says that its node isn't, for one because its kubelet is silent."""
    gpu_nodes: GpuNodes = NO_GPU_NODES
    """Which node has which GPU, to check the pod's word against."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The API server refuses our children, and trying again without a change won't help."""

    reason: str
    """CamelCase, such as `ManifestRefused`."""
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """Objects with the names of children are about to be gone; the children are written then."""

    reason: ClassVar[str] = "WaitingForRemoval"
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unwritten:
    """The API server fails to write a child, by an error of its own or of a webhook, or has no room for it in the
    namespace; the same may work later.
    """

    reason: ClassVar[str] = "NotWritten"
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """The operator itself fails on the resource."""

    reason: ClassVar[str] = "OperatorFault"
    message: str


@dataclass(frozen=True, slots=True)
class Edited:
    """Changes of children that are of others."""

    message: str = ""
    """Fields that we don't name, and that therefore stay."""
    set_back: str = ""
    """Fields that we name, and that are as we want them again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """All that was observed of one resource's children."""

    pods: tuple[PodSeen, ...] = ()
    rollout: Rollout | None = None
    """None: the child Deployment isn't there yet."""
    waits: str = ""
    """Why the pods aren't replaced yet by ones of the operator's version; empty: they are of it."""
    live: Envelope | None = None
    """The effective live settings: what every pod should echo."""
    reserved: int = 0
    """The highest revision that may be handed out once the status is written; alone it is no reason to write it."""
    sources: tuple[Source, ...] = ()
    """Where each of their values comes from."""
    override: LiveOverride | None = None
    nofits: Mapping[str, NoFit] = field(default_factory=dict)
    """Pod name → why it waits."""
    ended: tuple[Pod, ...] = ()
    """Pods that ended lately, the last one first: their kubelet refused or stopped them."""
    refusal: Refusal | None = None
    removal: Removal | None = None
    unwritten: Unwritten | None = None
    fault: Fault | None = None
    edited: Edited | None = None
