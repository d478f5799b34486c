"""What `ocr-operator run` does with its own process, beside an API server that has nothing."""

import asyncio
import contextlib
import gc
import json
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from ocr_operator import __main__ as program
from ocr_operator.settings import Settings
from tests.support import webserver
from tests.support.stage import until


@contextlib.asynccontextmanager
async def empty_cluster(listed: asyncio.Event) -> AsyncIterator[str]:
    """Serve lists without items, that of nodes once `listed` is set."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.query.get("watch"):
            await asyncio.Event().wait()
        if request.path == "/api/v1/nodes":
            await listed.wait()
        found = {"metadata": {"resourceVersion": "1"}, "items": [], "versions": [], "groups": []}
        return web.json_response(found)

    app = web.Application()
    app.add_routes([web.route("*", "/{path:.*}", answer)])
    async with webserver.serving(app) as url:
        yield url


def kubeconfig(url: str) -> str:
    return json.dumps(
        {
            "current-context": "here",
            "clusters": [{"name": "it", "cluster": {"server": url}}],
            "contexts": [{"name": "here", "context": {"cluster": "it", "user": "me"}}],
            "users": [{"name": "me", "user": {}}],
        }
    )


def is_looked_through(thing: object) -> bool:
    return any(each is thing for each in gc.get_objects())


async def test_modules_and_what_was_listed_are_exempt_from_garbage_collection(tmp_path: Path) -> None:
    before, listed = gc.get_threshold(), asyncio.Event()
    async with empty_cluster(listed) as url:
        file = tmp_path / "config"
        file.write_text(kubeconfig(url))
        run = program.run(Settings(host="127.0.0.1", port=0), {"KUBECONFIG": str(file)})
        running = asyncio.create_task(run)
        try:
            await until(lambda: gc.get_threshold()[0] == program.YOUNG_OBJECTS)
            later: list[list[object]] = [[]]
            assert is_looked_through(later)
            listed.set()
            await until(lambda: not is_looked_through(later))
        finally:
            running.cancel()
            await asyncio.wait([running])
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
