"""From nothing and from deep idle to the first token of a page, and the first page after a load: our server with the
engines `vllm` and `transformers`, beside vLLM's own server, which is started for each page."""

import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp

from bench import batched, chatpages, modelserver, report, vllmalone
from bench.sleeper import Sleeper
from ocr_wire import names
from ocr_wire.states import State

PAIRS: Final = int(os.environ.get("BENCH_COLDSTART_PAIRS", "5"))
TOKENS: Final = 16
PAGES: Final = 16
"""That a server has memory for."""
SIDES: Final = batched.SIDES
FIRST_PAGE: Final = 1.02
DEEP_IDLE: Final = 0.1


@dataclass
class Samples:
    """Seconds of one side."""

    load: list[float] = field(default_factory=list)
    """Until it is ready, from no process of the model at all."""
    first: list[float] = field(default_factory=list)
    """The first page after it, whole."""
    second: list[float] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)
    """The load, and the first token after it."""
    deep: list[float] = field(default_factory=list)
    """From sending a page to a model in deep idle to its first token."""

    async def page(self, http: aiohttp.ClientSession, number: int, *, ours: bool) -> chatpages.Answer:
        body = chatpages.asked(vllmalone.MODEL, batched.MODEL_TYPE, number, TOKENS)
        if ours:
            body["ocr"] = {"task": "free", "loop_guard": False}
        return await chatpages.streamed(http, body)

    async def pages(self, http: aiohttp.ClientSession, load: float, turn: int, *, ours: bool) -> None:
        first = await self.page(http, 3 * turn, ours=ours)
        self.load.append(load)
        self.first.append(first.whole)
        self.cold.append(load + first.first)
        self.second.append((await self.page(http, 3 * turn + 1, ours=ours)).whole)


async def _alone(samples: Samples, folder: Path, turn: int) -> None:
    began = time.perf_counter()
    async with vllmalone.started(folder, PAGES) as (url, _):
        load = time.perf_counter() - began
        async with chatpages.client(url) as http:
            await samples.pages(http, load, turn, ours=False)


async def _ours(samples: Samples, sleeper: Sleeper, turn: int) -> None:
    """From a released model to a released one."""
    began = time.perf_counter()
    async with sleeper.http.post(names.PATH_LOAD, json={}) as answer:
        assert answer.status == 200, await answer.text()
    await samples.pages(sleeper.http, time.perf_counter() - began, turn, ours=True)
    if sleeper.stands_by:
        await sleeper.sleep(deep=True)
        samples.deep.append((await samples.page(sleeper.http, 3 * turn + 2, ours=True)).first)
    async with sleeper.http.post(names.PATH_RELEASE, json={}) as answer:
        assert answer.status == 200, await answer.text()
    await sleeper.until(state=State.UNLOADED)


async def measure() -> report.Result:
    vllmalone.needed()
    through, alone, own = samples = Samples(), Samples(), Samples()
    load = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        await batched.make_model(folder)
        async with AsyncExitStack() as stack:

            async def sleeper(engine: str, options: dict[str, object], *, stands_by: bool) -> Sleeper:
                url, _ = await stack.enter_async_context(
                    modelserver.served(folder / "model", engine, options, pages=PAGES)
                )
                http = await stack.enter_async_context(chatpages.client(url))
                return Sleeper(http, "", modelserver.NAME, stands_by=stands_by)

            of_vllm = await sleeper("vllm", {"kv_cache_gib": 1, "max_batch": PAGES}, stands_by=False)
            of_transformers = await sleeper("transformers", {}, stands_by=True)
            for turn in range(PAIRS):
                for side in (0, 1, 2) if turn % 2 else (2, 1, 0):
                    if side == 1:
                        await _alone(alone, folder, turn)
                    else:
                        await _ours(samples[side], of_transformers if side else of_vllm, turn)
        load.append(os.getloadavg()[0])
    return report.Result("coldstart", _method(load), _rows(through, alone, own), _samples(samples))


def _rows(through: Samples, alone: Samples, own: Samples) -> list[report.Row]:
    one, other, two = SIDES
    return [
        report.at_most(
            f"first page after a load: {one} ÷ {other}", _ratio(through.first, alone.first), "×", FIRST_PAGE
        ),
        report.at_most(
            f"first page after a load: {two} ÷ {other}", _ratio(own.first, alone.first), "×", FIRST_PAGE
        ),
        report.at_most(
            f"first token: {two} from deep idle ÷ {other} from its start",
            _ratio(own.deep, alone.cold),
            "×",
            DEEP_IDLE,
        ),
        report.plain(
            f"first token: {two} from unloaded ÷ {other} from its start", _ratio(own.cold, alone.cold), "×"
        ),
        report.plain(
            f"first token: {one} from unloaded ÷ {other} from its start",
            _ratio(through.cold, alone.cold),
            "×",
        ),
        *(
            report.plain(f"{side}: {what}, median", report.median(seconds), "s")
            for side, found in zip(SIDES, (through, alone, own), strict=True)
            for what, seconds in (
                ("from unloaded to the first token", found.cold),
                ("from deep idle to the first token", found.deep),
                ("first page after a load", found.first),
                ("the page after it", found.second),
            )
            if seconds
        ),
    ]


def _ratio(over: list[float], under: list[float]) -> float:
    return report.median([one / other for one, other in zip(over, under, strict=True)])


def _samples(samples: tuple[Samples, ...]) -> dict[str, Sequence[float]]:
    return {
        f"{side}: {what}, s": seconds
        for side, found in zip(SIDES, samples, strict=True)
        for what, seconds in vars(found).items()
        if seconds
    }


def _method(load: list[float]) -> str:
    return (
        f"{PAIRS} turns, in each of them one after the other, by turns in the other order: a model that our server with"
        " engine vllm loads, reads two pages with and releases; vLLM's own server, from the start of its process to"
        " /health 200, two pages, killed; the same as the first with engine transformers, and between pages and release"
        " a deep idle with its standby ready, and a page. Nothing of the others runs meanwhile but our two servers with"
        f" their model released. A model of about 200 million parameters in the shape of {batched.MODEL_TYPE}, random"
        f" weights, float32, {os.cpu_count()} cores, its files in the page cache; streamed chat requests of pages of"
        f" 224 x 224 pixels, each another one, {TOKENS} tokens at most, by the client's clock. Engine vllm has no deep"
        " idle on a CPU. Ratios are medians of the turns' ratios."
        f" {vllmalone.AS_IT_IS} Load average before and after: {load[0]:.1f}, {load[1]:.1f}."
    )
