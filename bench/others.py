"""A server of others, in a process group of its own."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp

LOG: Final = "server.log"
LAST: Final = 2000
"""Bytes of it that an error has."""


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
        if not await _healthy(url, process, seconds):
            last = (folder / LOG).read_text(errors="replace")[-LAST:]
            raise RuntimeError(f"{command[0]} ended with {process.returncode} before it answered: {last}")
        yield url, process
    finally:
        with contextlib.suppress(ProcessLookupError):  # it ended by itself, and nothing of it is left
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _healthy(url: str, process: asyncio.subprocess.Process, seconds: float) -> bool:
    """Return whether it answers, or has ended instead."""
    async with aiohttp.ClientSession() as http, asyncio.timeout(seconds):
        while process.returncode is None:
            try:
                async with http.get(f"{url}/health") as answer:
                    if answer.status in (200, 404):  # 404: it answers, and has no such path
                        return True
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)
    return False
