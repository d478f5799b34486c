"""What vLLM is sent for a page: the same prompts, bounds and loop guard as with the engine `transformers`."""

import base64
import io
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from PIL import Image

from ocr_inference.engines import pictures
from ocr_inference.engines.vllm.opening import Opened
from ocr_inference.families import CHAT, chat, grounded, page_size
from ocr_inference.families.marks import without
from ocr_inference.protocol.engine import EngineError, Failure, FailureKind, InferRequest
from ocr_wire.tasks import Task

MODEL: Final = "m"
"""The model's name between us and its server."""
RESOLUTION: Final = "gundam"
"""The one at which vLLM reads pages with DeepSeek-OCR, either version: its sizes are constants of its code."""
_FAST: Final = 1
"""Compression of PNG: the next levels take several times as long, and the bytes go to a process beside this one."""


class Asked(msgspec.Struct, frozen=True):
    """Request to vLLM for a page."""

    body: bytes
    """JSON."""
    width: int
    height: int
    """Pixels of the upright page."""
    read_at: str | None
    """The request's `read_at`, where that made the page smaller."""


def ask(opened: Opened, request: InferRequest, max_context: int) -> Asked:
    """Decode the page and build the request; raises `EngineError`."""
    words = prompt(opened, request)
    pages = pictures.decode_each(request)
    longest = page_size.side(request.read_at) if request.resolution is None else None
    sizes = [page_size.fitted(page.width, page.height, longest) for page in pages]
    smaller = [pictures.scaled(page, size) for page, size in zip(pages, sizes, strict=True)]
    return Asked(
        body=msgspec.json.encode(body(opened, request, list(map(_data_url, smaller)), words, max_context)),
        width=pages[0].width,
        height=pages[0].height,
        read_at=request.read_at if smaller != pages else None,
    )


def prompt(opened: Opened, request: InferRequest) -> str:
    """Return the text beside the picture. Raises `EngineError` for what this engine can't do."""
    if opened.family is CHAT:
        words = chat.prompt(opened.model_type, Task(request.task), request.prompt)
        return without(opened.marks, words) if request.task == Task.FREEFORM else words
    if request.resolution not in (None, RESOLUTION):
        message = f"engine vllm reads pages with this model at resolution {RESOLUTION} only; leave it out"
        raise EngineError(Failure(kind=FailureKind.UNSUPPORTED, message=message, param="resolution"))
    if request.parts:
        message = "this model reads one picture at a time: send a request for each"
        raise EngineError(Failure(kind=FailureKind.UNSUPPORTED, message=message, param="file"))
    words = grounded.prompt(
        Task(request.task), request.find_term, request.prompt, grounding=request.grounding
    )
    return words.removeprefix("\n")  # vLLM puts that between the picture's mark and the text


def body(
    opened: Opened, request: InferRequest, urls: Sequence[str], words: str, max_context: int
) -> dict[str, Any]:
    """Return the JSON object of a request with these pictures. vLLM ignores fields that it doesn't know."""
    content: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    if words:
        content.append({"type": "text", "text": words})
    asked: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": content}],
        "temperature": 0.0,
        "repetition_penalty": 1.0,
        # Without one it writes to the end of the model's context; it cuts what doesn't fit beside the prompt.
        "max_tokens": min(request.max_tokens or max_context, max_context),
        "stop_token_ids": list(opened.eos_ids),
        # Places and tables are special tokens with some models; families read them.
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }
    if request.loop_guard:
        asked["vllm_xargs"] = {
            "ngram_size": opened.guard.ngram,
            "window_size": opened.guard.window,
            "whitelist_token_ids": sorted(opened.guard.allowed),
        }
    return asked


def smaller(opened: Opened, request: InferRequest, read: Asked | None) -> tuple[str, ...]:
    """Return the sizes below the one that a request is read at, largest first; of DeepSeek-OCR there is one only."""
    if opened.family is not CHAT:
        return ()
    longest = page_size.side(request.read_at) or (
        max(read.width, read.height) if read else page_size.LONGEST_SIDE
    )
    return page_size.smaller_sides(longest)


def _data_url(page: Image.Image) -> str:
    data = io.BytesIO()
    page.save(data, "PNG", compress_level=_FAST)
    return "data:image/png;base64," + base64.b64encode(data.getbuffer()).decode("ascii")
