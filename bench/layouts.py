"""Is a page read in the order in which people read it? Pages of known text, against rapidocr's and docling's order."""

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any, Final

import numpy as np
from rapidocr import RapidOCR

from bench import foreign, layoutpages, layoutscore
from bench.layoutpages import Page, Point
from bench.report import Result, Row, at_most, plain
from ocr_inference import engines
from ocr_inference.families import plain as plain_family
from ocr_inference.protocol.engine import InferRequest, ModelSpec, PageResult
from ocr_inference.protocol.host_tier import HostTier
from ocr_wire.tasks import Task

DOCLING: Final = ("docling-slim==2.143.0", "docling-core==2.104.0", "rtree==1.4.1", "numpy")
METHOD: Final = (
    "Pages drawn from a seed (bench/layoutpages.py), of which text and order are known. Error: edit distance for each "
    "character of the right text, without white space. Kendall's tau: over all units (lines, cells) that were found, "
    "by the order in which they come. 'rapidocr' is its own call with its own scaling, direction and order, same "
    "models, same threads. 'docling' is the order of docling's rules on the lines that we found, without its models of "
    "regions and tables, so that only the order differs. Means of all pages of a kind."
)


@dataclass(frozen=True)
class Reading:
    """Lines of a page with their middles, in the order of one reader."""

    texts: Sequence[str]
    middles: Sequence[Point]
    seconds: float


@dataclass(frozen=True)
class Score:
    error: float
    tau: float
    found: float
    """Share of the units that were found."""
    seconds: float


async def measure() -> Result:
    host = HostTier.create("bench")
    threads = min(8, len(os.sched_getaffinity(0)))
    engine = engines.create(ModelSpec(name="m", engine="rapidocr", options={"threads": threads}), host)
    engine.load()
    rapid = _rapidocr(threads)
    scores: dict[str, dict[str, list[Score]]] = {}
    lines: list[tuple[Page, PageResult]] = []
    for page in layoutpages.pages():
        ours, result = _ours(engine, page)
        lines.append((page, result))
        by = scores.setdefault(page.kind, {"ours": [], "rapidocr": [], "docling": []})
        by["ours"].append(_score(page, ours))
        by["rapidocr"].append(_score(page, _theirs(rapid, page)))
        print(
            f"  {page.name:32} {_words(by['ours'][-1])}   rapidocr {_words(by['rapidocr'][-1])}", flush=True
        )
    for page, reading in _docling(lines):
        scores[page.kind]["docling"].append(_score(page, reading))
    host.close()
    return Result(name="layouts", method=METHOD, rows=_rows(scores), samples=_samples(scores))


def _words(score: Score) -> str:
    return f"error {score.error:.3f} tau {score.tau:+.3f} found {score.found:.2f} {score.seconds:.1f} s"


def _rows(scores: dict[str, dict[str, list[Score]]]) -> list[Row]:
    rows = []
    everything = {
        reader: [each for by in scores.values() for each in by[reader]]
        for reader in ("ours", "rapidocr", "docling")
    }
    for kind, by in [*scores.items(), ("all pages", everything)]:
        for reader, each in by.items():
            what = f"{kind}: {reader}"
            error, tau = mean(score.error for score in each), mean(score.tau for score in each)
            if kind == "all pages" and reader == "ours":
                rows.append(at_most(f"{what}, error", error, "of 1", 0.03))
            else:
                rows.append(plain(f"{what}, error", error, "of 1"))
            rows.append(plain(f"{what}, Kendall's tau", tau, ""))
            if reader != "docling":
                rows.append(plain(f"{what}, a page", mean(score.seconds for score in each), "s"))
    rows.append(plain("pages", len(everything["ours"]), ""))
    return rows


def _samples(scores: dict[str, dict[str, list[Score]]]) -> dict[str, Sequence[float]]:
    return {
        f"{kind}: {reader}, {name}": [getattr(score, name) for score in each]
        for kind, by in scores.items()
        for reader, each in by.items()
        for name in ("error", "tau", "found")
    }


# Readers


def _ours(engine: Any, page: Page) -> tuple[Reading, PageResult]:
    data = io.BytesIO()
    page.image.save(data, "PNG")
    began = time.perf_counter()
    (result,) = engine.infer([InferRequest(image=data.getvalue())])
    assert isinstance(result, PageResult)
    text, boxes = plain_family.read(Task.FREE, None, result.lines)
    seconds = time.perf_counter() - began
    middles = [_middle(((box.box[0], box.box[1]), (box.box[2], box.box[3]))) for box in boxes]
    return Reading(text.splitlines(), middles, seconds), result


def _rapidocr(threads: int) -> Any:
    return RapidOCR(
        params={"Global.log_level": "error", "EngineConfig.onnxruntime.intra_op_num_threads": threads}
    )


def _theirs(rapid: Any, page: Page) -> Reading:
    pixels = np.ascontiguousarray(np.asarray(page.image)[:, :, ::-1])
    began = time.perf_counter()
    output = rapid(pixels)
    seconds = time.perf_counter() - began
    if getattr(output, "txts", None) is None or output.boxes is None:
        return Reading((), (), seconds)
    return Reading(output.txts, [_middle(box.tolist()) for box in output.boxes], seconds)


def _docling(pages: Sequence[tuple[Page, PageResult]]) -> list[tuple[Page, Reading]]:
    folder = foreign.packages("docling", DOCLING, with_dependencies=True)
    asked = [
        {
            "width": result.width,
            "height": result.height,
            "boxes": [
                (
                    min(x for x, _ in line.box),
                    min(y for _, y in line.box),
                    max(x for x, _ in line.box),
                    max(y for _, y in line.box),
                )
                for line in result.lines
            ],
        }
        for _, result in pages
    ]
    answered = subprocess.run(
        [sys.executable, "-m", "bench.layoutdocling"],
        input=json.dumps(asked),
        text=True,
        stdout=subprocess.PIPE,
        check=True,
        cwd=foreign.ROOT,
        env=os.environ | {"PYTHONPATH": str(folder)},
    )
    found = []
    for (page, result), order in zip(pages, json.loads(answered.stdout), strict=True):
        lines = [result.lines[at] for at in order]
        found.append(
            (page, Reading([line.text for line in lines], [_middle(line.box) for line in lines], 0.0))
        )
    return found


# Scores


def _score(page: Page, reading: Reading) -> Score:
    wanted = "".join(unit.text for unit in page.units)
    ranks = [rank for middle in reading.middles if (rank := _unit(page, middle)) is not None]
    return Score(
        error=layoutscore.error(wanted, "".join(reading.texts)),
        tau=layoutscore.kendall(ranks),
        found=len(set(ranks)) / len(page.units),
        seconds=reading.seconds,
    )


def _unit(page: Page, middle: Point) -> int | None:
    """Return the number of the unit in whose place a line's middle lies."""
    for number, unit in enumerate(page.units):
        edges = zip(unit.place, (*unit.place[1:], unit.place[0]), strict=True)
        if all(
            (bx - ax) * (middle[1] - ay) - (by - ay) * (middle[0] - ax) >= 0 for (ax, ay), (bx, by) in edges
        ):
            return number
    return None


def _middle(corners: Sequence[Sequence[float]]) -> Point:
    return mean(corner[0] for corner in corners), mean(corner[1] for corner in corners)
