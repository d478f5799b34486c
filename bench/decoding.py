"""What packed weights bring on a CPU: decoding steps at 1, 4 and 16 rows, and tokens a second of a server that reads 16
pages at once, with the option `pack_weights` and without, by turns."""

import asyncio
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
from PIL import Image, ImageDraw

from bench import modelserver, report
from bench.vlmserver import offspring

PAIRS: Final = int(os.environ.get("BENCH_DECODING_PAIRS", "5"))
SERVED_PAIRS: Final = int(os.environ.get("BENCH_DECODING_SERVED_PAIRS", str(PAIRS)))
"""Of the servers; 0 leaves them out."""
STEPS: Final = int(os.environ.get("BENCH_DECODING_STEPS", "12"))
"""Steps of a sample."""
TOKENS: Final = int(os.environ.get("BENCH_DECODING_TOKENS", "64"))
"""Tokens of an answer by the server."""
ROWS: Final = (1, 4, 16)
PROMPT: Final = 10
"""Tokens of a prompt of the steps."""
PAGES: Final = 16
SIDE: Final = 224
"""Pixels of a picture's side: 64 picture tokens."""
SIZES: Final = {
    "text_config": {
        "vocab_size": 24_000,
        "hidden_size": 1024,
        "intermediate_size": 2816,
        "num_hidden_layers": 14,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "head_dim": 64,
        "rope_parameters": {"rope_type": "default", "mrope_section": [8, 12, 12], "rope_theta": 10000.0},
        "layer_types": ["full_attention"] * 14,
        "tie_word_embeddings": False,
    },
    "vision_config": {
        "depth": 4,
        "hidden_size": 512,
        "out_hidden_size": 1024,
        "intermediate_size": 1024,
        "num_heads": 8,
    },
}
"""Of a model of about 200 million parameters in the shape of Qwen2.5-VL."""
SIDES: Final = ("packed", "plain")
SPEEDUP: Final = {1: 1.0, 4: 1.7, 16: 1.3}
"""Least speed-up of a step, by rows."""
SERVED: Final = 1.3


def page(number: int) -> bytes:
    """A picture, each another one."""
    image = Image.new("RGB", (SIDE, SIDE), "white")
    for line in range(12):
        left = 8 + (number * 31 + line * 17) % 90
        colour = (number * 37 % 256, line * 59 % 256, number * line % 256)
        ImageDraw.Draw(image).rectangle((left, 8 + 17 * line, left + 100, 18 + 17 * line), fill=colour)
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


# --- steps, in a process of its own -------------------------------------------------------------------------------


def steps(folder: Path) -> dict[str, list[float]]:
    """Return seconds and CPU seconds a step, by model, rows and side; raises where tokens differ."""
    import torch  # noqa: PLC0415 - that other measurements don't need

    from ocr_inference import limits  # noqa: PLC0415
    from ocr_inference.engines.transformers import generation, packing  # noqa: PLC0415
    from ocr_inference.engines.transformers.generation import Prompt  # noqa: PLC0415
    from ocr_inference.engines.transformers.loading import Weights  # noqa: PLC0415
    from ocr_inference.protocol.engine import ModelSpec  # noqa: PLC0415
    from ocr_inference.protocol.host_tier import HostTier  # noqa: PLC0415

    torch.set_num_threads(limits.threads())

    def prompt(number: int) -> Prompt:
        """Words, each another one: what a step costs doesn't depend on the picture."""
        ids = torch.arange(20 + number, 20 + number + PROMPT)[None]
        return Prompt({"input_ids": ids}, STEPS + 8)

    samples: dict[str, list[float]] = {"threads": [torch.get_num_threads()]}
    for model in ("tiny", "large"):
        sides = {}
        for side in SIDES:
            spec = ModelSpec(
                name=side,
                engine="transformers",
                path=str(folder / model),
                cache_dir=str(folder),
                dtype="float32",
            )
            terms = packing.Terms() if side == "packed" else None
            host = HostTier.create(side)
            weights = Weights(spec, host, lambda _: None, os.environ, terms)
            weights.load()
            samples[f"{model} {side} bytes"] = [weights.footprint().packed_bytes, host.size]
            sides[side] = weights
        moved = sides["packed"]
        for _ in range(PAIRS):
            moved.offload()
            began = time.perf_counter()
            moved.restore()
            samples.setdefault(f"{model} restore", []).append(time.perf_counter() - began)
        for rows in ROWS:
            for turn in range(PAIRS):
                written = {}
                for side in SIDES if turn % 2 else SIDES[::-1]:
                    opened = sides[side].opened
                    writer = generation.of(opened.model, opened.eos_ids)
                    for number in range(rows):
                        writer.begin({number: prompt(number)})
                    writer.step()
                    began, spent = time.perf_counter(), time.process_time()
                    tokens = [[each.token for each in writer.step()] for _ in range(STEPS)]
                    key = f"{model} {rows} rows {side}"
                    samples.setdefault(key, []).append((time.perf_counter() - began) / STEPS)
                    samples.setdefault(f"{key} CPU", []).append((time.process_time() - spent) / STEPS)
                    writer.clear()
                    written[side] = tokens
                if written["packed"] != written["plain"]:
                    raise RuntimeError(f"{model}, {rows} rows: other tokens with packed weights")
            done = {key: values for key, values in samples.items() if f"{model} {rows} rows" in key}
            print(json.dumps(done), file=sys.stderr, flush=True)
    return samples


# --- a server -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Served:
    http: aiohttp.ClientSession
    pid: int


