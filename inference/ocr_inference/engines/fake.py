"""An engine that reads nothing, for tests and demonstrations: its options declare the time and memory that it takes.

Options: `load_seconds stand_by_seconds restore_seconds offload_seconds unload_seconds infer_seconds` (0), `host_bytes`
(64 KiB), `device_bytes` (as many), `max_batch` (1), and `faults_file`: a JSON file, read before each call, that maps a
call (`load`, `infer`, …) to a fault: `fail`, `oom`, `crash` (the process is killed), `break` (it ends), `hang`,
`mutter` (it hangs, and a thread reports the same progress on and on) or `hold` (as long as the file says so); the log
says when the last three begin. `page KEY` instead of a call is a page, by the key in its answer: its fault happens when
it is read, to all pages that are read with it. A page has two more: `oom together`, memory runs out beside other pages
only; `oom SIZE SIZE …`, at any size but the last of these, which are all that the model has. `image` is the weight
image that a load could write: `fail` or `full`, as a disk is. `cancel` with `hold` keeps pages that are cancelled in
the engine, which goes on with them. Answers begin with `fake`, and depend on nothing but the
page and the request.

With `step_seconds` it writes its answer word by word, a word of each page in a step of that time, up to `max_batch`
pages at once; a page's words are repeated `repeat` (1) times, and `max_tokens` counts them: a word is a token, and a
page is `PICTURE_TOKENS`.

With a source it fetches and checks the checkpoint as other engines do, and holds its weight files as they are.
"""

import hashlib
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ocr_inference.checkpoints import sources
from ocr_inference.engines import pictures
from ocr_inference.protocol.engine import (
    Broken,
    Delta,
    EngineError,
    Event,
    Failure,
    FailureKind,
    Footprint,
    InferRequest,
    Line,
    ModelSpec,
    PageResult,
    Progress,
    Report,
    Shortage,
)
from ocr_inference.protocol.host_tier import HostTier
from ocr_inference.protocol.memory_use import DeviceUse
from ocr_wire import engines

PICTURE_TOKENS = 100
HANG_SECONDS = 3600.0
HOLD_SECONDS = 0.01
"""Between two looks at the faults file."""
_MAX_FAULTS_BYTES = 65_536
_CALLS = ("load", "stand_by", "restore", "offload", "unload", "infer")


