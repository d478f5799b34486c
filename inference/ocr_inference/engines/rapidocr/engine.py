"""PP-OCR as an engine: pages in, lines out, in the order in which they are read.

The host tier is the bytes of the three ONNX models, one after another. Ready means sessions built from these
bytes; restoring builds them again without touching the disk.
"""

import contextlib
import ctypes
import gc
import mmap
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import onnxruntime
import rapidocr
from PIL import Image
from rapidocr.main import RapidOCR

from ocr_inference import limits
from ocr_inference.engines import pictures, stepping
from ocr_inference.engines.rapidocr import ink
from ocr_inference.engines.rapidocr.detection import Detection
from ocr_inference.engines.rapidocr.pages import Check, Pages
from ocr_inference.engines.rapidocr.recognition import Recognition
from ocr_inference.layout import blocks
from ocr_inference.layout.quads import Quad
from ocr_inference.protocol.engine import (
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
)
from ocr_inference.protocol.host_tier import HostTier
from ocr_inference.protocol.memory_use import DeviceUse
from ocr_wire import engines

PRELOAD = (*pictures.DECODERS, "rapidocr.inference_engine.onnxruntime.main")
"""Modules that the first load and the first page import beyond this one; a forkserver imports them, too."""

MODELS: Mapping[str, str] = {
    "Det": "PP-OCRv6_det_small.onnx",
    "Cls": "ch_ppocr_mobile_v2.0_cls_mobile.onnx",
    "Rec": "PP-OCRv6_rec_small.onnx",
}
"""rapidocr's sections (find text, turn it upright, read it) and the files in its wheel, in host tier order."""

_M_ARENA_MAX = -8
"""Parameter of glibc's mallopt(3)."""
SESSION_BYTES = 4
"""Memory of sessions and of their making for each byte of the models."""


@dataclass(frozen=True)
class _Model:
    file: Path
    size: int
    """In bytes."""


class RapidOcr:
    """`SteppingEngine` of the three models: pages are read at the same time, each by itself."""

    max_batch = 1

    def __init__(
        self,
        host: HostTier,
        models: Mapping[str, "_Model"],
        threads: int,
        max_batch: int,
        report: Report | None,
    ) -> None:
        """Prepare, to read up to `max_batch` pages at a time with that many threads for each."""
        self._host = host
        self._report = report
        self._models = models
        self._threads = threads
        self._reader: _Reader | None = None
        self._pages = Pages(self._read, max_batch, limits.memory_left, _trim)

    def load(self) -> Footprint:
        total, done = self._bytes, 0
        self._host.resize(total)
        with open(self._host.path, "r+b") as tier:
            for model in self._models.values():
                data = model.file.read_bytes()
                if len(data) != model.size:
                    raise EngineError(_failed(f"{model.file.name} changed its size while it was read"))
                tier.write(data)
                done += model.size
                if self._report is not None:
                    self._report(
                        Progress(phase="reading", done_bytes=done, total_bytes=total, file=model.file.name)
                    )
        return self.restore()

    def offload(self) -> Footprint:
        self._pages.finish()
        self._reader = None
        return Footprint(device_bytes=0, host_bytes=self._host.size)

    def stand_by(self) -> Footprint:
        """Do nothing: only the sessions take time, and they are what ready means."""
        return Footprint(host_bytes=self._host.size)

    def restore(self) -> Footprint:
        expected = self._bytes
        if self._host.size != expected:
            raise EngineError(
                _failed(f"host memory holds {self._host.size} bytes, the models have {expected}")
            )
        limits.require_memory(SESSION_BYTES * expected, "the model")
        reader = RapidOCR(params={"Global.log_level": "error"})
        # Its configuration takes ready-made sessions, once it accepts objects.
        reader.cfg._set_flag("allow_objects", True)
        with mmap.mmap(self._host.fd, expected, access=mmap.ACCESS_READ) as tier:
            at = 0
            for name, model in self._models.items():
                reader.cfg[name].session = self._session(tier[at : at + model.size])
                at += model.size
        self._reader = _Reader(
            Detection(reader._load_det_model()),
            Recognition(reader._load_cls_model(), reader._load_rec_model()),
        )
        return Footprint(device_bytes=expected, host_bytes=expected)

    def unload(self) -> Footprint:
        self._pages.finish()
        self._reader = None
        self._host.resize(0)
        return Footprint()

    @property
    def free_slots(self) -> int:
        return self._pages.free_slots

    def admit(self, number: int, request: InferRequest) -> None:
        self._pages.admit(number, request)

    def cancel(self, number: int) -> bool:
        return self._pages.cancel(number)

    def step(self) -> Sequence[Event]:
        return self._pages.events()

    def infer(self, requests: Sequence[InferRequest]) -> Sequence[PageResult | Failure]:
        return stepping.read(self, requests)

    def clean_up(self) -> None:
        gc.collect()  # no more: sessions have no arena, and free a page's memory when it is read

    def device_use(self) -> DeviceUse | None:
        return None

    @property
    def _bytes(self) -> int:
        return sum(model.size for model in self._models.values())

    def _session(self, model: bytes) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # The arena keeps the largest page's memory for ever.
        options.enable_cpu_mem_arena = False
        options.intra_op_num_threads = self._threads
        # Threads that spin while they wait are quick on an idle machine and ruinous where pods share its cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def _read(self, request: InferRequest, check: Check) -> PageResult:
        began = time.perf_counter()
        if (reader := self._reader) is None:
            raise EngineError(_failed("the model is not loaded"))
        page = pictures.decode(request.image, request.max_pixels)
        lines = reader.read(page, check)
        return PageResult(
            text="\n".join(line.text for line in lines),
            width=page.width,
            height=page.height,
            lines=lines,
            seconds=time.perf_counter() - began,
        )


