"""What an inference pod says about itself (`GET /v1/state`), checked before anybody believes it.

A pod runs other people's code beside ours and may be an old version, another pod behind a reused IP, or
hostile: the answer is bounded in size and number, every word of it must be known, and what doesn't fit is
refused by the name of the field. Texts meant for people are cleaned and cut, not refused.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import msgspec


class State(StrEnum):
    UNLOADED = "unloaded"
    LOADING = "loading"
    READY = "ready"
    OFFLOADING = "offloading"
    OFFLOADED = "offloaded"
    RESTORING = "restoring"
    UNLOADING = "unloading"
    FAILED = "failed"


class Location(StrEnum):
    GPU = "gpu"
    CPU = "cpu"
    UNLOADED = "unloaded"


class DeviceKind(StrEnum):
    CUDA = "cuda"
    CPU = "cpu"
    SIMULATED = "simulated"


Name = Annotated[str, msgspec.Meta(min_length=1, max_length=253, pattern=r"^[^\x00-\x1f\x7f]*$")]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Text = Annotated[str, msgspec.Meta(max_length=65_536)]
Time = Annotated[datetime, msgspec.Meta(tz=True)]


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    """Unknown fields are ignored: a newer server may say more."""


class Identity(_Part, frozen=True):
    name: Name
    uid: Annotated[str, msgspec.Meta(max_length=253)] = ""


class Device(_Part, frozen=True):
    kind: DeviceKind
    uuid: Name | None = None
    product: Name | None = None
    memory_total_bytes: Count | None = None
    memory_used_bytes: Count | None = None
    """What the pod's own models hold."""


class Failure(_Part, frozen=True):
    reason: Text
    message: Text = ""
    time: Time | None = None
    exit_code: int | None = None


class ModelState(_Part, frozen=True):
    name: Name
    state: State
    location: Location
    since: Time | None = None
    engine: Name | None = None
    worker: Annotated[str, msgspec.Meta(pattern="^(running|exited)$")] = "running"
    in_flight: Count = 0
    waiting: Count = 0
    memory_bytes: Count = 0
    host_bytes: Count = 0
    last_failure: Failure | None = None


class Queue(_Part, frozen=True):
    waiting: Count = 0
    in_flight: Count = 0
    limit: Count = 0


class Echo(_Part, frozen=True):
    """The live settings that the pod runs with. `values` stay unread: the hash speaks for them."""

    generation: Count = 0
    revision: Count = 0
    hash: Annotated[str, msgspec.Meta(max_length=64)] = ""


class PodState(_Part, frozen=True):
    pod: Identity
    device: Device
    models: Annotated[tuple[ModelState, ...], msgspec.Meta(max_length=32)]
    settings: Echo = Echo()
    queue: Queue = Queue()
    version: Annotated[str, msgspec.Meta(max_length=128)] = ""
    draining: bool = False


class InvalidState(msgspec.Struct, frozen=True):
    """Why an answer can't be believed, with the path of the field."""

    message: str


def parse(payload: bytes | str | Any) -> PodState | InvalidState:
    """Reads one state object: JSON text, or the already decoded value. Never raises."""
    raise NotImplementedError
