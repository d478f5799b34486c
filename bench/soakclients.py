"""Clients of a soak that want their pages read, and those that run the server.

Readers go on until `over` is set, and end what they have begun; the others go on until they are cancelled. What came of
all is counted in a `Tally`; the soak says which counts have to be 0.
"""

import asyncio
import base64
import hashlib
import io
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
from PIL import Image

from bench import storm
from ocr_wire import names, state
from ocr_wire.checked import Invalid

READER: Final = "reader"
"""Reads whole pages, four at a time."""
WRITER: Final = "writer"
"""Writes word by word, four pages at a time."""
HUNG: Final = "hung"
"""Gets the pages that hang, and no others while one does."""
MODELS: Final = (READER, WRITER, HUNG)
ANSWER_SECONDS: Final = 90.0
"""A page that isn't read after this, however often it was sent, is lost."""
RETRIED: Final = frozenset({408, 429, 503, 504})
"""Statuses at which a client sends its page again."""
KEPT_KEYS: Final = 3
"""Keys that are good at a time: the newest and those before it."""


@dataclass
class Tally:
    """What came of a soak."""

    read: Counter[str] = field(default_factory=Counter)
    """Pages answered with the right text, by model."""
    again: Counter[str] = field(default_factory=Counter)
    """Answers at which a page was sent again, by code."""
    left: int = 0
    """Requests whose client went away."""
    refused: Counter[str] = field(default_factory=Counter)
    """Requests that had to be refused, and were."""
    ended: Counter[str] = field(default_factory=Counter)
    """Workers that were made to end, by cause."""
    done: Counter[str] = field(default_factory=Counter)
    """Rotations, settings, controls, states and probes."""
    wrong: list[str] = field(default_factory=list)
    """Answers that are not what they had to be."""
    lost: list[str] = field(default_factory=list)
    """Pages without an answer."""
    probe_seconds: list[float] = field(default_factory=list)


class Keys:
    """File of API keys that changes all the time, and what is in it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count = 0
        self._good: list[str] = []
        for _ in range(KEPT_KEYS):
            self.rotate()

    def rotate(self) -> str | None:
        """Add a key, and drop the oldest; returns that one."""
        self._count += 1
        self._good.append(f"key-{self._count}")
        dropped = self._good.pop(0) if len(self._good) > KEPT_KEYS else None
        replace(self._path, "\n".join(self._good) + "\n")
        return dropped

    @property
    def newest(self) -> dict[str, str]:
        return bearer(self._good[-1])


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def replace(path: Path, text: str) -> None:
    """Write a file at once, as Kubernetes changes a volume: no reader finds half of it."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def key_of(page: bytes) -> str:
    """Return the key that the engine `fake` gives a page."""
    with Image.open(io.BytesIO(page)) as picture:
        return hashlib.sha256(picture.convert("RGB").tobytes()).hexdigest()[:12]


def form(page: bytes, **fields: str) -> aiohttp.FormData:
    data = aiohttp.FormData(fields)
    data.add_field("file", io.BytesIO(page), filename="page.png", content_type="image/png")
    return data


def chat(model: str, page: bytes, *, stream: bool) -> dict[str, Any]:
    url = "data:image/png;base64," + base64.b64encode(page).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}]
    return {
        "model": model,
        "stream": stream,
        "messages": [{"role": "user", "content": content}],
        "ocr": {"task": "ocr"},
    }


@dataclass
class Scene:
    """One server, and what all its clients share."""

    http: aiohttp.ClientSession
    address: tuple[str, int]
    keys: Keys
    admin: dict[str, str]
    """Header with the admin token."""
    draw: random.Random
    tally: Tally = field(default_factory=Tally)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    pages: list[bytes] = field(default_factory=lambda: [storm.page(number) for number in range(8)])


