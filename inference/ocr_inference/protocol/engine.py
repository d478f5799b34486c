"""Interface of engines, and the values that cross between the server and a worker process.

An engine holds the weights of one model. It lives in a worker process of its own (`workers.worker_process` drives it)
and is never called twice at once. The server sees only the structs below, as msgpack: calls are `packets`, with the
page's file beside them, answers are `frames`.

The host tier, the copy of the weights in host memory, is a file in memory that the server owns and the worker fills
(`host_tier`): it outlives the worker.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Annotated, BinaryIO, Literal, Protocol, runtime_checkable

from msgspec import Meta, Struct

from ocr_inference.protocol.memory_use import CleanedUp, DeviceUse, MemoryUse

Point = tuple[float, float]


class FailureKind(StrEnum):
    """Kind of a failed call, as far as it makes a difference to the caller."""

    INVALID_IMAGE = "invalid_image"
    """The page can't be decoded; the client is at fault."""
    IMAGE_TOO_LARGE = "image_too_large"
    UNSUPPORTED = "unsupported"
    """The engine or the model doesn't know this task, option or source."""
    OUT_OF_MEMORY = "out_of_memory"
    OUT_OF_DESCRIPTORS = "out_of_descriptors"
    """The server or the worker has as many files open as the system grants."""
    TIMED_OUT = "timed_out"
    WORKER_DIED = "worker_died"
    PAGE_KILLS_WORKER = "page_kills_worker"
    """Workers died while they read this page; it isn't read again for some minutes."""
    SOURCE_UNAVAILABLE = "source_unavailable"
    """The hub or the folder of a checkpoint can't be reached, or refuses."""
    INVALID_CHECKPOINT = "invalid_checkpoint"
    """A checkpoint's files aren't what they have to be."""
    DISK_FULL = "disk_full"
    FAILED = "failed"


class Failure(Struct, frozen=True, kw_only=True, tag="failure"):
    kind: FailureKind
    message: str
    """What failed and what to do, for the person that sent the page or runs the server."""
    param: str | None = None
    """Field of the request that is at fault."""
    exit_code: int | None = None
    """Exit code of a worker that died; negative is a signal's number."""
    of_host: bool = False
    """Whether it was host memory that ran out, and not a device's."""
    smaller: tuple[str, ...] = ()
    """Of a page for which memory ran out: smaller sizes that its model could read it at, largest first
    (`families.page_size`)."""
    shared: bool = False
    """Whether several pages failed with it, and any one of them may be the cause."""
    suggestions: tuple[str, ...] = ()
    """What may help, a sentence each, where nothing else is tried any more."""


class EngineError(Exception):
    """Failed call, with its `Failure`; raised on both sides of the wire."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Broken(EngineError):
    """Failure after which this process can't go on, such as a CUDA error that sticks: the process ends.

    A life-cycle call is answered with it. Pages get no answer: as after any death, another worker reads them again.
    """


Part = tuple[int, int]
"""Begin and size in bytes of one of several pictures in a file."""


class PageOptions(Struct, frozen=True, kw_only=True):
    """Wishes of a request for its page: task, prompt, bounds."""

    max_pixels: int = 100_000_000
    """Limit above which pictures are refused before they are decoded."""
    task: str = "ocr"
    prompt: str | None = None
    """Prompt of the client's own (task `freeform`, or a chat's text)."""
    find_term: str | None = None
    resolution: str | None = None
    read_at: str | None = None
    """Size to read it at for lack of memory (`families.page_size`), where the request names no resolution."""
    grounding: bool = False
    max_tokens: int | None = None
    loop_guard: bool = True
    parts: tuple[Part, ...] = ()
    """Places of the pictures in the file, where it has several; else the file is the picture. Only engines get any that
    take several (`ocr_wire.engines`)."""


class InferRequest(PageOptions, frozen=True, kw_only=True):
    """One page and what is requested of it, as its engine gets it."""

    image: bytes | BinaryIO
    """Encoded picture (PNG, JPEG, …) as it was sent, for `engines.pictures` to decode. A file is the server's memory:
    it is read, never written, and closed when the page is answered."""


class Line(Struct, frozen=True):
    """Line of text and where it is."""

    text: str
    score: float
    """Confidence, 0 to 1."""
    box: tuple[Point, Point, Point, Point]
    """Corners clockwise from the text's top left, in pixels of the upright picture (EXIF applied)."""


