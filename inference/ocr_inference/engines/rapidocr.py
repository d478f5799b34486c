"""PP-OCR by rapidocr and onnxruntime, on the CPU, with the models that rapidocr's wheel carries: no downloads.

The host tier is the bytes of the three ONNX models, one after another. Ready means sessions built from these
bytes; restoring builds them again without touching the disk.
"""

import mmap
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import rapidocr
from PIL import Image
from rapidocr.main import RapidOCR

from ocr_inference.engines import pictures
from ocr_inference.protocol.engine import (
    EngineError,
    Failure,
    FailureKind,
    Footprint,
    InferRequest,
    Line,
    ModelSpec,
    PageResult,
    Report,
)
from ocr_inference.protocol.host_tier import HostTier

PRELOAD = (*pictures.DECODERS, "rapidocr.inference_engine.onnxruntime.main")
"""Modules that the first load and the first page import beyond this one; a forkserver imports them, too."""

MODELS: Mapping[str, str] = {
    "Det": "PP-OCRv6_det_small.onnx",
    "Cls": "ch_ppocr_mobile_v2.0_cls_mobile.onnx",
    "Rec": "PP-OCRv6_rec_small.onnx",
}
"""rapidocr's sections (find text, turn it upright, read it) and the files in its wheel, in host tier order."""

MAX_SIDE = 2000
"""Pixels of the longer side that rapidocr works on; larger pages are scaled down to it."""

MAX_ASPECT = 8
"""Proportion from which pages are padded with white on the right or below, which moves no coordinate: text detection
scales the shorter side up to 736 pixels, so that a strip of 2000 x 20 would become a picture of 54 million."""


class RapidOcr:
    max_batch = 1

    def __init__(self, host: HostTier, sizes: Mapping[str, int], folder: Path, threads: int) -> None:
        self._host = host
        self._sizes = sizes
        self._folder = folder
        self._threads = threads
        self._reader: RapidOCR | None = None

    def load(self) -> Footprint:
        self._host.resize(sum(self._sizes.values()))
        with open(self._host.path, "r+b") as tier:
            for name, size in self._sizes.items():
                data = (self._folder / MODELS[name]).read_bytes()
                if len(data) != size:
                    raise EngineError(_failed(f"{MODELS[name]} changed its size while it was read"))
                tier.write(data)
        return self.restore()

    def offload(self) -> Footprint:
        self._reader = None
        return Footprint(device_bytes=0, host_bytes=self._host.size)

    def stand_by(self) -> Footprint:
        """Do nothing: only the sessions take time, and they are what ready means."""
        return Footprint(host_bytes=self._host.size)

    def restore(self) -> Footprint:
        expected = sum(self._sizes.values())
        if self._host.size != expected:
            raise EngineError(
                _failed(f"host memory holds {self._host.size} bytes, the models have {expected}")
            )
        reader = RapidOCR(params={"Global.log_level": "error"})
        # Its configuration takes ready-made sessions, once it accepts objects.
        reader.cfg._set_flag("allow_objects", True)
        with mmap.mmap(self._host.fd, expected, access=mmap.ACCESS_READ) as tier:
            at = 0
            for name, size in self._sizes.items():
                reader.cfg[name].session = self._session(tier[at : at + size])
                at += size
        reader._load_det_model()
        reader._load_cls_model()
        reader._load_rec_model()
        self._reader = reader
        return Footprint(device_bytes=expected, host_bytes=expected)

    def unload(self) -> Footprint:
        self._reader = None
        self._host.resize(0)
        return Footprint()

    def infer(self, requests: Sequence[InferRequest]) -> Sequence[PageResult | Failure]:
        return [self._read(request) for request in requests]

    def _session(self, model: bytes) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # The arena keeps the largest page's memory for ever.
        options.enable_cpu_mem_arena = False
        options.intra_op_num_threads = self._threads
        # Threads that spin while they wait are quick on an idle machine and ruinous where pods share its cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def _read(self, request: InferRequest) -> PageResult | Failure:
        began = time.perf_counter()
        if self._reader is None:
            return _failed("the model is not loaded")
        try:
            page = pictures.decode(request.image, request.max_pixels)
        except EngineError as error:
            return error.failure
        # OpenCV's order of colours is blue, green, red.
        pixels = np.ascontiguousarray(np.asarray(_fitted(page))[:, :, ::-1])
        lines = _lines(self._reader(pixels), page)
        return PageResult(
            text="\n".join(line.text for line in lines),
            width=page.width,
            height=page.height,
            lines=lines,
            seconds=time.perf_counter() - began,
        )


def create(spec: ModelSpec, host: HostTier, report: Report | None = None) -> RapidOcr:  # noqa: ARG001 nothing to report
    threads = spec.options.get("threads", 0)
    if not isinstance(threads, int) or isinstance(threads, bool) or not 0 <= threads <= 256:
        message = f"model {spec.name}: option threads is a number from 0 (all cores) to 256, not {threads!r}"
        raise EngineError(Failure(kind=FailureKind.UNSUPPORTED, message=message, param="options.threads"))
    threads = threads or len(os.sched_getaffinity(0))
    folder = Path(rapidocr.__file__).parent / "models"
    try:
        sizes = {name: (folder / file).stat().st_size for name, file in MODELS.items()}
    except OSError as error:
        message = f"rapidocr's wheel lacks a model: {error}; install rapidocr 3.10"
        raise EngineError(Failure(kind=FailureKind.UNSUPPORTED, message=message)) from error
    return RapidOcr(host, sizes, folder, threads)


def _inner_size(page: Image.Image) -> tuple[int, int]:
    """Return the size at which the page is read."""
    shrink = max(1.0, max(page.size) / MAX_SIDE)
    return max(1, round(page.width / shrink)), max(1, round(page.height / shrink))


def _fitted(page: Image.Image) -> Image.Image:
    """Return the page as rapidocr gets it: small enough, and not too thin."""
    inner = (
        page if page.size == _inner_size(page) else page.resize(_inner_size(page), Image.Resampling.BILINEAR)
    )
    least = max(32, -(-max(inner.size) // MAX_ASPECT))
    if min(inner.size) >= least:
        return inner
    canvas = Image.new("RGB", (max(inner.width, least), max(inner.height, least)), "white")
    canvas.paste(inner)
    return canvas


def _lines(output: Any, page: Image.Image) -> tuple[Line, ...]:
    """Return texts with boxes in the page's own pixels, clipped to it; nothing where no text was found."""
    if getattr(output, "txts", None) is None or getattr(output, "boxes", None) is None:
        return ()
    found = zip(output.txts, output.scores, output.boxes, strict=True)
    return tuple(Line(str(text), float(score), _box(box, page)) for text, score, box in found)


def _box(corners: Any, page: Image.Image) -> Any:
    inner_width, inner_height = _inner_size(page)
    wider, higher = page.width / inner_width, page.height / inner_height
    return tuple(
        (min(max(float(x) * wider, 0.0), page.width), min(max(float(y) * higher, 0.0), page.height))
        for x, y in corners
    )


def _failed(message: str) -> Failure:
    return Failure(kind=FailureKind.FAILED, message=message)
