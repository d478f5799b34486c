"""What the clients of a storm over a server ask, and the answers, however they come."""

import base64
import json
from dataclasses import dataclass
from typing import Any

import aiohttp


@dataclass(frozen=True)
class Ask:
    model: str
    page: int
    tokens: int
    task: str
    guard: bool

    @property
    def fields(self) -> dict[str, str]:
        told = {"model": self.model, "max_tokens": str(self.tokens), "prompt_type": self.task}
        return told | self._size | {"loop_guard": str(self.guard).lower()}

    @property
    def _size(self) -> dict[str, str]:
        """Chat models choose it themselves."""
        return {"resolution": "tiny"} if self.model == "deepseek" else {}

    def chat(self, picture: str) -> dict[str, Any]:
        return {
            "model": self.model,
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": self.tokens,
            "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": picture}}]}],
            "ocr": {"task": self.task, "loop_guard": self.guard} | self._size,
        }


@dataclass(frozen=True)
class Answer:
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


class Failed(Exception):
    """An answer that is an error; its code."""


async def whole(http: aiohttp.ClientSession, ask: Ask, page: bytes) -> Answer:
    """By `POST /ocr`."""
    form = aiohttp.FormData(ask.fields)
    form.add_field("file", page, filename="page.png", content_type="image/png")
    async with http.post("/ocr", data=form) as answer:
        body = await answer.json()
    if "error" in body:
        raise Failed(body["code"])
    told = body["metadata"]
    counts = told["prompt_tokens"], told["completion_tokens"]
    return Answer(body["raw_text"], told["finish_reason"], *counts)


async def streamed(
    http: aiohttp.ClientSession, ask: Ask, page: bytes, pieces: list[str] | None = None
) -> Answer:
    """By a streamed chat; `pieces` grows as they come."""
    pieces = [] if pieces is None else pieces
    picture = "data:image/png;base64," + base64.b64encode(page).decode()
    reason, usage = "", {"prompt_tokens": 0, "completion_tokens": 0}
    async with http.post("/v1/chat/completions", json=ask.chat(picture)) as answer:
        if answer.status != 200:
            raise Failed((await answer.json())["error"]["code"])
        async for line in answer.content:
            if line.startswith(b"data: [DONE]"):
                return Answer("".join(pieces), reason, usage["prompt_tokens"], usage["completion_tokens"])
            if line.startswith(b"data: "):
                event = json.loads(line[6:])
                if "error" in event:
                    raise Failed(event["error"]["code"])
                usage = event.get("usage") or usage
                for choice in event["choices"]:
                    pieces.append(choice["delta"].get("content") or "")
                    reason = choice["finish_reason"] or reason
    raise aiohttp.ClientPayloadError("the stream ended before its end")
