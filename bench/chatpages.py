"""Pages as chat requests, as any server of vision-language models takes them, and how long their answers take."""

import base64
import json
import time
from dataclasses import dataclass
from typing import Any

import aiohttp

from bench.decoding import page
from ocr_inference.families import chat
from ocr_wire.tasks import Task


@dataclass(frozen=True)
class Answer:
    """Seconds from sending a page."""

    first: float
    """To the first piece of the answer."""
    whole: float
    tokens: int


def client(url: str) -> aiohttp.ClientSession:
    """A connection for each page: vLLM closes connections after 5 s without a request."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    return aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=None), connector=connector)


def asked(model: str, model_type: str, number: int, tokens: int) -> dict[str, Any]:
    """The page of this number, with the words that our server asks a model of this type with."""
    url = "data:image/png;base64," + base64.b64encode(page(number)).decode()
    content: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}}]
    if words := chat.prompt(model_type, Task.FREE, ""):
        content.append({"type": "text", "text": words})
    return {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": tokens,
        "temperature": 0.0,
    }


async def tokens_of(http: aiohttp.ClientSession, body: dict[str, Any]) -> int:
    """Return how many tokens an answer has that comes whole."""
    async with http.post("/v1/chat/completions", json=body) as answer:
        said = await answer.json()
        assert answer.status == 200, said
        tokens: int = said["usage"]["completion_tokens"]
        return tokens


async def streamed(http: aiohttp.ClientSession, body: dict[str, Any]) -> Answer:
    streaming = body | {"stream": True, "stream_options": {"include_usage": True}}
    first: float | None = None
    tokens = 0
    began = time.perf_counter()
    async with http.post("/v1/chat/completions", json=streaming) as answer:
        assert answer.status == 200, await answer.text()
        async for line in answer.content:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            assert "error" not in event, event
            if first is None and any(each["delta"].get("content") for each in event["choices"]):
                first = time.perf_counter() - began
            tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
    whole = time.perf_counter() - began
    return Answer(whole if first is None else first, whole, tokens)
