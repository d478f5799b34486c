"""A real inference server on loopback, in this process, with models of the test's choice."""

import asyncio
import io
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import msgspec

from ocr_inference import app, parsing
from ocr_inference.settings import Settings

FAKE = """
models:
  - {name: quick, engine: fake}
  - {name: slow, engine: fake, options: {infer_seconds: 0.6}}
"""


@dataclass(frozen=True)
class Server:
    running: app.Running
    http: aiohttp.ClientSession
    """With the server's URL as its base."""

    async def json(self, method: str, path: str, **request: Any) -> tuple[int, Any]:
        """(status, body) of an answer that must be JSON."""
        async with self.http.request(method, path, **request) as response:
            assert response.content_type == "application/json", await response.text()
            return response.status, await response.json()

    async def read(
        self, picture: bytes, headers: dict[str, str] | None = None, **fields: str
    ) -> tuple[int, Any]:
        """`POST /ocr`."""
        return await self.json("POST", "/ocr", data=form(picture, **fields), headers=headers)

    async def model(self, name: str) -> dict[str, Any]:
        """The model in `GET /v1/state`."""
        _, state = await self.json("GET", "/v1/state")
        found: dict[str, Any] = next(model for model in state["models"] if model["name"] == name)
        return found

    async def until(self, name: str, seconds: float = 20.0, **wanted: object) -> None:
        """Wait until the model's fields have these values."""
        async with asyncio.timeout(seconds), self.http.get("/v1/state?watch=true") as response:
            async for state in events(response):
                model = next(model for model in state["models"] if model["name"] == name)
                if wanted.items() <= model.items():
                    return
        raise AssertionError(f"the watch ended before {name} had {wanted}")


def form(picture: bytes | None, field: str = "file", **fields: str) -> aiohttp.FormData:
    data = aiohttp.FormData(fields, default_to_multipart=True)
    if picture is not None:
        data.add_field(
            field, io.BytesIO(picture), filename="page.png", content_type="application/octet-stream"
        )
    return data


@asynccontextmanager
async def server(config: str = FAKE, **settings: Any) -> AsyncIterator[Server]:
    """`settings` replace fields of `Settings`."""
    told = replace(
        Settings(
            host="127.0.0.1", port=0, device="cpu", drain_seconds=10.0, pod_name="pod-a", pod_uid="uid-a"
        ),
        **settings,
    )
    async with (
        app.serving(told, parsing.parse_config(config), os.environ) as running,
        aiohttp.ClientSession(running.url) as http,
    ):
        yield Server(running, http)


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """The states of a watch, until it ends; comments are passed over."""
    data = b""
    async for line in response.content:
        if line.startswith(b"data: "):
            data = line.removeprefix(b"data: ")
        elif line == b"\n" and data:
            yield msgspec.json.decode(data)
            data = b""
