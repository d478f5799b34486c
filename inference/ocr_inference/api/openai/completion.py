"""Chat completions in OpenAI's shape: the answer, whole or in chunks, and where a stop text ends it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import Struct


class StopTexts:
    """Cuts a text that comes in pieces before the stop text that is complete first. What may yet become one is held
    back, so the outcome doesn't depend on the pieces."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.found = False

    def feed(self, piece: str) -> str:
        """What can be told now. Nothing any more once `found`."""
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
        """What was held back, when nothing comes any more."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """How many characters at the text's end are a beginning of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)


class Usage(Struct, frozen=True):
    prompt_tokens: int
    """What the model saw: text and picture."""
    completion_tokens: int
    total_tokens: int


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

    def whole(self, content: str, finish_reason: str, used: Usage, ocr: dict[str, Any]) -> dict[str, Any]:
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": content, "refusal": None},
            "logprobs": None,
            "finish_reason": finish_reason,
        }
        return {**self._head("chat.completion"), "choices": [choice], "usage": used, "ocr": ocr}

    def begin(self) -> dict[str, Any]:
        """The first chunk: who speaks."""
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def piece(self, text: str) -> dict[str, Any]:
        return self._chunk({"content": text})

    def end(self, finish_reason: str, ocr: dict[str, Any]) -> dict[str, Any]:
        """The last chunk of the choice; our own object is in it."""
        return {**self._chunk({}, finish_reason), "ocr": ocr}

    def usage_chunk(self, used: Usage) -> dict[str, Any]:
        """The chunk after the last, where it was asked for."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": used}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        chunk = {**self._head("chat.completion.chunk"), "choices": [choice]}
        # With `include_usage` every chunk has the key, and only the last one a value.
        return {**chunk, "usage": None} if self.include_usage else chunk
