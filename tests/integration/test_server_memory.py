"""A page that needs more host memory than its container has left fails alone, in a real control group of 1 GiB."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from PIL import Image

from bench import vlmserver
from tests.support import cgroups, inference, pages
from tests.support.inference import Server

GIB = 1 << 30
MODELS = [{"name": "pp-ocr", "engine": "rapidocr"}, {"name": "quick", "engine": "fake"}]


def white(side: int) -> bytes:
    return pages.encoded(Image.new("RGB", (side, side), "white"), "PNG")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A server in a container of 1 GiB, as far as memory goes."""
    file = tmp_path / "config.json"
    limit = {"limits": {"maxImagePixels": 400_000_000}}
    file.write_text(json.dumps({"models": MODELS, "server": limit}))
    with cgroups.memory(GIB) as group:
        async with inference.process(
            "serve", "--config", str(file), PORT="0", OCR_HOST="127.0.0.1"
        ) as started:
            url = await inference.url_of(started)
            # What it starts later is born into its group; its forkserver may be there already.
            (group / "cgroup.procs").write_text(str(started.pid))
            for pid in vlmserver.offspring(started.pid):
                (group / "cgroup.procs").write_text(str(pid))
            async with aiohttp.ClientSession(url) as http:
                yield Server(cast("Any", None), http)  # it runs in a process of its own
                assert started.returncode is None


async def test_a_page_without_memory_fails_alone(server: Server) -> None:
    status, body = await server.read(pages.invoice(), model="pp-ocr")
    assert (status, "4711" in body["text"]) == (200, True)
    status, body = await server.read(white(8000), model="pp-ocr")
    assert (status, body.get("text")) == (200, ""), "a large page is read in pieces"
    status, body = await server.read(white(14_000), model="pp-ocr")
    assert (status, body["code"]) == (507, "out_of_memory")
    assert "the decoded page needs 1568000000 bytes of host memory" in body["error"]
    assert "memory limit" in str(body["suggestions"])
    answers = await asyncio.gather(
        server.read(pages.invoice(), model="pp-ocr"), server.read(pages.blank(), model="quick")
    )
    assert [status for status, _ in answers] == [200, 200]
    state = await server.model("pp-ocr")
    assert (state["state"], state["loads"]) == ("ready", 1)
