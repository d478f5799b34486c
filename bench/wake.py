"""Deep idle: what is left on the device, how long the first answer takes, and whether it is slower to compute.

`OCR_BENCH_CONFIG` names a configuration FILE whose first model is measured. Without it: on a CUDA device, DeepSeek-OCR
at its published size with random weights, which takes as long to wake and to write as the real one; elsewhere
rapidocr on the CPU, and a tiny DeepSeek-OCR where transformers is installed.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from bench import report
from bench.sleeper import Sleeper, sleeper
from ocr_inference.device import gpu_usage
from ocr_inference.device.gpu import NoDevice
from ocr_wire import names
from ocr_wire.states import DeviceKind

CPU: Final = "models: [{{name: pp-ocr, engine: rapidocr, options: {{threads: {threads}}}}}]\n"
VLM: Final = (
    "models: [{{name: deepseek-ocr, engine: transformers, source: {{path: {folder}}}, gpuMemory: 12Gi,"
    " options: {{threads: {threads}, vision_cache_mib: 0}}}}]\n"
)
"""Without the cache, of which a page that is read again and again would be quicker than the first one."""
ROUNDS: Final = 12
STEADY: Final = 3
"""Pages of the ready model before each wake."""
PAIRS: Final = 30
GPU_PAIRS: Final = 8
"""Pages there vary less, and `make bench-gpu` has ten minutes for all."""
CROWD: Final = 200
DOCUMENT: Final = Path(__file__).parents[1] / "examples" / "invoice.png"
DOCUMENT_TOKENS: Final = 128


@dataclass
class Samples:
    wake_offloaded: list[float] = field(default_factory=list)
    """Seconds of the restore itself."""
    wake_exited: list[float] = field(default_factory=list)
    answer_steady: list[float] = field(default_factory=list)
    """Seconds from sending a page to its whole answer."""
    answer_offloaded: list[float] = field(default_factory=list)
    answer_exited: list[float] = field(default_factory=list)
    """In deep idle for so long that whatever is done for the next wake is done."""
    answer_leaving: list[float] = field(default_factory=list)
    """At once after the worker's exit."""
    first_piece: list[float] = field(default_factory=list)
    """Seconds from sending a page to an exited model to the first piece of its answer."""


@dataclass
class Pairs:
    """Seconds in the engine for a document's page; samples of the same place were taken one after the other."""

    before_offload: list[float] = field(default_factory=list)
    after_offload: list[float] = field(default_factory=list)
    """Of the first page after a wake from host memory."""
    before_exit: list[float] = field(default_factory=list)
    after_exit: list[float] = field(default_factory=list)
    """The same, after the worker process had exited."""


async def rounds(sleeper: Sleeper) -> Samples:
    """Steady pages, a wake from host memory, steady pages, a wake from deep idle, and again."""
    samples = Samples()
    for _ in range(ROUNDS):
        for deep in (False, True):
            for _ in range(STEADY):
                samples.answer_steady.append((await sleeper.read())[0])
            await sleeper.sleep(deep=deep)
            (samples.answer_exited if deep else samples.answer_offloaded).append((await sleeper.read())[0])
            wake = await sleeper.last_wake()
            (samples.wake_exited if deep else samples.wake_offloaded).append(wake)
        await sleeper.sleep(deep=True)
        samples.first_piece.append(await sleeper.first_piece())
        await sleeper.sleep(deep=True, settled=False)
        samples.answer_leaving.append((await sleeper.read())[0])
    return samples


async def pairs(sleeper: Sleeper, count: int) -> Pairs:
    """A page of a document by the ready model, the same page after a wake, and again, in turn from both depths."""
    found, page = Pairs(), await asyncio.to_thread(DOCUMENT.read_bytes)
    await sleeper.read(page, DOCUMENT_TOKENS)
    for _ in range(count):
        for before, after, deep in (
            (found.before_offload, found.after_offload, False),
            (found.before_exit, found.after_exit, True),
        ):
            before.append((await sleeper.read(page, DOCUMENT_TOKENS))[1])
            await sleeper.sleep(deep=deep)
            after.append((await sleeper.read(page, DOCUMENT_TOKENS))[1])
    return found