class Clients:
    """Clients that want pages read, and those that run the server."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.tally, self.over = scene.tally, scene.over
        self._http = scene.http
        self._keys = scene.keys
        self._admin = scene.admin
        self._draw = scene.draw
        self._pages = scene.pages
        self._revision = 0

    # --- pages that are to be read ----------------------------------------------------------------------------

    async def reader(self, model: str, pause: float = 0.0) -> None:
        """Read pages, each until it is read."""
        while not self.over.is_set():
            await self.read(model)
            await asyncio.sleep(pause)

    async def read(self, model: str) -> None:
        """Have one page read, and compare the answer."""
        page = self._draw.choice(self._pages)
        expected = f"fake ocr of page {key_of(page)} by {model}"
        unique = storm.copy(page, self._draw)
        end = time.monotonic() + ANSWER_SECONDS
        last = "nothing"
        while time.monotonic() < end:
            try:
                status, last = await self.sent(model, unique)
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                self.tally.lost.append(f"{model}: {type(error).__name__}: {error}"[:300])
                return
            if status == 200:
                if last == expected:
                    self.tally.read[model] += 1
                else:
                    self.tally.wrong.append(f"{model}: {last!r} instead of {expected!r}"[:500])
                return
            if status not in RETRIED:
                self.tally.wrong.append(f"{model}: {status} {last}"[:500])
                return
            self.tally.again[last.partition(":")[0]] += 1
            await asyncio.sleep(0.2 + self._draw.random())
        self.tally.lost.append(f"{model}: not read in {ANSWER_SECONDS:g} s; at last {last}"[:500])

    async def sent(self, model: str, page: bytes) -> tuple[int, str]:
        """Send a page in one of three ways; returns the status, and the text or the error's code."""
        way, headers = self._draw.random(), self._keys.newest
        if way < 0.5:
            data = form(page, model=model, prompt_type="ocr")
            async with self._http.post("/ocr", data=data, headers=headers) as answer:
                body = await answer.json()
                return answer.status, body["text"] if answer.status == 200 else code_of(body)
        stream = way < 0.8
        asked = chat(model, page, stream=stream)
        async with self._http.post("/v1/chat/completions", json=asked, headers=headers) as answer:
            if answer.status != 200 or not stream:
                body = await answer.json()
                text = body["choices"][0]["message"]["content"] if answer.status == 200 else code_of(body)
                return answer.status, text
            return await _streamed(answer)

    # --- those that run it ------------------------------------------------------------------------------------

    async def rotator(self, pause: float) -> None:
        """Change the keys; one that was dropped opens nothing any more."""
        while True:
            await asyncio.sleep(pause)
            if (dropped := self._keys.rotate()) is not None:
                data = form(self._pages[0], model=READER)
                async with self._http.post("/ocr", data=data, headers=bearer(dropped)) as answer:
                    if answer.status != 403:
                        self.tally.wrong.append(f"{answer.status} for a key that was dropped")
                self.tally.done["rotations of keys"] += 1

    async def administrator(self, pause: float) -> None:
        """Change live settings, and move models."""
        while True:
            chance = self._draw.random()
            if chance < 0.5:
                await self._declare()
            else:
                path = self._draw.choice((names.PATH_OFFLOAD, names.PATH_RELEASE, "/cleanup"))
                await self.control(path, {"model": self._draw.choice((READER, WRITER))})
            await asyncio.sleep(pause * self._draw.random())

    async def _declare(self) -> None:
        self._revision += 1
        seconds = self._draw.choice((0, 0.5, 60, -1))
        values = {
            "idle": {"offloadAfterSeconds": seconds},
            "batching": {"maxPages": self._draw.choice((1, 4, 8))},
        }
        told = {"generation": 1, "revision": self._revision, "values": values}
        async with self._http.put(names.PATH_SETTINGS, json=told, headers=self._admin) as answer:
            body = await answer.json()
        if answer.status == 200 and body["revision"] == self._revision:
            self.tally.done["live settings"] += 1
        else:
            self.tally.wrong.append(f"settings: {answer.status} {body}"[:500])

    async def control(self, path: str, fields: dict[str, Any]) -> None:
        async with self._http.post(path, json=fields, headers=self._admin) as answer:
            body = await answer.json()
        if answer.status == 200:
            self.tally.done["controls"] += 1
        else:
            self.tally.wrong.append(f"{path}: {answer.status} {body}"[:500])

    async def release_all(self) -> None:
        """End all that models do, and drop their weights."""
        await self.control(names.PATH_RELEASE, {"all": True, "force": True})

    async def watcher(self) -> None:
        """Follow the state as the operator does: with the admin token, and each has to be understood."""
        while True:
            timeout = aiohttp.ClientTimeout(total=None, sock_read=30)
            url = f"{names.PATH_STATE}?watch=true"
            async with self._http.get(url, headers=self._admin, timeout=timeout) as answer:
                async for line in answer.content:
                    if line.startswith(b"data:"):
                        if isinstance(found := state.parse(line[5:]), Invalid):
                            self.tally.wrong.append(f"state: {found}"[:500])
                        self.tally.done["states"] += 1

    async def prober(self, pause: float) -> None:
        """Ask as the kubelet and Prometheus do."""
        while True:
            for path in (names.PATH_LIVE, names.PATH_READY, "/health", "/metrics"):
                began = time.perf_counter()
                async with asyncio.timeout(5.0), self._http.get(path) as answer:
                    await answer.read()
                self.tally.probe_seconds.append(time.perf_counter() - began)
                if answer.status != 200:
                    self.tally.wrong.append(f"{path}: {answer.status}")
                await asyncio.sleep(pause)


async def _streamed(answer: aiohttp.ClientResponse) -> tuple[int, str]:
    pieces: list[str] = []
    async for line in answer.content:
        if line.startswith(b"data: [DONE]"):
            return 200, "".join(pieces)
        if line.startswith(b"data: "):
            event = json.loads(line[6:])
            if "error" in event:
                return 503, code_of(event)
            pieces += [each["delta"].get("content") or "" for each in event["choices"]]
    raise aiohttp.ClientPayloadError("the stream ended before its end")


def code_of(body: dict[str, Any]) -> str:
    """Return an error's code: flat, or in OpenAI's shape."""
    error = body.get("error")
    found = error.get("code") if isinstance(error, dict) else body.get("code")
    return str(found)
