"""The state that a pod reports (`GET /v1/state`, and each event of its watch): written by the server, read by others.

The reader believes nothing: a pod runs other people's code beside ours and may be an old or new version, another pod
behind a reused IP, or hostile. The answer is bounded in size and number, and what doesn't fit is refused by the name of
the field. Texts meant for people are cleaned and cut, not refused. A word that a newer server has (a state, a kind of
device) is read as `unknown`, and the rest of the document counts.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET

from ocr_wire import checked, states, text
from ocr_wire.checked import Invalid
from ocr_wire.live_settings import Envelope, shortened
from ocr_wire.redaction import redact
from ocr_wire.settings import MAX_SECONDS, NEVER
from ocr_wire.states import DeviceKind, Location, State, Worker
from ocr_wire.text import PRINTABLE, Count, Label, Seconds, Share, ShownModel, Text, Time

MAX_BYTES: Final = 256 * 1024
"""Of one answer: 8 models with a failure text each stay far below; more is no state."""
MAX_MODELS: Final = 8
MAX_FAILURE: Final = 2000
"""Characters of a failure that a server writes: a foreign library's traceback must not fill every observer."""
MAX_REASON: Final = 64

SecondsOrNever = Annotated[float, msgspec.Meta(ge=NEVER, le=MAX_SECONDS)]


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a state; unknown fields are ignored. One with a default is optional: older servers don't write it."""


class Identity(_Part, frozen=True, kw_only=True):
    name: Annotated[str, msgspec.Meta(max_length=253, pattern=PRINTABLE)]
    """Empty outside of Kubernetes."""
    uid: Annotated[str, msgspec.Meta(max_length=253)] = ""


class WholeGpu(_Part, frozen=True, kw_only=True):
    """Measurements of the GPU that the pod runs on, other processes' use included.

    In coarse steps: it changes when something happens, not all the time.
    """

    memory_used_bytes: Count
    memory_total_bytes: Count
    utilization: Share | None = None
    """Smoothed; None where the driver doesn't report it."""


class Device(_Part, frozen=True, kw_only=True):
    kind: DeviceKind
    uuid: Label | None = None
    product: Label | None = None
    memory_total_bytes: Count | None = None
    memory_used_bytes: Count | None = None
    """What the pod's own models take together."""
    gpu: WholeGpu | None = None
    """None on a CPU, and while it isn't known."""
    promised: Annotated[tuple[Label, ...], msgspec.Meta(max_length=16)] = ()
    """UUIDs that the placement promised."""
    mismatch: Annotated[str, msgspec.Meta(max_length=4096)] = ""
    """What is wrong with the promise, in the pod's own words; empty while it is kept or nothing was promised."""


class Failure(_Part, frozen=True, kw_only=True):
    reason: Text
    """In CamelCase, as conditions have it."""
    message: Text = ""
    time: Time | None = None
    exit_code: Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)] | None = None
    """Of a worker process that died; negative is a signal's number."""


class Progress(_Part, frozen=True, kw_only=True):
    """Progress of a load; reported once a second at most."""

    phase: Label
    """downloading, checking, reading, converting or starting; newer servers may have others."""
    files: Count = 0
    bytes_done: Count = 0
    bytes_total: Count = 0
    """0 where it isn't known."""


class WaitsFor(_Part, frozen=True, kw_only=True):
    """Memory that a waited-for model lacks because other processes hold it: `needed_bytes` less `free_bytes`."""

    needed_bytes: Count
    free_bytes: Count
    since: Time


class IdleTimes(_Part, frozen=True, kw_only=True):
    """Idle seconds after which a model leaves, as they count at the moment; 0 is at once, -1 never, and also where its
    engine has no such step."""

    offload_after_seconds: SecondsOrNever
    exit_after_seconds: SecondsOrNever
    release_after_seconds: SecondsOrNever
    drop_standby_after_seconds: SecondsOrNever = NEVER
    """Until no process is kept ready for the next load or wake."""


