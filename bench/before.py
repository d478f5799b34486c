"""Tokens a second of 16 pages at once on a CPU: engine `transformers` of this build and of the one before its weights
were packed, by turns.

The build before comes from the history, into a folder of its own, so that everything counts that has changed since:
packed weights, blocks that are computed as one, prompts that are read in together. Both run on the same libraries.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from bench import batched, report, server
from bench.decoding import PAGES, SIDE, TOKENS

PAIRS: Final = int(os.environ.get("BENCH_BEFORE_PAIRS", "5"))
COMMIT: Final = "bc5ce8190911bfc1a59349e69cd484eb72daacac"
"""The first one with packed weights; its parent is the build before."""
KNOWN: Final = {name: value for name, value in server.NO_TIMERS.items() if name != "dropStandbyAfterSeconds"}
"""Timers that the build before had."""
SIDES: Final = ("this build", "the build before packed weights")
TARGET: Final = 1.7
ROOT: Final = Path(__file__).parents[1]


async def _git(*arguments: str) -> int:
    process = await asyncio.create_subprocess_exec("git", "-C", str(ROOT), *arguments)
    return await process.wait()


@asynccontextmanager
async def _sources(folder: Path) -> AsyncIterator[Path]:
    """The build before, as a work tree."""
    await _git("worktree", "prune")  # those of measurements that were killed, whose folders are gone
    if await _git("worktree", "add", "--quiet", "--detach", str(folder), f"{COMMIT}^") != 0:
        raise report.NotHere(f"the history has no {COMMIT}: a clone without depth has it")
    try:
        yield folder
    finally:
        await _git("worktree", "remove", "--force", str(folder))


def require_build(sources: Path, environ: Mapping[str, str]) -> None:
    """Raise where a server with this environment, started as ours are, isn't of that build."""
    arguments = (sys.executable, "-c", "import ocr_inference; print(ocr_inference.__file__)")
    found = subprocess.run(
        arguments, env=environ, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()
    if not Path(found).resolve().is_relative_to((sources / "inference").resolve()):
        raise RuntimeError(f"{found} is of another build than {sources}")


async def measure() -> report.Result:
    rates: dict[str, list[float]] = {side: [] for side in SIDES}
    load = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with _sources(folder / "before") as sources, AsyncExitStack() as stack:
            await batched.make_model(folder)
            paths = os.pathsep.join(str(sources / each) for each in ("inference", "wire"))
            require_build(sources, {**os.environ, "PYTHONPATH": paths})
            require_build(ROOT, os.environ)
            sides = {
                SIDES[0]: await stack.enter_async_context(batched.ours(folder, "transformers", {})),
                SIDES[1]: await stack.enter_async_context(
                    batched.ours(folder, "transformers", {"max_batch": PAGES}, {"PYTHONPATH": paths}, KNOWN)
                ),
            }
            for read in sides.values():
                await batched.rate(read, 0)  # loads, and what is made at the first page
            for turn in range(1, PAIRS + 1):
                for side in SIDES if turn % 2 else SIDES[::-1]:
                    rates[side].append(await batched.rate(sides[side], turn))
        load.append(os.getloadavg()[0])
    ours, before = (rates[side] for side in SIDES)
    ratio = report.median([one / other for one, other in zip(ours, before, strict=True)])
    return report.Result(
        name="before",
        method=f"{PAIRS} pairs, by turns, of two servers with a model of about 200 million parameters in the shape of "
        f"{batched.MODEL_TYPE}, random weights, float32, {os.cpu_count()} cores: {PAGES} pages of "
        f"{SIDE} x {SIDE} pixels at once, {TOKENS} tokens each at most, other pages in each "
        f"turn. The build before is the parent of {COMMIT[:7]}, with today's torch and transformers. Both run "
        f"meanwhile, one is asked. Load average before and after: {load[0]:.1f}, {load[1]:.1f}.",
        rows=[
            report.at_least(f"{SIDES[0]} ÷ {SIDES[1]}", ratio, "×", TARGET),
            *(report.plain(f"{side}, tokens a second", report.median(rates[side]), "1/s") for side in SIDES),
        ],
        samples=dict(rates),
    )
