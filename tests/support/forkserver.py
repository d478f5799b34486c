"""Workers forked by real forkservers, and what is asked of every engine that has a forkserver."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from ocr_inference.protocol.engine import InferRequest, ModelSpec, PageResult
from ocr_inference.protocol.host_tier import HostTier
from ocr_inference.workers.forkservers import Forkservers
from ocr_inference.workers.processes import Starter
from ocr_inference.workers.worker import Worker
from tests.support import engines
from tests.support.paths import INVOICE, ROOT
from tests.support.patience import PATIENCE


@asynccontextmanager
async def workers(
    starter: Starter, count: int = 1, engine: str = "fake", **options: float | str
) -> AsyncIterator[list[Worker]]:
    """Workers of models `m0`, `m1`, …, each with a host tier; killed at the end."""
    specs = [ModelSpec(name=f"m{index}", engine=engine, options=options) for index in range(count)]
    with contextlib.ExitStack() as tiers:
        hosts = [tiers.enter_context(contextlib.closing(HostTier.create("test"))) for _ in range(count)]
        started = await asyncio.gather(
            *(Worker.start(spec, host, starter) for spec, host in zip(specs, hosts, strict=True))
        )
        async with asyncio.TaskGroup() as tasks:
            for worker in started:
                tasks.create_task(worker.run())
            try:
                yield started
            finally:
                for worker in started:
                    worker.kill("the test is over")


async def texts(started: Sequence[Worker], image: bytes | None = None) -> list[str]:
    """Load all and have each read the same page."""
    await asyncio.gather(*(worker.call("load") for worker in started))
    request = engines.page() if image is None else InferRequest(image=image)
    with engines.handed(request) as sent:
        jobs = [
            worker.infer(sent, max_pages=1, max_wait_seconds=0.0, limit_seconds=PATIENCE)
            for worker in started
        ]
    pages = await asyncio.gather(*jobs)
    return [page.text for page in pages if isinstance(page, PageResult)]


def proc(pid: int, file: str) -> str:
    return Path(f"/proc/{pid}/{file}").read_text()


def parent(pid: int) -> int:
    return int(proc(pid, "stat").rpartition(")")[2].split()[1])


async def check_one_thread(engine: str) -> None:
    """Fork a worker of the engine from a forkserver whose imports have left it a single thread."""
    async with Forkservers(os.environ) as forkservers, workers(forkservers, engine=engine) as (worker,):
        forkserver = forkservers.pids()[engine]
        assert parent(worker.pid) == forkserver
        assert os.listdir(f"/proc/{forkserver}/task") == [str(forkserver)]


LATE = """
import json, sys, tempfile
from pathlib import Path
from ocr_inference.protocol.engine import InferRequest, ModelSpec
from ocr_inference import engines
from ocr_inference.workers import forkserver_process
from ocr_inference.protocol.host_tier import HostTier
engine, page, path = sys.argv[1], sys.argv[2], sys.argv[3] or None
forkserver_process.prepare(engine)
before = set(sys.modules)
spec = ModelSpec(name="m", engine=engine, path=path, cache_dir=tempfile.mkdtemp())
engine = engines.create(spec, HostTier.create("m"), lambda _: None)
engine.load()
engine.infer([InferRequest(image=Path(page).read_bytes(), max_tokens=2)])
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def imported_late(engine: str, checkpoint: Path | None = None) -> list[str]:
    """Modules that loading and the first page import although a forkserver could have.

    Each import would come again in every worker, while somebody waits for the page. A process of its own is prepared
    as a forkserver is, and then does what follows a fork.
    """
    arguments = (sys.executable, "-c", LATE, engine, str(INVOICE), str(checkpoint or ""))
    environ = os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environ)
    ours = ("PIL.", "rapidocr.", "transformers.models.", "transformers.generation.", "cv2")
    return [name for name in json.loads(done.stdout) if name.startswith(ours)]