async def crowd(sleeper: Sleeper) -> tuple[int, int]:
    """Wakes, and pages answered, of CROWD requests at once to a model in deep idle."""
    await sleeper.sleep(deep=True)
    before = (await sleeper.state())["models"][0]["wakes"]
    answers = await asyncio.gather(*(sleeper.read() for _ in range(CROWD)), return_exceptions=True)
    wakes = (await sleeper.state())["models"][0]["wakes"] - before
    return wakes, sum(not isinstance(answer, BaseException) for answer in answers)


def gpu_mib() -> list[int] | None:
    """MiB in use on each GPU by NVML; None without a GPU."""
    try:
        with gpu_usage.opened(None) as usage_reader:
            return [each.used_bytes >> 20 for each in usage_reader.read()] or None
    except NoDevice:
        return None


async def measure() -> report.Result:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environ = dict(os.environ) | {names.ENV_CACHE_DIR: str(folder / "cache")}
        if given := environ.get("OCR_BENCH_CONFIG"):
            config = await asyncio.to_thread(Path(given).read_text)
            return await on(config, config, environ)
        if gpu_mib() is not None:
            await checkpoint(folder / "checkpoint", "published")
            config = VLM.format(folder=folder / "checkpoint", threads=0)
            return await on(config, config, environ | {names.ENV_DEVICE: DeviceKind.CUDA})
        environ |= {names.ENV_DEVICE: DeviceKind.CPU}
        found = await on(CPU.format(threads=0), CPU.format(threads=1), environ)
        if find_spec("transformers") is None:
            return found
        await checkpoint(folder / "checkpoint", "tiny")
        all_threads, one_thread = (
            VLM.format(folder=folder / "checkpoint", threads=count) for count in (0, 1)
        )
        return both(found, await on(all_threads, one_thread, environ))


async def checkpoint(folder: Path, size: str) -> None:
    """By a process of its own: who measures that nothing is left on a device must not use it."""
    made = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.checkpoint", str(folder), size)
    if await made.wait() != 0:
        raise RuntimeError("no checkpoint came of it; its own output says why")


def both(pp_ocr: report.Result, tiny: report.Result) -> report.Result:
    named = {"pp-ocr": pp_ocr, "tiny deepseek-ocr": tiny}
    return report.Result(
        "wake",
        " --- ".join(f"{name}: {result.method}" for name, result in named.items()),
        [replace(row, what=f"{name}: {row.what}") for name, result in named.items() for row in result.rows],
        {f"{name}: {key}": each for name, result in named.items() for key, each in result.samples.items()},
    )


async def on(config: str, for_pairs: str, environ: dict[str, str]) -> report.Result:
    """`for_pairs`: the same with one thread on a CPU: with all cores taken, a page's time varies by a third."""
    empty = gpu_mib()
    async with sleeper(config, environ) as asleep:
        samples = await rounds(asleep)
        wakes, answered = await crowd(asleep)
        await asleep.sleep(deep=True)
        deep = gpu_mib()
        state = await asleep.state()
    gpu = state["device"]["kind"] == "cuda"
    async with sleeper(for_pairs, environ) as asleep:
        compared = await pairs(asleep, GPU_PAIRS if gpu else PAIRS)
    directly = []
    async with sleeper(config, environ | {"OCR_FORKSERVER": "off"}) as asleep:
        for _ in range(STEADY):
            await asleep.sleep(deep=True)
            directly.append((await asleep.read())[0])
    rows = (
        *_rows(samples, directly, gpu=gpu),
        *_pair_rows(compared),
        *_crowd_rows(wakes, answered),
        *_gpu_rows(empty, deep),
    )
    kept = {**vars(samples), **vars(compared), "directly": directly}
    accelerator = str(state["device"]["product"]) if gpu else "none"
    return report.Result("wake", _method(state, len(compared.after_exit)), rows, kept, accelerator)


