"""Checkpoints made by a process of their own: who measures stays without torch, and without a context on a GPU."""

import asyncio
import sys
from pathlib import Path


async def checkpoint(folder: Path, size: str, seed: int = 0) -> Path:
    """DeepSeek-OCR with random weights, of size `published` or `tiny`."""
    command = (sys.executable, "-m", "bench.checkpoint", str(folder), size, str(seed))
    made = await asyncio.create_subprocess_exec(*command)
    if await made.wait() != 0:
        raise RuntimeError("no checkpoint came of it; its own output says why")
    return folder
