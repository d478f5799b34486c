"""A server of others, in a process group of its own."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp

LOG: Final = "server.log"


@asynccontextmanager
async def started(
    command: Sequence[str], environ: Mapping[str, str], folder: Path, port: int, seconds: float
) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """Start it in `folder` and yield its address when it answers /health, within so many seconds; it and what it
    started are killed at the end. Its output is in a file there."""
    with (folder / LOG).open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *command, env=environ, cwd=folder, stdout=file, stderr=file, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        await _healthy(url, process, seconds)
        yield url, process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _healthy(url: str, process: asyncio.subprocess.Process, seconds: float) -> None:
    async with aiohttp.ClientSession() as http, asyncio.timeout(seconds):
        while process.returncode is None:
            try:
                async with http.get(f"{url}/health") as answer:
                    if answer.status in (200, 404):  # 404: it answers, and has no such path
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)
    raise RuntimeError(f"{url} ended with {process.returncode}; what it wrote is in its log")