class Shortage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Change that a lack of memory made to the reading of a page."""

    read_at: str | None = None
    """Size that it was read at, smaller than it would have been (`families.page_size`)."""
    step: str | None = None
    """Last step of the ladder that was tried after memory ran out (`scheduling.memory_ladder`)."""
    why: str


class PageResult(Struct, frozen=True, kw_only=True, tag="page"):
    text: str
    """The engine's raw answer: lines joined by newlines, or what a language model wrote."""
    width: int
    height: int
    """Pixels of the upright picture: EXIF orientation applied."""
    lines: tuple[Line, ...] = ()
    finish_reason: Literal["stop", "length"] = "stop"
    prompt_tokens: int = 0
    """Tokens of the prompt, the picture's included; 0 from engines without a language model."""
    completion_tokens: int = 0
    seconds: float = 0.0
    """Time in the engine, decoding of the picture included."""
    family: str = ""
    """Family whose way of answering this is (`families.FAMILIES`), where it depends on the checkpoint; else empty."""
    memory: tuple[MemoryUse, MemoryUse] | None = None
    """Memory of the worker when the page began and when it was read; the worker process adds it."""
    shortage: Shortage | None = None
    """None where memory sufficed."""


class Delta(Struct, frozen=True, kw_only=True, tag="delta"):
    """Piece of a page's answer, as it is written. All pieces of a page, joined, are its `PageResult.text`."""

    text: str
    """Whole characters: never half of one that takes several tokens."""
    prompt_tokens: int = 0
    """As in `PageResult`: a client that leaves early gets no result."""
    completion_tokens: int = 0
    """So far, this piece included; 0 from engines that don't write tokens."""


class Footprint(Struct, frozen=True, kw_only=True, tag="footprint"):
    """Memory that the weights take, as the engine knows it."""

    device_bytes: int = 0
    host_bytes: int = 0
    shared_bytes: int = 0
    """The part of `host_bytes` that is a file which all servers of the node map: its pages are in memory once."""
    packed_bytes: int = 0
    """Second copies of weights that a CPU computes with, in the worker's memory, beside `host_bytes`."""
    image_failure: Failure | None = None
    """Why a load couldn't keep the weights that it converted; the model is ready all the same."""


class Progress(Struct, frozen=True, kw_only=True, tag="progress"):
    """Progress of a load. Engines report it as often as they like; the worker process sends a few reports a second."""

    phase: Literal["downloading", "checking", "reading", "converting", "starting"]
    done_bytes: int = 0
    total_bytes: int = 0
    """0 where it isn't known."""
    file: str = ""
    files: int = 0
    """Number of files that are downloaded or read in all."""
    revision: str | None = None
    """Commit of a hub's branch or tag, once it is known."""


Report = Callable[[Progress], None]
"""Called from any thread while a life-cycle call is carried out."""


class ModelSpec(Struct, frozen=True, kw_only=True):
    """Description of a model for its worker."""

    name: str
    engine: str
    device: Literal["cuda", "cpu", "simulated"] = "cpu"
    path: str | None = None
    repo: str | None = None
    revision: str | None = None
    gpu_uuid: str | None = None
    """GPU to use, where `device` is `cuda`: a worker sees no other."""
    compute_capability: tuple[int, int] | None = None
    """Compute capability of that GPU, where the server knows it: a worker that gets it from CUDA begins to use the
    GPU."""
    dtype: str = "auto"
    attention: str = "auto"
    options: dict[str, bool | int | float | str] = {}
    cache_dir: str = ""
    share_weights: bool = False
    """Whether its weights in host memory are a file in the cache that other servers map, too."""


