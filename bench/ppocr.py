"""Pages a second of PP-OCR: 16 clients of our server, beside the library itself, called by as many threads."""

import asyncio
import io
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import aiohttp

from bench import layoutpages, report, server
from ocr_wire import names
from ocr_wire.states import DeviceKind

CLIENTS: Final = 16
PAIRS: Final = int(os.environ.get("BENCH_PPOCR_PAIRS", "5"))
ALONE: Final = 4
"""Pages of each turn that are read one after the other."""
AHEAD: Final = 1.3


def pages() -> list[bytes]:
    """Return a page for each client: of all kinds in turn, as PNG."""
    drawn = list(layoutpages.pages())
    encoded = [server.PAGE.read_bytes()]
    for page in drawn[:: len(drawn) // (CLIENTS - 1)][: CLIENTS - 1]:
        data = io.BytesIO()
        page.image.save(data, "PNG")
        encoded.append(data.getvalue())
    return encoded


Read = Callable[[bytes], Awaitable[object]]


async def _at_once(read: Read, every: Sequence[bytes]) -> float:
    """Return pages a second of all pages that are asked for at once."""
    began = time.perf_counter()
    await asyncio.gather(*(read(page) for page in every))
    return len(every) / (time.perf_counter() - began)


async def _in_a_row(read: Read, every: Sequence[bytes]) -> float:
    """Return seconds of a page, one after the other."""
    began = time.perf_counter()
    for page in every:
        await read(page)
    return (time.perf_counter() - began) / len(every)


class Bare:
    """The library with its own settings, called in threads of this process."""

    def __init__(self) -> None:
        from rapidocr import RapidOCR  # noqa: PLC0415 - seconds of import that other measurements don't need

        self._engine: Any = RapidOCR(params={"Global.log_level": "critical"})
        self._threads = ThreadPoolExecutor(CLIENTS)

    async def __call__(self, page: bytes) -> object:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._engine, page)


class Served:
    """Our server in a process of its own, with its own settings."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http, self._url = http, url

    async def __call__(self, page: bytes) -> object:
        return await server.read(self._http, self._url, page)


async def measure() -> report.Result:
    every = await asyncio.to_thread(pages)
    environ: Mapping[str, str] = {
        **os.environ,
        names.ENV_DEVICE: DeviceKind.CPU,
        "GPU_IDLE_TIMEOUT": "-1",
    }
    rates: dict[str, list[float]] = {"ours": [], "bare": []}
    seconds: dict[str, list[float]] = {"ours": [], "bare": []}
    load = [os.getloadavg()[0]]
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as http,
        server.started(environ) as (url, _),
    ):
        readers: dict[str, Read] = {"ours": Served(http, url), "bare": Bare()}
        for read in readers.values():
            await _at_once(read, every[:2])
        for turn in range(PAIRS):
            for name in list(readers)[:: 1 if turn % 2 else -1]:
                rates[name].append(await _at_once(readers[name], every))
                alone = [every[(turn * ALONE + at) % CLIENTS] for at in range(ALONE)]
                seconds[name].append(await _in_a_row(readers[name], alone))
    load.append(os.getloadavg()[0])
    rows = (
        report.at_least(f"{CLIENTS} pages at once: ours ÷ bare", _ratio(rates), "×", AHEAD),
        *(
            report.plain(f"{name}, pages a second", report.median(each), "1/s")
            for name, each in rates.items()
        ),
        report.at_most("one page after the other, seconds of one: ours ÷ bare", _ratio(seconds), "×", 1.0),
        *(
            report.plain(f"{name}, seconds of a page", report.median(each), "s")
            for name, each in seconds.items()
        ),
    )
    samples: dict[str, Sequence[float]] = {}
    for name in readers:
        samples |= {f"{name}, pages a second": rates[name], f"{name}, seconds of a page": seconds[name]}
    return report.Result(
        "ppocr",
        f"{PAIRS} turns, ours and bare alternating, of {CLIENTS} different pages (the invoice and drawn ones of "
        f"bench/layoutpages.py, PNG) that are asked for at once, then of {ALONE} one after the other. Ours is the "
        "server with its own settings, by HTTP; bare is rapidocr's `RapidOCR()`, called in the client's process by "
        f"{CLIENTS} threads. Ratios are medians of the turns'. Both have read pages before. {os.cpu_count()} cores, "
        f"shared with the client. Load average before and after: {load[0]:.1f}, {load[1]:.1f}.",
        rows,
        samples,
    )


def _ratio(samples: Mapping[str, Sequence[float]]) -> float:
    return report.median([ours / bare for ours, bare in zip(samples["ours"], samples["bare"], strict=True)])
