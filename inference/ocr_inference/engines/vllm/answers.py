"""Reads vLLM's streamed answers: events, errors, what became of a page. Pure."""

from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec
from msgspec import Struct

from ocr_inference.protocol.engine import Delta, Failure, FailureKind

DONE: Final = b"[DONE]"
_MAX_SAID: Final = 500
_BROKEN_OFF: Final = ("abort", "error")
"""Reasons of an answer that isn't whole: vLLM gives the first to all answers under way when it is asked to end."""


class _Text(Struct):
    content: str | None = None


class _Choice(Struct):
    delta: _Text = msgspec.field(default_factory=_Text)
    finish_reason: str | None = None


class _Usage(Struct):
    prompt_tokens: int = 0
    completion_tokens: int | None = None


class _Error(Struct):
    message: str = ""
    type: str = ""
    param: str | None = None


class _Chunk(Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: _Error | None = None


class Unwell(Exception):
    """Answer of a server whose engine may have died: it says so to each request before it ends."""


_CHUNK: Final = msgspec.json.Decoder(_Chunk)


@dataclass
class Written:
    """Answer so far."""

    text: list[str] = field(default_factory=list)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    """Without the one that ends the answer, which vLLM counts, too."""
    finish_reason: Literal["stop", "length"] | None = None

    def take(self, line: bytes) -> Delta | None:
        """Take a line of the stream; return the piece of text that it has, if any. Raises `Unwell`."""
        data = line.removeprefix(b"data:").strip()
        if not data or data == DONE or not line.startswith(b"data:"):
            return None
        try:
            chunk = _CHUNK.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unwell(f"vLLM sent what can't be read: {error}") from None
        if chunk.error is not None:
            # With status 200, and `[DONE]` behind it.
            raise Unwell(chunk.error.message[:_MAX_SAID])
        if chunk.usage is not None:
            self.prompt_tokens = chunk.usage.prompt_tokens
        piece = ""
        for choice in chunk.choices:
            piece += choice.delta.content or ""
            if choice.finish_reason in _BROKEN_OFF:
                raise Unwell("vLLM broke the answer off")
            if choice.finish_reason is not None:
                self.finish_reason = "length" if choice.finish_reason == "length" else "stop"
        if chunk.usage is not None and chunk.usage.completion_tokens is not None:
            self.completion_tokens = chunk.usage.completion_tokens - (self.finish_reason == "stop")
        if not piece:
            return None
        self.text.append(piece)
        return Delta(text=piece, prompt_tokens=self.prompt_tokens, completion_tokens=self.completion_tokens)


def refused(status: int, answer: bytes) -> Failure:
    """Explain a request that was refused before it began. Raises `Unwell` where it is the server that has failed."""
    try:
        error = _CHUNK.decode(answer).error or _Error()
    except (msgspec.DecodeError, UnicodeDecodeError):
        error = _Error()
    said = error.message[:_MAX_SAID] or f"status {status}"
    if status >= 500:
        raise Unwell(said)
    if status == 400:
        too_long = (
            error.param == "input_tokens"
            or "maximum context length" in said
            or "exceeds model's maximum" in said
        )
        return Failure(
            kind=FailureKind.UNSUPPORTED,
            message=f"the model can't take this page: {said}",
            param="resolution" if too_long else None,
        )
    return Failure(kind=FailureKind.FAILED, message=f"vLLM refused the page: {said}")