class Engine(Protocol):
    """One model's weights in one of three places. Called by one thread, one call at a time.

    A call that raises leaves the engine fit only for `unload`. `EngineError` has the reason; any other exception
    becomes `FailureKind.FAILED` with its text, `MemoryError` becomes `OUT_OF_MEMORY`.
    """

    max_batch: int
    """Pages that are worth waiting for, since they gain from beginning together; 1 where they don't."""

    def load(self) -> Footprint:
        """Load from disk, filling the host tier on the way."""

    def offload(self) -> Footprint:
        """Move the weights to the host tier: the device's memory is free when this returns."""

    def stand_by(self) -> Footprint:
        """Do what a restore can do in advance: in a process that never loaded, all but the device, of which nothing is
        used. The host tier is full, and stays as it is."""

    def restore(self) -> Footprint:
        """Restore from the host tier, also in a process that never loaded."""

    def unload(self) -> Footprint:
        """Drop everything, whatever the state; the host tier is empty afterwards."""

    def infer(self, requests: Sequence[InferRequest]) -> Sequence[PageResult | Failure]:
        """Return one answer for each request, in order; a bad page fails alone."""

    def clean_up(self) -> None:
        """Free what isn't needed, such as caches; the weights stay where they are. Of a `SteppingEngine` it is called
        between steps, with pages in it."""

    def device_use(self) -> DeviceUse | None:
        """Return the use of the device; None where there is none, or it isn't used yet. Cheap: it is called twice for
        every page."""


Event = tuple[int, Delta | PageResult | Failure]
"""Number of a page and what became of it; a `PageResult` or `Failure` is its last event."""


@runtime_checkable
class SteppingEngine(Engine, Protocol):
    """Engine that reads several pages at once, a step at a time: pages come and go between any two steps.

    It is driven by `admit`, `step` and `cancel` instead of `infer`, by the same one thread. While pages are in it,
    nothing is called but these, `clean_up` and `device_use`.
    """

    @property
    def free_slots(self) -> int:
        """Number of pages that it would take now."""

    def admit(self, number: int, request: InferRequest) -> None:
        """Take a page; only while there are free slots. Cheap: a failure comes in a step, as an event."""

    def step(self) -> Sequence[Event]:
        """Do the next piece of work for all pages in it: read new ones in, write a token of each.

        Raising fails all pages that are in it and leaves it empty, ready for new ones. Where there were several, each
        is read again alone.
        """

    def cancel(self, number: int) -> bool:
        """Leave a page; return whether it is out, as one of an unknown number is: it has no event then. One that
        something is still at work on stays in it, and has its last event when that has ended."""


@runtime_checkable
class SupervisingEngine(Engine, Protocol):
    """Engine whose model is in other processes than the worker, which may end while nothing is asked of them."""

    def look(self) -> None:
        """Raise `Broken` where they have ended. Cheap: it is called every few seconds while nothing is asked."""


# --- the wire -------------------------------------------------------------------------------------------------


class Start(Struct, frozen=True, tag="start"):
    """First message to a worker."""

    spec: ModelSpec
    secrets: dict[str, str] = {}
    """Variables for its environment that are none of other processes' business: what it asks a hub with."""

    def __repr__(self) -> str:
        return f"Start({self.spec!r}, secrets={sorted(self.secrets)})"


CallName = Literal["load", "offload", "stand_by", "restore", "unload", "exit"]


class LifeCycleCall(Struct, frozen=True, tag="call"):
    id: int
    call: CallName


class InferCall(Struct, frozen=True, tag="infer"):
    """Call to read a page, whose file travels beside it."""

    id: int
    options: PageOptions
    max_pages: int = 1
    max_wait_seconds: float = 0.0
    """Most pages to gather, and longest time to wait for them; live settings, so they travel with each call."""
    stream: bool = False
    """Whether to send the answer's pieces, too, as they are written."""


class CleanUpCall(Struct, frozen=True, tag="clean_up"):
    """Free what isn't needed, between two pages; nothing is loaded for it."""

    id: int


class CancelCall(Struct, frozen=True, tag="cancel"):
    """Cancel call `id`: leave its page out, or stop writing it."""

    id: int


Call = Start | LifeCycleCall | InferCall | CleanUpCall | CancelCall


class Begun(Struct, frozen=True, tag="begun"):
    """Report that a page goes to the engine: if the worker dies before its answer, the page may be the cause."""


class Answer(Struct, frozen=True):
    """Message from a worker: the answer to call `id`. Before it come, of a page, one `Begun` and any number of `Delta`;
    of a life-cycle call, any number of `Progress`."""

    id: Annotated[int, Meta(ge=0)]
    result: PageResult | Footprint | CleanedUp | Failure | Begun | Delta | Progress | None = None
