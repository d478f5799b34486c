"""The words of the HTTP API: requests parsed strictly from form fields, answers as typed values."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from msgspec import Struct

from ocr_inference.errors import ApiError
from ocr_inference.protocol.page import RESOLUTIONS, Box, Task

FIELDS = (
    *("prompt_type", "find_term", "custom_prompt", "grounding", "resolution"),
    *("max_tokens", "loop_guard", "model"),
)
"""Form fields of `POST /ocr` besides the file."""

MAX_TERM = 200
MAX_PROMPT = 16_000
MAX_TOKENS = 65_536


@dataclass(frozen=True)
class OcrRequest:
    """The fields of `POST /ocr`, without the picture."""

    task: Task = Task.DOCUMENT
    find_term: str | None = None
    custom_prompt: str | None = None
    grounding: bool = False
    resolution: str | None = None
    max_tokens: int | None = None
    loop_guard: bool = True
    model: str | None = None
    """None: the default model."""
    ignored: tuple[str, ...] = ()
    """Fields that were sent and mean nothing here. They are named in the answer's metadata, not refused: clients
    of compatible servers send fields of theirs."""


def parse_ocr(fields: Mapping[str, str]) -> OcrRequest:
    """Form fields → request; raises 422 that names the field. Empty ones count as absent: browsers send them."""
    given = {name: value.strip() for name, value in fields.items() if value.strip()}
    asked = task(given.get("prompt_type", Task.DOCUMENT), "prompt_type")
    find_term = _text(given, "find_term", MAX_TERM)
    custom_prompt = _text(given, "custom_prompt", MAX_PROMPT)
    if asked is Task.FIND and find_term is None:
        raise _invalid("prompt_type 'find' needs find_term, the text to look for", "find_term")
    if asked is Task.FREEFORM and custom_prompt is None:
        raise _invalid("prompt_type 'freeform' needs custom_prompt", "custom_prompt")
    return OcrRequest(
        task=asked,
        find_term=find_term,
        custom_prompt=custom_prompt,
        grounding=_flag(given, "grounding", default=False),
        resolution=resolution(given.get("resolution"), "resolution"),
        max_tokens=_count(given, "max_tokens", MAX_TOKENS),
        loop_guard=_flag(given, "loop_guard", default=True),
        model=_text(given, "model", 200),
        ignored=tuple(sorted(name[:64] for name in fields if name not in FIELDS)),
    )


def _invalid(message: str, param: str) -> ApiError:
    return ApiError(422, "invalid_value", message, param=param)


def task(word: str, param: str) -> Task:
    """The task of that name; raises 422 that names the nearest one and `param`."""
    try:
        return Task(word)
    except ValueError:
        known = [each.value for each in Task]
        close = difflib.get_close_matches(word, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ApiError(
            422,
            "unknown_task",
            f"no task {word[:40]!r}{hint} There are {', '.join(known)}.",
            param=param,
        ) from None


def resolution(word: str | None, param: str) -> str | None:
    """The word itself; raises 422 that lists what there is."""
    if word is not None and word not in RESOLUTIONS:
        raise _invalid(f"no resolution {word[:40]!r}; there are {', '.join(RESOLUTIONS)}", param)
    return word


def _text(given: Mapping[str, str], name: str, longest: int) -> str | None:
    value = given.get(name)
    if value is not None and len(value) > longest:
        raise _invalid(f"{name} has {len(value)} characters; {longest} are allowed", name)
    return value


_FLAGS = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}


def _flag(given: Mapping[str, str], name: str, *, default: bool) -> bool:
    value = given.get(name)
    if value is None:
        return default
    if value.lower() not in _FLAGS:
        raise _invalid(f"{name} is true or false; got {value[:40]!r}", name)
    return _FLAGS[value.lower()]


def _count(given: Mapping[str, str], name: str, most: int) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 9 and 1 <= int(value) <= most):
        raise _invalid(f"{name} is a whole number from 1 to {most}; got {value[:40]!r}", name)
    return int(value)


# --- answers --------------------------------------------------------------------------------------------------


class Dimensions(Struct, frozen=True):
    w: int
    h: int


class OcrAnswer(Struct, frozen=True, kw_only=True):
    success: bool = True
    text: str
    """What a reader wants: Markdown for `document`, the matches for `find`, else plain text."""
    raw_text: str
    """The engine's own words."""
    boxes: tuple[Box, ...]
    image_dims: Dimensions
    prompt_type: Task
    metadata: dict[str, Any]


class PodInfo(Struct, frozen=True):
    name: str
    uid: str


class GpuInfo(Struct, frozen=True):
    """The whole GPU, others' use included, in coarse steps: it changes when something happens, not all the time."""

    memory_used_bytes: int
    memory_total_bytes: int
    utilization: float | None
    """0 to 1, smoothed; None where the driver doesn't tell."""


class DeviceInfo(Struct, frozen=True):
    kind: Literal["cuda", "cpu", "simulated"]
    uuid: str | None
    product: str | None
    memory_total_bytes: int
    memory_used_bytes: int
    """What our own models take together."""
    gpu: GpuInfo | None = None
    """None on a CPU, and while it isn't known."""
    promised: tuple[str, ...] = ()
    """UUIDs that the placement promised (`OCR_PROMISED_GPU_UUIDS`)."""
    mismatch: str = ""
    """What is wrong with the promise, for people; empty while it is kept or nothing was promised."""


class FailureInfo(Struct, frozen=True):
    reason: str
    message: str
    time: str
    exit_code: int | None


class ProgressInfo(Struct, frozen=True):
    phase: str
    """downloading, checking, reading or converting."""
    files: int
    bytes_done: int
    bytes_total: int
    """0 where it isn't known."""


class WaitsForInfo(Struct, frozen=True):
    """A waited-for model's memory that others hold: `needed_bytes` less `free_bytes`."""

    needed_bytes: int
    free_bytes: int
    since: str


class ModelInfo(Struct, frozen=True, kw_only=True):
    name: str
    engine: str
    state: str
    location: str
    worker: Literal["running", "exited"]
    standby: bool
    """Whether a process waits that has the checkpoint opened, and nothing on the GPU, to make the next wake shorter."""
    since: str
    """When the state was entered: no value here ticks while nothing happens."""
    in_flight: int
    waiting: int
    memory_bytes: int
    host_bytes: int
    loads: int
    wakes: int
    failures: int
    """Loads and restores that failed since the last success."""
    last_wake_seconds: float | None
    last_load_seconds: float | None
    last_failure: FailureInfo | None
    revision: str | None
    """The commit that a hub's branch or tag stood for when the model was loaded first."""
    progress: ProgressInfo | None
    """Of a load; told once a second at most."""
    idle_since: str | None
    """The last activity; null while requests run or wait."""
    waits_for: WaitsForInfo | None
    """What is missing while requests wait and other processes hold the GPU's memory."""


class QueueInfo(Struct, frozen=True):
    waiting: int
    in_flight: int
    limit: int


class StateInfo(Struct, frozen=True, kw_only=True):
    """`GET /v1/state`, and each event of its watch."""

    pod: PodInfo
    version: str
    draining: bool
    device: DeviceInfo
    models: tuple[ModelInfo, ...]
    queue: QueueInfo
    settings: dict[str, Any]