@asynccontextmanager
async def served(folder: Path, *, packed: bool) -> AsyncIterator[Served]:
    """A server of the large model."""
    options = {"pack_weights": packed, "vision_cache_mib": 0}  # all turns have the same pages
    async with modelserver.served(folder / "large", "transformers", options, pages=PAGES) as (url, pid):
        unlimited = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(url, timeout=unlimited) as http:
            yield Served(http, pid)


async def read(one: Served) -> tuple[float, float, list[str]]:
    """Read the pages all at once; returns tokens a second, tokens a CPU second, and the texts."""
    began, spent = time.perf_counter(), cpu_seconds(one.pid)
    answers = await asyncio.gather(*(_page(one.http, number) for number in range(PAGES)))
    written = sum(tokens for _, tokens in answers)
    seconds, used = time.perf_counter() - began, cpu_seconds(one.pid) - spent
    return written / seconds, written / used, [text for text, _ in answers]


async def _page(http: aiohttp.ClientSession, number: int) -> tuple[str, int]:
    form = aiohttp.FormData(
        {"prompt_type": "free", "max_tokens": str(TOKENS), "loop_guard": "false"}, default_to_multipart=True
    )
    form.add_field("file", page(number), filename="page.png")
    async with http.post("/ocr", data=form) as answer:
        body = await answer.json()
        assert answer.status == 200, body
        return body["raw_text"], body["metadata"]["completion_tokens"]


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and those that it started."""
    ticks = 0
    for each in (pid, *offspring(pid)):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


# --- both ---------------------------------------------------------------------------------------------------------


async def measure() -> report.Result:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        load = [os.getloadavg()[0]]
        samples: dict[str, Sequence[float]] = dict(await _in_process(folder))
        load.append(os.getloadavg()[0])
        if SERVED_PAIRS:
            samples |= await _served(folder)
        load.append(os.getloadavg()[0])
    return report.Result(
        name="decoding",
        method=_method(load, samples["threads"][0]),
        rows=_rows(samples),
        samples={**samples, "load average": load},
    )


async def _served(folder: Path) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {}
    async with AsyncExitStack() as stack:
        servers = {
            side: await stack.enter_async_context(served(folder, packed=side == "packed")) for side in SIDES
        }
        for one in servers.values():
            await _page(one.http, 0)  # loads
        for turn in range(SERVED_PAIRS):
            texts = {}
            for side in SIDES if turn % 2 else SIDES[::-1]:
                rate, by_cpu, texts[side] = await read(servers[side])
                rates.setdefault(f"served {side}", []).append(rate)
                rates.setdefault(f"served {side}, a CPU second", []).append(by_cpu)
            if texts["packed"] != texts["plain"]:
                raise RuntimeError("the servers' texts differ")
    return rates


def _method(load: Sequence[float], threads: float) -> str:
    loads = ", ".join(f"{each:.1f}" for each in load)
    served = (
        f"Servers read {PAGES} pages of {SIDE} x {SIDE} pixels at once, {TOKENS} tokens each ({SERVED_PAIRS} pairs)."
        if SERVED_PAIRS
        else "Tokens a second of servers were not measured (BENCH_DECODING_SERVED_PAIRS=0)."
    )
    return (
        f"{PAIRS} pairs, by turns; {STEPS} steps a sample, {threads:g} threads, seconds of a step; random weights, "
        f"float32; those of the tiny model are too small to be packed. {served} A ratio is the median of the pairs' "
        f"ratios, > 1 where packing gains; CPU time is that of the process. Load average meanwhile: {loads}, on "
        f"{os.cpu_count()} cores that other programs shared. In all pairs both sides wrote the same tokens."
    )


def _rows(samples: dict[str, Sequence[float]]) -> list[report.Row]:
    rows = []
    for model in ("tiny", "large"):
        for count in ROWS:
            for unit, words in (("", ""), (" CPU", ", CPU time")):
                packed = samples[f"{model} {count} rows packed{unit}"]
                plain = samples[f"{model} {count} rows plain{unit}"]
                what, value = f"step of {count} rows, {model} model{words}", _ratio(plain, packed)
                if model == "large" and not unit:
                    rows.append(report.at_least(what, value, "×", SPEEDUP[count]))
                else:
                    rows.append(report.plain(what, value, "×"))
    if SERVED_PAIRS:
        served = _ratio(samples["served packed"], samples["served plain"])
        rows += [
            report.at_least(f"tokens a second, {PAGES} pages at once, served", served, "×", SERVED),
            report.plain("… packed", report.median(samples["served packed"]), "1/s"),
            report.plain("… plain", report.median(samples["served plain"]), "1/s"),
            report.plain(
                "… a CPU second",
                _ratio(samples["served packed, a CPU second"], samples["served plain, a CPU second"]),
                "×",
            ),
        ]
    rows.append(
        report.plain("restore with packing, large model", report.median(samples["large restore"]), "s")
    )
    copies, weights = samples["large packed bytes"]
    rows.append(report.plain("memory of the copies, of the weights'", copies / weights, "×"))
    return rows


def _ratio(over: Sequence[float], under: Sequence[float]) -> float:
    return report.median([one / other for one, other in zip(over, under, strict=True)])


async def _in_process(folder: Path) -> dict[str, list[float]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.decoding", str(folder), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"the steps ended with {process.returncode}")
    found: dict[str, list[float]] = json.loads(out.splitlines()[-1])
    return found


def main(folder: Path) -> None:
    """Make the models, and print what `steps` returns."""
    from tests.support import chatmodels  # noqa: PLC0415

    sizes: dict[str, dict[str, Any] | None] = {"tiny": None, "large": dict(SIZES)}
    for model, its_sizes in sizes.items():
        (folder / model).mkdir()
        chatmodels.make(folder / model, "qwen2_5_vl", dtype="float32", sizes=its_sizes)
    print(json.dumps(steps(folder)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