class _Reader:
    """Lines of a page, found and read."""

    def __init__(self, detection: Detection, recognition: Recognition) -> None:
        self._detection, self._recognition = detection, recognition

    def read(self, page: Image.Image, check: Check) -> tuple[Line, ...]:
        check()
        found = ink.find(page)
        places = self._detection.lines(page, found)
        check()
        overlooked = self._detection.overlooked(page, found, places)
        check()
        texts = self._recognition.read(page, [*places, *overlooked], again=len(overlooked))
        lines = [Line(text.text, text.score, _clipped(text.quad, page)) for text in texts]
        return tuple(lines[at] for at in blocks.order(lines))


def create(spec: ModelSpec, host: HostTier, report: Report | None = None) -> RapidOcr:
    options = engines.with_defaults("rapidocr", spec.options)
    threads = int(options["threads"]) or limits.threads()
    # OpenCV cuts and turns the lines. By itself it takes each core that it sees, whatever the quota.
    cv2.setNumThreads(threads)
    _share_freed_memory()
    folder = Path(rapidocr.__file__).parent / "models"
    try:
        models = {
            name: _Model(folder / file, (folder / file).stat().st_size) for name, file in MODELS.items()
        }
    except OSError as error:
        message = f"rapidocr's wheel lacks a model: {error}; install rapidocr 3.10"
        raise EngineError(Failure(kind=FailureKind.UNSUPPORTED, message=message)) from error
    return RapidOcr(host, models, threads, min(threads, int(options["max_batch"])), report)


def _share_freed_memory() -> None:
    """Have all threads of this process allocate from one place: by itself glibc gives each its own, and each keeps what
    its largest page took. Where the C library isn't glibc, nothing happens."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def _trim() -> None:
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _clipped(quad: Quad, page: Image.Image) -> Quad:
    a, b, c, d = ((min(max(x, 0.0), page.width), min(max(y, 0.0), page.height)) for x, y in quad)
    return a, b, c, d


def _failed(message: str) -> Failure:
    return Failure(kind=FailureKind.FAILED, message=message)