def _rows(samples: Samples, directly: Sequence[float], *, gpu: bool) -> tuple[report.Row, ...]:
    first = report.median(samples.first_piece) * 1000
    piece = "exited → first piece of the answer, median"
    return (
        report.plain("a page by a ready model, median", report.median(samples.answer_steady) * 1000, "ms"),
        report.plain("offloaded → answer, median", report.median(samples.answer_offloaded) * 1000, "ms"),
        report.plain("exited → answer, median", report.median(samples.answer_exited) * 1000, "ms"),
        report.plain("exited → answer, p95", report.percentile(samples.answer_exited, 0.95) * 1000, "ms"),
        report.at_most(piece, first, "ms", 2000) if gpu else report.plain(piece, first, "ms"),
        report.plain(
            "exiting a moment ago → answer, median", report.median(samples.answer_leaving) * 1000, "ms"
        ),
        report.plain("exited → answer without a forkserver, median", report.median(directly) * 1000, "ms"),
        report.plain("of it the wake: offloaded, median", report.median(samples.wake_offloaded) * 1000, "ms"),
        report.plain("of it the wake: exited, median", report.median(samples.wake_exited) * 1000, "ms"),
    )


def _pair_rows(found: Pairs) -> tuple[report.Row, ...]:
    rows = []
    for what, before, after in (
        ("an offload", found.before_offload, found.after_offload),
        ("deep idle", found.before_exit, found.after_exit),
    ):
        ratio = report.median([late / early for early, late in zip(before, after, strict=True)])
        rows += [
            report.at_most(f"first page after {what} ÷ steady, in the engine", ratio, "×", 1.05),
            report.plain(f"of it the steady page, before {what}", report.median(before) * 1000, "ms"),
        ]
    return tuple(rows)


def _crowd_rows(wakes: int, answered: int) -> tuple[report.Row, ...]:
    return (
        report.at_most(f"wakes caused by {CROWD} requests at once", wakes, "wakes", 1),
        report.at_most(f"of {CROWD} requests to a sleeper not answered", CROWD - answered, "pages", 0),
    )


def _gpu_rows(empty: list[int] | None, deep: list[int] | None) -> tuple[report.Row, ...]:
    if empty is None or deep is None:
        return ()
    left = max(after - before for before, after in zip(empty, deep, strict=True))
    return (report.at_most("left on the GPU in deep idle, by NVML", left, "MiB", 0),)


def _method(state: dict[str, Any], pairs: int) -> str:
    device, engine = state["device"], state["models"][0]["engine"]
    return (
        f"the server in a process of its own, one model of engine {engine} on device {device['kind']}"
        f" ({device['product'] or 'no GPU'}), {state['models'][0]['host_bytes']} bytes in host memory, a page of 320"
        f" × 240 pixels, 32 tokens at most. {ROUNDS} rounds: {STEADY} pages by the ready model, offload, a page,"
        f" {STEADY} pages, deep idle with the standby ready where the engine has one, a page; the same, a streamed"
        f" page; exit of the worker and a page at once. Then {CROWD} requests at once to the exited model. Then"
        f" {pairs} pairs each, alternating: a page of a document (examples/invoice.png, {DOCUMENT_TOKENS} tokens at"
        " most) by the ready model, on a CPU with one thread; offload or deep idle; the same page. The row is the"
        " median of the pairs' ratios, and `in the engine` the time that the worker itself counts for the page,"
        f" without waking and waiting. Then {STEADY} wakes from deep idle by workers that are started without a"
        " forkserver. Client and server share the machine's cores. NVML is asked before the server starts and while"
        " the model is in deep idle."
    )
