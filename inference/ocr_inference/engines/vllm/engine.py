"""Vision-language models by vLLM's own server, a process with a Python of its own that the worker supervises.

The worker decodes pages, asks and reads what is streamed back; vLLM batches and computes. It is never imported here: it
pins other versions of torch and transformers. Its weights are in its own processes, never in the host tier: where they
leave a GPU (sleep), they stay in host memory for as long as that server lives, and no other worker can restore them.
"""

import functools
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from ocr_inference import limits
from ocr_inference.checkpoints import sources
from ocr_inference.engines import pictures, stepping
from ocr_inference.engines.vllm import asking, command, leftovers, log_words, measuring, opening, process
from ocr_inference.engines.vllm.client import Client, Died
from ocr_inference.engines.vllm.command import Start
from ocr_inference.engines.vllm.opening import Opened
from ocr_inference.engines.vllm.process import ServerProcess
from ocr_inference.protocol.engine import (
    Broken,
    Delta,
    EngineError,
    Event,
    Failure,
    FailureKind,
    Footprint,
    InferRequest,
    ModelSpec,
    PageResult,
    Progress,
    Report,
)
from ocr_inference.protocol.host_tier import HostTier
from ocr_inference.protocol.memory_use import DeviceUse
from ocr_wire import engines

log = logging.getLogger(__name__)

PYTHON: Final = engines.BY_NAME["vllm"].interpreter
PRELOAD = pictures.DECODERS
_READY_POLL_SECONDS: Final = 0.25
_STEP_SECONDS: Final = 0.01
"""Longest time that a step waits for news of its pages: new ones come in between two steps."""
_SLEEP_SECONDS: Final = 600.0
_LEFT_PART: Final = 0.5
"""Most of the memory that may be left on the GPU after the weights have gone: contexts and graphs stay."""
_UNSEEN: Final = "what is taken of the GPU can't be measured (see the log), so it is unloaded instead"


class _Models(msgspec.Struct):
    class Model(msgspec.Struct):
        max_model_len: int

    data: list[Model]


