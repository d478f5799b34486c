"""`transformers serve` of the transformers that our own engine uses, in a process of its own."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from bench import foreign, others, server

PACKAGES: Final = ("fastapi==0.165.0", "accelerate==1.15.0", "psutil==7.2.2", "torchvision==0.29.2")
"""What it needs besides our extra `transformers`; torchvision for the processor of Qwen2.5-VL."""
START_SECONDS: Final = 300


@asynccontextmanager
async def started(folder: Path, *arguments: str) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """Yields its address when it is healthy: with the model that `arguments` begin with, if any. Its log is in
    `folder`."""
    port, packages = (
        server.free_port(),
        await asyncio.to_thread(foreign.packages, "transformers-serve", PACKAGES),
    )
    told = os.environ | {"PYTHONPATH": str(packages), "HF_HUB_OFFLINE": "1"}
    command = (
        *(
            sys.executable,
            "-c",
            "from transformers.cli.transformers import main; main()",
            "serve",
            *arguments,
        ),
        *("--host", "127.0.0.1", "--port", str(port)),
    )
    async with others.started(command, told, folder, port, START_SECONDS) as found:
        yield found
