"""What a status is made from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ocr_operator.decide.placement import NoFit
from ocr_operator.gpuload.readings import NO_GPU_NODES, GpuNodes
from ocr_operator.pods.unreachable import Unreachable
from ocr_operator.resources.effective import Source
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
    gpu_nodes: GpuNodes = NO_GPU_NODES
    """Which node has which GPU, to check the pod's word against."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The API server refuses our children, and trying again without a change won't help."""

    reason: str
    """CamelCase, such as `ManifestRefused`."""
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """All that was observed of one resource's children."""

    pods: tuple[PodSeen, ...] = ()
    rollout: Rollout | None = None
    """None: the child Deployment isn't there yet."""
    live: Envelope | None = None
    """The effective live settings: what every pod should echo."""
    sources: tuple[Source, ...] = ()
    """Where each of their values comes from."""
    nofits: Mapping[str, NoFit] = field(default_factory=dict)
    """Pod name → why it waits."""
    refusal: Refusal | None = None
