"""`/livez` by what its manager says, and words of `/health`."""

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer as LoopbackServer

from ocr_inference.api import appkeys
from ocr_inference.api.control import health
from ocr_inference.config.settings import HuggingFace, ModelConfig, Source
from ocr_wire.state import Queue


class Manager:
    def __init__(self, unhealthy_reason: str | None) -> None:
        self.unhealthy_reason = unhealthy_reason


@pytest.mark.parametrize(("reason", "status"), [(None, 200), ("the worker of model m hasn't ended", 503)])
async def test_livez_fails_with_the_reason(reason: str | None, status: int) -> None:
    app = web.Application()
    app[appkeys.MANAGER] = Manager(reason)  # type: ignore[misc]
    app.router.add_get("/livez", health.livez)
    async with (
        LoopbackServer(app) as server,
        ClientSession(server.make_url("/")) as http,
        http.get("/livez") as response,
    ):
        assert (response.status, await response.text()) == (status, f"{reason or 'ok'}\n")


@pytest.mark.parametrize(
    ("waiting", "draining", "word"),
    [
        (0, False, "healthy"),
        (1, False, "busy"),
        (9, False, "full"),
        (10, False, "full"),
        (9, True, "draining"),
    ],
)
def test_the_condition_is_that_of_the_queue(waiting: int, draining: bool, word: str) -> None:
    assert health.condition(Queue(waiting=waiting, in_flight=8, limit=9), draining=draining) == word


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (None, "m"),
        (Source(hugging_face=HuggingFace(repo="deepseek-ai/DeepSeek-OCR-2")), "DeepSeek-OCR-2"),
        (Source(path="/models/DeepSeek-OCR/"), "DeepSeek-OCR"),
        (Source(path="DeepSeek-OCR"), "DeepSeek-OCR"),
        (Source(path="/"), "m"),
    ],
)
def test_the_version_is_the_name_of_the_source(source: Source | None, name: str) -> None:
    assert health.version(ModelConfig(name="m", engine="fake", source=source)) == name
