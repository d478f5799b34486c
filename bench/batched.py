"""Tokens a second of 16 pages at once: our server with engines `vllm` and `transformers`, beside vLLM's own server."""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp

from bench import chatpages, modelserver, report, server, vllmalone
from bench.decoding import PAGES, SIDE, SIZES, TOKENS, page

PAIRS: Final = int(os.environ.get("BENCH_BATCHED_PAIRS", "5"))
SIDES: Final = ("vllm through our server", "vllm by itself", "transformers through our server")
OVERHEAD: Final = 0.97
AHEAD: Final = 1.15
MODEL_TYPE: Final = "qwen2_5_vl"

Read = Callable[[int], Awaitable[int]]
"""Reads the page of this number; returns the tokens of its answer."""


@asynccontextmanager
async def ours(
    folder: Path,
    engine: str,
    options: Mapping[str, object],
    environ: Mapping[str, str] | None = None,
    idle: Mapping[str, float] = server.NO_TIMERS,
) -> AsyncIterator[Read]:
    model = folder / "model"
    async with (
        modelserver.served(model, engine, options, pages=PAGES, environ=environ, idle=idle) as (url, _),
        chatpages.client(url) as http,
    ):

        async def read(number: int) -> int:
            form = aiohttp.FormData(
                {"prompt_type": "free", "max_tokens": str(TOKENS), "loop_guard": "false"},
                default_to_multipart=True,
            )
            form.add_field("file", page(number), filename="page.png")
            async with http.post("/ocr", data=form) as answer:
                body = await answer.json()
                assert answer.status == 200, body
                tokens: int = body["metadata"]["completion_tokens"]
                return tokens

        yield read


@asynccontextmanager
async def by_itself(folder: Path) -> AsyncIterator[Read]:
    async with vllmalone.started(folder, PAGES) as (url, _), chatpages.client(url) as http:

        async def read(number: int) -> int:
            return await chatpages.tokens_of(
                http, chatpages.asked(vllmalone.MODEL, MODEL_TYPE, number, TOKENS)
            )

        yield read


async def rate(read: Read, turn: int) -> float:
    """Tokens a second of pages that no turn before had."""
    began = time.perf_counter()
    written = await asyncio.gather(*(read(turn * PAGES + number) for number in range(PAGES)))
    return sum(written) / (time.perf_counter() - began)


async def measure() -> report.Result:
    vllmalone.needed()
    rates: dict[str, list[float]] = {side: [] for side in SIDES}
    load = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        await make_model(folder)
        async with AsyncExitStack() as stack:
            sides = {
                SIDES[0]: await stack.enter_async_context(
                    ours(folder, "vllm", {"kv_cache_gib": 1, "max_batch": PAGES})
                ),
                SIDES[1]: await stack.enter_async_context(by_itself(folder)),
                SIDES[2]: await stack.enter_async_context(ours(folder, "transformers", {})),
            }
            for read in sides.values():
                await rate(read, 0)  # loads, and what is made at the first page
            for turn in range(1, PAIRS + 1):
                for side in SIDES if turn % 2 else SIDES[::-1]:
                    rates[side].append(await rate(sides[side], turn))
        load.append(os.getloadavg()[0])
    through, alone, own = (rates[side] for side in SIDES)
    return report.Result(
        name="batched",
        method=f"{PAIRS} turns of three servers with a model of about 200 million parameters in the shape of "
        f"{MODEL_TYPE}, random weights, float32, {os.cpu_count()} cores: {PAGES} pages of {SIDE} x {SIDE} pixels at "
        f"once, {TOKENS} tokens each at most, other pages in each turn. All three run meanwhile, one is asked. Ratios "
        f"are medians of the turns' ratios. {vllmalone.AS_IT_IS} Load average before and after: {load[0]:.1f}, "
        f"{load[1]:.1f}.",
        rows=[
            report.at_least(f"{SIDES[0]} ÷ {SIDES[1]}", _ratio(through, alone), "×", OVERHEAD),
            report.at_least(f"{SIDES[2]} ÷ {SIDES[1]}", _ratio(own, alone), "×", AHEAD),
            *(report.plain(f"{side}, tokens a second", report.median(rates[side]), "1/s") for side in SIDES),
        ],
        samples=dict(rates),
    )


def _ratio(over: list[float], under: list[float]) -> float:
    return report.median([one / other for one, other in zip(over, under, strict=True)])


async def make_model(folder: Path) -> None:
    """The model, by a process that ends: this one needs no torch."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.batched", str(folder / "model")
    )
    if await process.wait() != 0:
        raise RuntimeError("the model couldn't be made")


def main(folder: Path) -> None:
    from tests.support import chatmodels  # noqa: PLC0415 - torch

    folder.mkdir()
    chatmodels.make(folder, MODEL_TYPE, dtype="float32", sizes=dict(SIZES))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