class Fake:
    def __init__(self, spec: ModelSpec, host: HostTier, report: Report) -> None:
        options = engines.with_defaults("fake", spec.options)
        self._seconds = {call: float(options[f"{call}_seconds"]) for call in (*_CALLS, "step")}
        self._repeat = max(1, int(options["repeat"]))
        self._host_bytes = int(options["host_bytes"])
        device_bytes = int(options["device_bytes"])
        self._device_bytes = self._host_bytes if device_bytes < 0 else device_bytes
        self.max_batch = max(1, int(options["max_batch"]))
        faults = str(options["faults_file"])
        self._faults = Path(faults) if faults else None
        self._name = spec.name
        self._host = host
        self._weights: bytes | None = None
        self._spec = spec
        self._report = report
        self._files: list[Path] = []

    def load(self) -> Footprint:
        self._act("load")
        self._find_files()
        self._host.resize(self._host_bytes)
        with open(self._host.path, "r+b") as tier:
            tier.write(self._pattern())
        return msgspec.structs.replace(self._become_ready(), image_failure=self._image_failure())

    def _image_failure(self) -> Failure | None:
        if (fault := self._fault("image")) is None:
            return None
        kind = FailureKind.DISK_FULL if fault == "full" else FailureKind.FAILED
        return Failure(kind=kind, message="the weight image can't be written, as the faults file says")

    def offload(self) -> Footprint:
        self._act("offload")
        self._weights = None
        return Footprint(device_bytes=0, host_bytes=self._host.size)

    def stand_by(self) -> Footprint:
        self._act("stand_by")
        self._find_files()
        return Footprint(host_bytes=self._host.size)

    def restore(self) -> Footprint:
        self._act("restore")
        self._find_files()
        return self._become_ready()

    def unload(self) -> Footprint:
        self._act("unload")
        self._weights = None
        self._host.resize(0)
        return Footprint()

    def infer(self, requests: Sequence[InferRequest]) -> Sequence[PageResult | Failure]:
        self._act("infer")
        return [self._read(request, together=len(requests) > 1) for request in requests]

    def clean_up(self) -> None:
        self._act_out("clean_up")

    def device_use(self) -> DeviceUse | None:
        return None

    def _become_ready(self) -> Footprint:
        with open(self._host.path, "rb") as tier:
            weights = tier.read(self._host_bytes + 1)
        if weights != self._pattern():
            raise EngineError(_failed("host memory doesn't hold this model's weights"))
        self._weights = weights
        return Footprint(device_bytes=self._device_bytes, host_bytes=len(weights))

    def _find_files(self) -> None:
        if self._spec.repo is None and self._spec.path is None:
            return
        folder = sources.fetch(self._spec, Path(self._spec.cache_dir), self._report).folder
        self._files = [folder / name for name in sources.check(folder).weights]
        self._host_bytes = sum(file.stat().st_size for file in self._files)

    def _pattern(self) -> bytes:
        """Return weights that only this model has, so that mixing up host tiers is noticed."""
        if self._files:
            return b"".join(file.read_bytes() for file in self._files)
        block = hashlib.sha256(self._name.encode()).digest()
        return (block * (self._host_bytes // len(block) + 1))[: self._host_bytes]

    def _read(self, request: InferRequest, *, together: bool = False) -> PageResult | Failure:
        began = time.perf_counter()
        if self._weights is None:
            return _failed("the model is not loaded")
        try:
            page = pictures.decode(request.image, request.max_pixels)
        except EngineError as error:
            return error.failure
        key = hashlib.sha256(page.tobytes()).hexdigest()[:12]
        if (lack := self._lack(f"page {key}", request, together=together)) is not None:
            return lack
        text = f"fake {request.task} of page {key} by {self._name}"
        width, height = float(page.width), float(page.height)
        box = ((0.0, 0.0), (width, 0.0), (width, height), (0.0, height))
        return PageResult(
            text=text,
            width=page.width,
            height=page.height,
            lines=(Line(text, 1.0, box),),
            seconds=time.perf_counter() - began,
            shortage=None if request.read_at is None else Shortage(read_at=request.read_at, why="requested"),
        )

    def _lack(self, page: str, request: InferRequest, *, together: bool) -> Failure | None:
        """Return the failure of a page for which memory runs out, and act out any other fault of it."""
        fault, _, words = (self._fault(page) or "").partition(" ")
        if fault != "oom" or not words:
            self._act_out(page)
            return None
        sizes = [] if words == "together" else words.split()
        if request.read_at == sizes[-1] if sizes else not together:
            return None
        at = sizes.index(request.read_at) + 1 if request.read_at in sizes else 0
        kind = FailureKind.OUT_OF_MEMORY
        return Failure(kind=kind, message=f"{page}, as the faults file says", smaller=tuple(sizes[at:]))

    def _said(self, request: InferRequest, *, together: bool) -> PageResult | Failure:
        """Return the answer, repeated by the option, within the request's tokens."""
        page = self._read(request, together=together)
        if isinstance(page, Failure):
            return page
        words = " ".join([page.text] * self._repeat).split(" ")
        limit = len(words) if request.max_tokens is None else request.max_tokens
        return msgspec.structs.replace(
            page,
            text=" ".join(words[:limit]),
            completion_tokens=min(limit, len(words)),
            finish_reason="length" if limit < len(words) else "stop",
        )

    def _act(self, call: str) -> None:
        """Take the declared time, then act out the fault of the faults file."""
        time.sleep(self._seconds[call])
        self._act_out(call)

    def _act_out(self, call: str) -> None:
        match self._fault(call):
            case None:
                return
            case "fail":
                raise EngineError(_failed(f"{call} fails, as the faults file says"))
            case "oom":
                raise MemoryError(f"{call}, as the faults file says")
            case "crash":
                os.kill(os.getpid(), signal.SIGKILL)
            case "break":
                raise Broken(_failed(f"{call} breaks, as the faults file says"))
            case "hang":
                sys.stderr.write(f"{call} hangs, as the faults file says\n")
                time.sleep(HANG_SECONDS)
            case "mutter":
                sys.stderr.write(f"{call} mutters, as the faults file says\n")
                threading.Thread(target=self._mutter, daemon=True).start()
                time.sleep(HANG_SECONDS)
            case "hold":
                sys.stderr.write(f"{call} is held, as the faults file says\n")
                while self._fault(call) == "hold":
                    time.sleep(HOLD_SECONDS)
            case other:
                raise EngineError(_failed(f"faults file: no fault {other!r}"))

    def _mutter(self) -> None:
        while True:
            self._report(Progress(phase="reading", done_bytes=1, total_bytes=2))
            time.sleep(HOLD_SECONDS)

    def _fault(self, call: str) -> str | None:
        if self._faults is None or not self._faults.exists():
            return None
        with self._faults.open("rb") as file:
            faults = json.loads(file.read(_MAX_FAULTS_BYTES) or b"{}")
        fault = faults.get(call)
        return None if fault is None else str(fault)


class SteppingFake(Fake):
    """Fake engine that writes word by word."""

    def __init__(self, spec: ModelSpec, host: HostTier, report: Report) -> None:
        super().__init__(spec, host, report)
        self._pages: dict[int, tuple[PageResult | Failure, list[str]]] = {}
        self._raising: Exception | None = None
        """Fault of a page: the next step raises it, for all pages."""

    @property
    def free_slots(self) -> int:
        return self.max_batch - len(self._pages)

    def admit(self, number: int, request: InferRequest) -> None:
        words: list[str] = []
        try:
            page = self._said(request, together=bool(self._pages))
        except (EngineError, MemoryError) as error:
            page, self._raising = _failed("the next step raises"), error
        if isinstance(page, PageResult):
            # As a language model's: no lines are found, text is written.
            tokens = PICTURE_TOKENS + len((request.prompt or "").split())
            page = msgspec.structs.replace(page, prompt_tokens=tokens, family="chat", lines=())
            words = re.findall(r"\S+ ?", page.text)
        self._pages[number] = (page, words)

    def step(self) -> Sequence[Event]:
        try:
            self._act("infer")
            if (error := self._raising) is not None:
                raise error
        except BaseException:
            self._pages.clear()
            self._raising = None
            raise
        time.sleep(self._seconds["step"])
        events: list[Event] = []
        for number, (page, words) in list(self._pages.items()):
            if words and isinstance(page, PageResult):
                done = page.completion_tokens - len(words) + 1
                piece = Delta(text=words.pop(0), prompt_tokens=page.prompt_tokens, completion_tokens=done)
                events.append((number, piece))
            if not words:
                events.append((number, page))
                del self._pages[number]
        return events

    def cancel(self, number: int) -> bool:
        if number in self._pages and self._fault("cancel") == "hold":
            return False
        self._pages.pop(number, None)
        return True


def create(spec: ModelSpec, host: HostTier, report: Report) -> Fake:
    is_stepping = float(engines.with_defaults("fake", spec.options)["step_seconds"]) >= 0
    return (SteppingFake if is_stepping else Fake)(spec, host, report)


def _failed(message: str) -> Failure:
    return Failure(kind=FailureKind.FAILED, message=message)
