#!/usr/bin/env bash
# Guess: an ASGI application that answers one request leaves nothing behind when the answer is sent. The official SDK of
#   the Model Context Protocol (mcp 2.3.0) answers clients with the handshake of 2025 by sse-starlette, whose streams end.
# What happens (sse-starlette 3.7.0): the first stream of an event loop starts a task that ends with the loop only. It
#   looks for a shutdown of uvicorn twice a second, also under servers that aren't uvicorn, where it never finds one.
# Why it matters here: an idle pod wakes twice a second for ever after one call of `/mcp` by an older client. It costs
#   0.1 % of a core at most, and a program that ends only when it has no tasks left would wait for it. Newer clients
#   (2026-07-28) are answered without sse-starlette.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check sse-starlette==3.7.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import importlib.metadata

from sse_starlette.sse import EventSourceResponse


async def answer():
    async def events():
        yield {"data": "1"}

    async def receive():
        await asyncio.Event().wait()

    async def send(message):
        sent.append(message["type"])

    sent = []
    await EventSourceResponse(events())({"type": "http", "method": "GET", "headers": []}, receive, send)
    return sent


async def main():
    before = asyncio.all_tasks()
    print("sse-starlette", importlib.metadata.version("sse-starlette"), await answer())
    await asyncio.sleep(3)
    left = [task.get_coro().__qualname__ for task in asyncio.all_tasks() - before]
    print("three seconds after the answer:", left)
    assert left == ["_shutdown_watcher"], "nothing is left any longer"


asyncio.run(main())
PYTHON
