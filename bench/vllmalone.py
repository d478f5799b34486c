"""vLLM's own server, started as the engine `vllm` starts it: with the same model, memory for pages and threads."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from bench import others, report, server
from tests.support.paths import ROOT

PYTHON: Final = os.environ.get("OCR_VLLM_PYTHON") or str(ROOT / ".venv-vllm/bin/python")
AS_IT_IS: Final = (
    "vLLM's own server has none of the settings that ours gives it, so its threads spin for longer."
)
"""Of the method: `GOMP_SPINCOUNT`."""
START_SECONDS: Final = 900
MODEL: Final = "m"


def needed() -> None:
    """Raise where there is no vLLM."""
    if not os.access(PYTHON, os.X_OK):
        raise report.NotHere("no vLLM here: make init-vllm, or name its Python by OCR_VLLM_PYTHON")


@asynccontextmanager
async def started(folder: Path, pages: int) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """Yields its address when it is healthy, with the model in `folder / "model"`, for so many pages at once."""
    port, home = server.free_port(), folder / "home"
    home.mkdir(exist_ok=True)
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    told = kept | {
        "HOME": str(home),
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }
    command = (
        *(PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder / "model")),
        *("--served-model-name", MODEL, "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"),
        *("--max-num-seqs", str(pages), "--enforce-eager", "--generation-config", "vllm"),
    )
    async with others.started(command, told, folder, port, START_SECONDS) as found:
        yield found
