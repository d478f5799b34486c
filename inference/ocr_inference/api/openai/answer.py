"""Chat completions in OpenAI's shape: the answer, whole or in chunks, and the stop texts that end it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from msgspec import Struct


class StopTexts:
    """Cuts a text that comes in pieces before the stop text that is complete first. What may still become a stop text
    is held back, so the outcome doesn't depend on the pieces."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.found = False

    def add(self, piece: str) -> str:
        """Add a piece; returns what can be sent now, nothing once `found`."""
        if self.found:
            return ""
        text = self._held + piece
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.found, self._held = True, ""
            return text[: min(found)[1]]
        keep = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> str:
        """Return what was held back, at the end of the text."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the text's end are a beginning of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)


class Usage(Struct, frozen=True):
    prompt_tokens: int
    """Tokens of text and picture."""
    completion_tokens: int
    total_tokens: int


class ChatMessage(Struct, frozen=True, kw_only=True):
    role: Literal["assistant"] = "assistant"
    content: str
    """The model's raw answer."""
    refusal: None = None


class ChatChoice(Struct, frozen=True, kw_only=True):
    index: int = 0
    message: ChatMessage
    logprobs: None = None
    finish_reason: str
    """`stop`, or `length` where the answer was cut off."""


class ChatCompletion(Struct, frozen=True, kw_only=True):
    """Answer that isn't streamed."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    """Unix time, whole seconds."""
    model: str
    choices: tuple[ChatChoice, ...]
    usage: Usage
    ocr: dict[str, Any]
    """Our own: task and metadata; text, boxes and dimensions where the request has an object `ocr`, too."""


def usage(prompt_tokens: int, completion_tokens: int) -> Usage:
    return Usage(prompt_tokens, completion_tokens, prompt_tokens + completion_tokens)


@dataclass(frozen=True)
class Writer:
    """Writes one answer, whole or in chunks, as JSON values."""

    id: str
    created: int
    """Unix time, whole seconds."""
    model: str
    include_usage: bool = False

    def whole(self, content: str, finish_reason: str, used: Usage, ocr: dict[str, Any]) -> ChatCompletion:
        choice = ChatChoice(message=ChatMessage(content=content), finish_reason=finish_reason)
        return ChatCompletion(
            id=self.id, created=self.created, model=self.model, choices=(choice,), usage=used, ocr=ocr
        )

    def begin(self) -> dict[str, Any]:
        """Return the first chunk: the role."""
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def piece(self, text: str) -> dict[str, Any]:
        return self._chunk({"content": text})

    def end(self, finish_reason: str, ocr: dict[str, Any]) -> dict[str, Any]:
        """Return the last chunk of the choice; our own object is in it."""
        return {**self._chunk({}, finish_reason), "ocr": ocr}

    def usage_chunk(self, used: Usage) -> dict[str, Any]:
        """Return the chunk after the last, for clients that want usage."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": used}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        chunk = {**self._head("chat.completion.chunk"), "choices": [choice]}
        # With `include_usage` every chunk has the key, and only the last one a value.
        return {**chunk, "usage": None} if self.include_usage else chunk
