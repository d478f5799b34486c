"""What a page takes that is asked again by another task: seconds to its first token, with the features of its picture
kept and without, by turns."""

import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from bench import report
from bench.decoding import SIZES, page

PAIRS: Final = int(os.environ.get("BENCH_AGAIN_PAIRS", "12"))
SIDES: Final = ("kept", "not kept")
MOST: Final = 1.0
TOKENS: Final = 16
"""Of each answer: with fewer, answers of different pages may be the same by chance."""


def first_token(engine: Any, request: Any) -> tuple[float, str]:
    """Return seconds until a page has its first token, and its text. The engine steps, and has no other page."""
    from ocr_inference.protocol.engine import Delta, PageResult  # noqa: PLC0415 - torch

    taken, began = None, time.perf_counter()
    engine.admit(0, request)
    while True:
        for _, event in engine.step():
            if taken is None:
                taken = time.perf_counter() - began
            if isinstance(event, PageResult):
                return taken, event.text
            assert isinstance(event, Delta), event


def seconds(folder: Path) -> dict[str, list[float]]:
    """Return seconds to the first token of pages that are asked the first time and again, by side."""
    from ocr_inference.engines.transformers import engine as transformers  # noqa: PLC0415 - torch
    from ocr_inference.protocol.engine import InferRequest, ModelSpec  # noqa: PLC0415
    from ocr_inference.protocol.host_tier import HostTier  # noqa: PLC0415
    from tests.support import chatmodels  # noqa: PLC0415

    chatmodels.make(folder, "qwen2_5_vl", dtype="float32", sizes=dict(SIZES))
    engines = {}
    for side, mib in zip(SIDES, (64, 0), strict=True):
        spec = ModelSpec(
            name=side,
            engine="transformers",
            path=str(folder),
            cache_dir=str(folder / "cache"),
            dtype="float32",
            options={"vision_cache_mib": mib},
        )
        engines[side] = transformers.create(spec, HostTier.create(side), lambda _: None)
        engines[side].load()
    samples: dict[str, list[float]] = {}
    answers: dict[str, set[str]] = {}
    for turn in range(PAIRS + 1):
        texts = set()
        for side in SIDES if turn % 2 else SIDES[::-1]:
            for when, task in (("first", "document"), ("again", "ocr")):
                request = InferRequest(image=page(turn), task=task, max_tokens=TOKENS)
                taken, text = first_token(engines[side], request)
                if turn:  # with the first one, what is made once
                    samples.setdefault(f"{side}, {when}", []).append(taken)
                texts.add((when, text))
        if len(texts) > 2:
            raise RuntimeError("features that were kept make another answer")
        for when, text in texts:
            answers.setdefault(when, set()).add(text)
    if any(len(each) <= PAIRS for each in answers.values()):
        raise RuntimeError(
            "answers of different pages are the same, so they don't show whose features were used"
        )
    return samples


async def measure() -> report.Result:
    with tempfile.TemporaryDirectory() as name:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.again", name, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"the measurement ended with {process.returncode}")
    samples: dict[str, list[float]] = json.loads(out.splitlines()[-1])
    kept, not_kept = (samples[f"{side}, again"] for side in SIDES)
    ratio = report.median([one / other for one, other in zip(kept, not_kept, strict=True)])
    return report.Result(
        name="again",
        method=f"{PAIRS} pages, each by two tasks, {TOKENS} tokens each, of which the first one is timed, by turns with"
        " `vision_cache_mib` 64 and 0; a model of about 200 million parameters in the shape of qwen2_5_vl, whose vision"
        " tower has 17 million of them, random"
        f" weights, float32, {os.cpu_count()} cores. What is gained is the tower's share of a prompt, so it is larger"
        " with a larger tower and with a larger picture. The second answers were equal, and those"
        " of different pages were not.",
        rows=[
            report.at_most("a page by a second task, first token: kept ÷ not kept", ratio, "×", MOST),
            *(
                report.plain(f"{side}, {when}, median", report.median(samples[f"{side}, {when}"]), "s")
                for side in SIDES
                for when in ("first", "again")
            ),
        ],
        samples=dict(samples),
    )


if __name__ == "__main__":
    print(json.dumps(seconds(Path(sys.argv[1]))))
