"""What an inference pod says about itself (`GET /v1/state`), checked before anybody believes it.

A pod runs other people's code beside ours and may be an old version, another pod behind a reused IP, or
hostile: the answer is bounded in size and number, every word of it must be known, and what doesn't fit is
refused by the name of the field. Texts meant for people are cleaned and cut, not refused.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec

MAX_BYTES: Final = 256 * 1024
"""Of one answer: 8 models with a failure text each stay far below; more is no state."""
MAX_MESSAGE: Final = 512
"""Characters of a failure's text that go into the status."""


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


PRINTABLE: Final = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"

# The bounds are those of the status, so that no answer makes a status that the API server refuses.
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=253, pattern=PRINTABLE)]
ModelName = Annotated[str, msgspec.Meta(min_length=1, max_length=63, pattern=PRINTABLE)]
Label = Annotated[str, msgspec.Meta(min_length=1, max_length=128, pattern=PRINTABLE)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Text = Annotated[str, msgspec.Meta(max_length=65_536)]
Time = Annotated[datetime, msgspec.Meta(tz=True)]


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    """Unknown fields are ignored: a newer server may say more."""


class Identity(_Part, frozen=True):
    name: Name
    uid: Annotated[str, msgspec.Meta(max_length=253)] = ""


class WholeGpu(_Part, frozen=True):
    """What the pod measures of the GPU that it runs on, others' use included."""

    memory_used_bytes: Count
    memory_total_bytes: Count
    utilization: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None


class Device(_Part, frozen=True):
    kind: DeviceKind
    uuid: Label | None = None
    product: Label | None = None
    memory_total_bytes: Count | None = None
    memory_used_bytes: Count | None = None
    """What the pod's own models hold."""
    gpu: WholeGpu | None = None
    promised: Annotated[tuple[Label, ...], msgspec.Meta(max_length=16)] = ()
    mismatch: Annotated[str, msgspec.Meta(max_length=4096)] = ""
    """The pod's own words about a broken promise; not cleaned yet."""


class Failure(_Part, frozen=True):
    reason: Text
    message: Text = ""
    time: Time | None = None
    exit_code: Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)] | None = None


class WaitsFor(_Part, frozen=True):
    """Memory that a waited-for model lacks, since others hold it."""

    needed_bytes: Count
    free_bytes: Count
    since: Time


class ModelState(_Part, frozen=True):
    name: ModelName
    state: State
    location: Location
    since: Time | None = None
    engine: Label | None = None
    worker: Annotated[str, msgspec.Meta(pattern="^(running|exited)$")] = "running"
    in_flight: Count = 0
    waiting: Count = 0
    memory_bytes: Count = 0
    host_bytes: Count = 0
    failures: Count = 0
    """Loads and restores that failed since the last success."""
    last_wake_seconds: Seconds | None = None
    last_load_seconds: Seconds | None = None
    last_failure: Failure | None = None
    idle_since: Time | None = None
    """The last activity; None while the model is in use, or where an older server doesn't say."""
    waits_for: WaitsFor | None = None


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
    models: Annotated[tuple[ModelState, ...], msgspec.Meta(max_length=8)]
    settings: Echo = Echo()
    queue: Queue = Queue()
    version: Annotated[str, msgspec.Meta(max_length=128)] = ""
    draining: bool = False


class InvalidState(msgspec.Struct, frozen=True):
    """Why an answer can't be believed, with the path of the field."""

    message: str


def parse(payload: bytes | str | Any) -> PodState | InvalidState:
    """Reads one state object: JSON text, or the already decoded value. Never raises."""
    try:
        if isinstance(payload, bytes | bytearray | memoryview | str):
            if len(payload) > MAX_BYTES:
                return InvalidState(f"{len(payload)} bytes are more than a state's {MAX_BYTES}")
            state = _JSON.decode(payload)
        else:
            state = msgspec.convert(payload, PodState)
    except msgspec.MsgspecError as error:
        return InvalidState(clean(str(error)))
    except (RecursionError, UnicodeError, ValueError, OverflowError) as error:
        return InvalidState(f"no JSON object: {clean(str(error))}")
    if twice := _twice([model.name for model in state.models]):
        return InvalidState(f"model {twice!r} is there twice - at `$.models`")
    for model in state.models:
        if problem := _contradiction(model, state.device.kind):
            return InvalidState(f"model {model.name!r}: {problem}")
    return msgspec.structs.replace(state, models=tuple(_cleaned(model) for model in state.models))


def clean(text: str, limit: int = MAX_MESSAGE) -> str:
    """One printable line of at most `limit` characters: control characters become blanks."""
    line = "".join(char if char.isprintable() else " " for char in text[: limit * 4])
    line = " ".join(line.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


_JSON: Final = msgspec.json.Decoder(PodState)

_LOCATIONS: Final[dict[State, frozenset[Location]]] = {
    State.UNLOADED: frozenset({Location.UNLOADED}),
    State.LOADING: frozenset({Location.UNLOADED}),
    State.READY: frozenset({Location.GPU, Location.CPU}),
    State.OFFLOADING: frozenset({Location.GPU, Location.CPU}),
    State.OFFLOADED: frozenset({Location.CPU}),
    State.RESTORING: frozenset({Location.CPU}),
    State.UNLOADING: frozenset(Location),
    State.FAILED: frozenset({Location.UNLOADED}),
}
"""Where weights can be in each state."""


def _contradiction(model: ModelState, device: DeviceKind) -> str:
    if model.location not in _LOCATIONS[model.state]:
        return f"{model.state} can't be on {model.location}"
    if model.location is Location.GPU and device is DeviceKind.CPU:
        return "is on a GPU, but the device is a CPU"
    return ""


def _twice(names: list[str]) -> str:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return ""


def _cleaned(model: ModelState) -> ModelState:
    failure = model.last_failure
    if failure is None:
        return model
    tidy = msgspec.structs.replace(failure, reason=clean(failure.reason, 64), message=clean(failure.message))
    return msgspec.structs.replace(model, last_failure=tidy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreachable:
    """The pod runs, but its state can't be had: no connection, no token, an answer that nobody can believe.

    `message` must not tick (no ages, no attempt counters): equal trouble, equal text.
    """

    reason: str
    """CamelCase, such as `Unreachable`, `InvalidState`."""
    message: str