class Model(_Part, frozen=True, kw_only=True):
    name: ShownModel
    engine: Label | None = None
    state: State
    location: Location
    worker: Worker = Worker.RUNNING
    standby: bool = False
    """Whether a process waits that has the checkpoint opened, and nothing on the GPU, to make the next wake shorter."""
    offloads: bool = True
    """Whether its weights can go to host memory; else they stay on the device until they are unloaded."""
    since: Time | None = None
    """When the state was entered: no value here ticks while nothing happens."""
    in_flight: Count = 0
    waiting: Count = 0
    memory_bytes: Count = 0
    """On the device."""
    host_bytes: Count = 0
    shared_bytes: Count = 0
    """Part of `host_bytes` that is a file which other servers of the node map, too."""
    packed_bytes: Count = 0
    """Second copies of weights that a CPU computes with, beside `host_bytes`."""
    loads: Count = 0
    wakes: Count = 0
    """Restores from host memory."""
    failures: Count = 0
    """Loads and restores that failed since the last success."""
    last_wake_seconds: Seconds | None = None
    last_load_seconds: Seconds | None = None
    last_failure: Failure | None = None
    revision: Annotated[str, msgspec.Meta(max_length=253)] | None = None
    """The commit that a hub's branch or tag stood for when the model was loaded first."""
    progress: Progress | None = None
    idle_since: Time | None = None
    """The last activity; None while requests run or wait, or where an older server doesn't report it."""
    oldest_lease_since: Time | None = None
    """When the oldest lease was granted, while that is more than 10 s ago: a page or chat that takes so long."""
    stuck_since: Time | None = None
    """When the model's worker was killed, which hasn't ended; None where none was, or the server doesn't report it."""
    image_failure: Failure | None = None
    """Why the last load couldn't keep the weights that it converted, or share them, such as a full disk."""
    waits_for: WaitsFor | None = None
    """What is missing while requests wait and other processes hold the GPU's memory."""
    idle: IdleTimes | None = None
    """None where an older server doesn't report it."""
    preloaded: bool = False
    """Whether `preload` holds the model where it is, so that its idle times don't count."""


class Queue(_Part, frozen=True, kw_only=True):
    waiting: Count = 0
    in_flight: Count = 0
    limit: Count = 0


class PodState(_Part, frozen=True, kw_only=True):
    pod: Identity
    version: Annotated[str, msgspec.Meta(max_length=128)] = ""
    draining: bool = False
    device: Device
    models: Annotated[tuple[Model, ...], msgspec.Meta(max_length=MAX_MODELS)]
    queue: Queue = Queue()
    settings: Envelope = Envelope()
    """The live settings that the pod runs with. Readers get no `values`: the hash speaks for them."""
    local_timeouts: Annotated[tuple[ShownModel, ...], msgspec.Meta(max_length=MAX_MODELS)] = ()
    """Models whose offload timeout was set at this server; it overrides `settings` until newer ones arrive."""


_JSON: Final = msgspec.json.Decoder(PodState)


def encode(state: PodState) -> bytes:
    """Return a state as the server answers with it."""
    return msgspec.json.encode(state)


def parse(payload: bytes | str | Any) -> PodState | Invalid:
    """Read one state: JSON text, or the already decoded value. Never raises."""
    if isinstance(payload, bytes | str):
        state = checked.read(payload, _JSON, MAX_BYTES)
    else:
        state = checked.convert(payload, PodState)
    if isinstance(state, Invalid):
        return state
    if twice := _twice(model.name for model in state.models):
        return Invalid(f"model {twice!r} is there twice", "models")
    for model in state.models:
        if problem := states.contradiction(model.state, model.location, state.device.kind):
            return Invalid(f"model {model.name!r}: {problem}", "models")
    return msgspec.structs.replace(
        state,
        version=text.once(state.version),
        models=tuple(_cleaned(model) for model in state.models),
        settings=_without_values(state.settings),
    )


def timestamp(seconds: float) -> datetime:
    """Return Unix time as states have it: in UTC, to the millisecond."""
    return datetime.fromtimestamp(round(seconds, 3), UTC)


def failure(reason: str, message: str, seconds: float, exit_code: int | None = None) -> Failure:
    """Return a failure as states have it, without secrets and cut to what observers should get; `seconds` is Unix
    time."""
    said = redact(message)[:MAX_FAILURE]
    return Failure(reason=reason, message=said, time=timestamp(seconds), exit_code=exit_code)


def _twice(names: Iterable[str]) -> str:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return ""


def _cleaned(model: Model) -> Model:
    """Return it fit for a status. Its names are in memory once, however many pods say them."""
    return msgspec.structs.replace(
        model,
        name=text.once(model.name),
        engine=None if model.engine is None else text.once(model.engine),
        last_failure=_tidy(model.last_failure),
        image_failure=_tidy(model.image_failure),
    )


def _tidy(failure: Failure | None) -> Failure | None:
    if failure is None:
        return None
    return msgspec.structs.replace(
        failure, reason=text.clean(failure.reason, MAX_REASON), message=text.clean(failure.message)
    )


def _without_values(settings: Envelope) -> Envelope:
    ignored = shortened(settings.ignored or ()) or UNSET
    return msgspec.structs.replace(settings, hash=text.once(settings.hash), values={}, ignored=ignored)
