"""What does a file of what was read cost: the time and the memory of the process that makes it, by its pages?

100 and 400 full pages, as Word and as searchable PDF: pages of text, scans (each a JPEG of 200 KB), and fax (TIFF in
Group 4). Pages have 30 lines with their places. Beside it, the time of one picture of a page.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from bench import documents, report
from bench.jobs import WORDS
from bench.vlmserver import offspring
from ocr_inference.documents import exporting, previews
from ocr_inference.documents.exporter import Order, Origin
from ocr_inference.documents.formats.kinds import Format
from ocr_inference.protocol.page_file import PageFile

SHORT, LONG = 100, 400
LINES: Final = 30
LOOK_SECONDS: Final = 0.02
MAX_BYTES: Final = 1 << 30
MIB: Final = 1 << 20
PREVIEWS: Final = 10
GROWTH: Final = 3.0
"""Of memory, from 100 to 400 pages: what is made is in memory once, what it is made of isn't."""


@dataclass(frozen=True)
class Made:
    seconds: float
    peak_bytes: int
    file_bytes: int


def page(index: int, width: int, height: int) -> bytes:
    """Return the result of a page full of text."""
    texts = [
        " ".join(WORDS[(index * 7 + line * 5 + at * 3) % len(WORDS)] for at in range(11)) + f" {index * line}"
        for line in range(LINES)
    ]
    step = height // (LINES + 6)
    lines = [
        {"text": text, "corners": [[x, y] for x, y in _corners(width, step * (number + 4), step)]}
        for number, text in enumerate(texts)
    ]
    table = "| item | price |\n| --- | --- |\n" + "| coffee | 12.50 |\n" * 5
    return msgspec.json.encode(
        {
            "index": index,
            "text": f"# Page {index + 1}\n\n" + "\n".join(texts) + f"\n\n{table}",
            "lines": lines,
            "image_dims": {"w": width, "h": height},
            "metadata": {"mode": "document", "engine": "rapidocr"},
        }
    )


def _corners(width: int, top: int, step: int) -> Sequence[tuple[int, int]]:
    left, right, bottom = width // 10, width * 9 // 10, top + step * 3 // 4
    return (left, top), (right, top), (right, bottom), (left, bottom)


async def made(format_: Format, data: bytes, pages: int) -> Made:
    """Make a file; returns what it took."""
    is_pdf = data.startswith(b"%PDF")
    order = Order(
        format=format_,
        max_pixels=100_000_000,
        max_bytes=MAX_BYTES,
        origins=(Origin(is_pdf),) if format_ is Format.PDF else (),
        places=tuple((0, index) for index in range(pages)),
    )
    results = [page(index, *documents.SIZE) for index in range(pages)]
    with PageFile.of(data) as origin:
        began = time.perf_counter()
        task = asyncio.create_task(exporting.made(order, results, [origin] if order.origins else []))
        peak = 0
        while not task.done():
            peak = max([peak, *map(_peak, offspring(os.getpid()))])
            await asyncio.wait([task], timeout=LOOK_SECONDS)
        seconds = time.perf_counter() - began
        with task.result() as file:
            return Made(seconds, peak, file.size)


def _peak(pid: int) -> int:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    return 0


async def previewed(data: bytes) -> list[float]:
    """Return the seconds of pictures of pages, one after the other."""
    seconds = []
    with PageFile.of(data) as file:
        for index in range(PREVIEWS):
            began = time.perf_counter()
            await previews.preview(file, index, 300, 100_000_000)
            seconds.append(time.perf_counter() - began)
    return seconds


async def measure() -> report.Result:
    rows: list[report.Row] = []
    samples: dict[str, Sequence[float]] = {}
    wanted = [
        ("docx", "text", Format.DOCX),
        *((f"pdf of {kind}", kind, Format.PDF) for kind in documents.KINDS),
    ]
    for what, kind, format_ in wanted:
        peaks = []
        for pages in (SHORT, LONG):
            data = documents.KINDS[kind](pages)
            found = await made(format_, data, pages)
            peaks.append(found.peak_bytes)
            rows.append(report.plain(f"{what}: {pages} pages", found.seconds, "s"))
            rows.append(
                report.plain(
                    f"{what}: {pages} pages, most memory of its process", found.peak_bytes / MIB, "MiB"
                )
            )
            if format_ is Format.PDF:
                rows.append(
                    report.plain(f"{what}: {pages} pages, document", len(data) / MIB, "MiB"),
                )
            rows.append(report.plain(f"{what}: {pages} pages, file", found.file_bytes / MIB, "MiB"))
        rows.append(
            report.at_most(f"{what}: memory of 400 pages to that of 100", peaks[1] / peaks[0], "×", GROWTH)
        )
    for kind, create in documents.KINDS.items():
        seconds = await previewed(create(PREVIEWS))
        samples[f"picture of {kind}"] = seconds
        rows.append(
            report.plain(f"picture of a page of {kind}, 300 pixels wide, median", report.median(seconds), "s")
        )
    return report.Result("exports", (__doc__ or "").strip(), rows, samples)