class VllmEngine:
    """`SteppingEngine` and `SupervisingEngine` of one model in a server of vLLM."""

    def __init__(self, spec: ModelSpec, host: HostTier, report: Report, environ: Mapping[str, str]) -> None:
        self._spec = spec
        self._options = engines.with_defaults("vllm", spec.options)
        self.max_batch = int(self._options["max_batch"])
        self._host = host
        self._report = report
        self._environ = environ
        self._server: ServerProcess | None = None
        self._client: Client | None = None
        self._opened: Opened | None = None
        self.max_context = 0
        """Tokens of prompt and answer, while a server runs."""
        self._pages: dict[int, InferRequest] = {}
        self._footprint = Footprint()
        """While the model is ready."""
        self._slept: Footprint | None = None
        """While it sleeps."""
        self._dead: Broken | None = None
        """Once the server has ended by itself, and its pages have failed for that."""

    # --- life cycle -------------------------------------------------------------------------------------------

    def load(self) -> Footprint:
        self.unload()
        leftovers.end()
        checkpoint = sources.fetch(self._spec, Path(self._spec.cache_dir), self._report, self._environ)
        self._opened = opening.open(checkpoint.folder)
        # Not before a download: others come and go meanwhile.
        used = self._device_used() if self._spec.device == "cuda" else None
        try:
            self._start(self._opened)
            self._wait()
        except BaseException:
            self.unload()
            raise
        self._footprint = self._measured(used)
        return self._footprint

    def offload(self) -> Footprint:
        self._forget_pages()
        if not command.sleeps(self._spec.device):
            raise EngineError(_failed("vLLM's weights can't leave this device"))
        before = self._device_used()
        if before is None:
            raise EngineError(_failed(f"vLLM isn't put to sleep: {_UNSEEN}"))
        self._ask("/sleep?level=1")
        after = self._device_used()
        if after is None:
            raise EngineError(_failed(f"vLLM says that it sleeps, which isn't believed: {_UNSEEN}"))
        held = self._footprint.device_bytes
        freed = min(before - after, held)  # others may leave the GPU at that moment
        if freed <= 0 or freed < held * (1 - _LEFT_PART):
            raise EngineError(_failed(f"vLLM says that it sleeps, and has freed {freed} of {held} bytes"))
        left = max(0, held - freed)
        log.info("model %s sleeps: %d bytes of the GPU are free, %d stay taken", self._spec.name, freed, left)
        self._slept = Footprint(device_bytes=left, host_bytes=freed)
        return self._slept

    def stand_by(self) -> Footprint:
        raise EngineError(_failed("vLLM's weights end with its server, so nothing can stand by"))

    def restore(self) -> Footprint:
        if self._client is None:
            raise EngineError(_failed("the model's weights are not in host memory: its server has ended"))
        if self._slept is not None:
            before = self._device_used()
            self._ask("/wake_up")
            self._footprint = measuring.awake(self._footprint, self._slept, before, self._device_used())
            self._slept = None
        return self._footprint

    def unload(self) -> Footprint:
        self._forget_pages()
        self._close()
        self._host.resize(0)
        self._footprint = Footprint()
        return self._footprint

    @property
    def pid(self) -> int | None:
        """Process id of the keeper, of which all processes of the server descend."""
        return None if self._server is None else self._server.pid

    @property
    def folder(self) -> Path | None:
        """The server's own folder."""
        return None if self._server is None else self._server.socket_path.parent

    # --- pages ------------------------------------------------------------------------------------------------

    @property
    def free_slots(self) -> int:
        return self.max_batch - len(self._pages)

    def admit(self, number: int, request: InferRequest) -> None:
        self._pages[number] = request
        if self._client is not None and self._opened is not None and self._slept is None:
            prepare = functools.partial(asking.ask, self._opened, request, self.max_context)
            self._client.read(number, prepare, self._opened.family.name)

    def step(self) -> list[Event]:
        if self._dead is not None:
            raise self._dead
        if self._client is None or self._slept is not None:
            events: list[Event] = [(number, _failed("the model is not loaded")) for number in self._pages]
            self._pages.clear()
            return events
        events = []
        for report in self._client.reports(_STEP_SECONDS):
            if isinstance(report, Died):
                return [*events, *self._ended()]
            number, event = report
            if number not in self._pages:  # it was cancelled
                continue
            events.append(report)
            if not isinstance(event, Delta):
                del self._pages[number]
        if not events and self._server is not None and self._server.has_ended():
            return self._ended()
        return events

    def cancel(self, number: int) -> bool:
        if self._pages.pop(number, None) is not None and self._client is not None:
            self._client.cancel(number)
        return True

    def infer(self, requests: Sequence[InferRequest]) -> list[PageResult | Failure]:
        """Read all pages to their end; for callers that don't step."""
        return stepping.read(self, requests)

    def look(self) -> None:
        if self._dead is not None:
            raise self._dead
        if self._server is not None and self._server.has_ended():
            raise self._broken()

    def clean_up(self) -> None:
        """Do nothing: what vLLM keeps is reserved for pages, and the worker keeps nothing."""

    def device_use(self) -> DeviceUse | None:
        return None

    # --- the server -------------------------------------------------------------------------------------------

    def _start(self, opened: Opened) -> None:
        python = self._python()
        folder = process.new_folder()
        cache = Path(self._spec.cache_dir) / "vllm" if self._spec.cache_dir else folder / "cache"
        start = Start(
            python=python,
            checkpoint=opened.folder,
            folder=folder,
            cache=cache,
            device=self._spec.device,
            gpu_uuid=self._spec.gpu_uuid,
            dtype=self._dtype(),
            max_batch=self.max_batch,
            max_context=int(self._options["max_context"]),
            kv_cache_gib=float(self._options["kv_cache_gib"]),
            eager=bool(self._options["eager"]),
            threads=int(self._options["threads"]) or limits.threads(),
            says_normalisation=opened.says_normalisation,
        )
        self._server = ServerProcess(start, self._environ, self._on_line)

    def _python(self) -> str:
        python = self._environ.get(PYTHON, "")
        if not os.access(python, os.X_OK):
            message = engines.why_missing("vllm", ("vllm",))
            raise EngineError(Failure(kind=FailureKind.UNSUPPORTED, message=message))
        # The server has a working folder of its own. Links stay: they are what makes a virtual environment.
        return str(Path(python).absolute())

    def _dtype(self) -> str:
        """Return the number type, as the engine `transformers` chooses it."""
        if self._spec.dtype != "auto":
            return self._spec.dtype
        return "auto" if self._spec.device == "cuda" else "float32"

    def _on_line(self, line: str) -> None:
        log.info("vllm: %s", line)
        if (stage := log_words.stage(line)) is not None:
            self._report(Progress(phase="starting", file=stage))

    def _wait(self) -> None:
        """Wait until the server is ready. How long that may take, the caller decides by its progress."""
        assert self._server is not None
        self._report(Progress(phase="starting"))
        self._client = Client(self._server.socket_path, self._server.has_ended, self._server.outlives)
        while not self._client.is_ready():
            if self._server.wait(_READY_POLL_SECONDS):
                raise self._failed_start(self._server)
        found = msgspec.json.decode(self._client.get("/v1/models"), type=_Models)
        self.max_context = found.data[0].max_model_len

    def _failed_start(self, server: ServerProcess) -> Exception:
        failure = log_words.failed_start(
            server.end(), self._environ.get(PYTHON, ""), on_gpu=self._spec.device == "cuda"
        )
        if failure.kind is not FailureKind.OUT_OF_MEMORY:
            return EngineError(failure)
        return limits.OutOfHostMemory(failure.message) if failure.of_host else MemoryError(failure.message)

    def _ended(self) -> list[Event]:
        """Return what becomes of the pages of a server that has ended for lack of memory, which each of them may be the
        cause of: other ways are tried for them, and `look` raises what ends this worker. Raises `Broken` where it ended
        for another reason."""
        opened, broken = self._opened, self._broken()
        if broken.failure.kind is not FailureKind.OUT_OF_MEMORY or opened is None:
            raise broken
        self._dead, pages = broken, self._pages
        self._pages = {}
        failure = msgspec.structs.replace(broken.failure, shared=len(pages) > 1)
        return [
            (number, msgspec.structs.replace(failure, smaller=asking.smaller(opened, request, None)))
            for number, request in pages.items()
        ]

    def _broken(self) -> Broken:
        """End what is left of a server that has ended; the worker ends with it, and its pages are read by another."""
        assert self._server is not None
        end = self._server.kill()
        self._close()
        leftovers.end()
        return Broken(log_words.died(end, on_gpu=self._spec.device == "cuda"))

    def _close(self) -> None:
        if self._client is not None:
            self._client.close()
        if self._server is not None:
            self._server.end()
        self._client = self._server = self._opened = self._dead = None
        self._slept = None

    def _forget_pages(self) -> None:
        for number in list(self._pages):
            self.cancel(number)

    def _ask(self, path: str) -> None:
        """Send the server a call of its life cycle."""
        if self._client is None:
            raise EngineError(_failed("the model is not loaded"))
        try:
            self._client.post(path, _SLEEP_SECONDS)
        except OSError as error:
            raise EngineError(_failed(f"vLLM failed: {error}")) from error

    # --- memory -----------------------------------------------------------------------------------------------

    def _device_used(self) -> int | None:
        return measuring.device_used_bytes(self._spec.gpu_uuid)

    def _measured(self, used_before: int | None) -> Footprint:
        """Measure what the server takes: of a GPU what came on top of `used_before`, else of host memory.

        Where the driver doesn't say it, a GPU has at least what was asked for: the weights and room for pages.
        """
        assert self._server is not None
        if self._spec.device != "cuda":
            taken = measuring.host_bytes(self._server.pids())
            return Footprint(device_bytes=taken, host_bytes=taken)
        used = self._device_used()
        if used is not None and used_before is not None:
            return Footprint(device_bytes=max(0, used - used_before))
        assert self._opened is not None
        pages = int(float(self._options["kv_cache_gib"]) * command.GIB)
        return Footprint(device_bytes=measuring.weights_bytes(self._opened.folder) + pages)


def create(spec: ModelSpec, host: HostTier, report: Report) -> VllmEngine:
    return VllmEngine(spec, host, report, dict(os.environ))


def _failed(message: str) -> Failure:
    return Failure(kind=FailureKind.FAILED, message=message)
