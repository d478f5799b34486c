"""What long documents cost: pages a second as a job against one after the other, memory by length, and what requests
beside them and uploads take."""

import asyncio
import contextlib
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
from PIL import Image, ImageDraw, ImageFont

from bench import report, server, vlmserver
from bench.uploader import page as large_page
from bench.vlmserver import offspring, resident
from ocr_inference.protocol.page_file import PageFile
from ocr_wire import names
from tests.support.pdfs import PdfPage, pdf

PAGES: Final = int(os.environ.get("BENCH_JOBS_PAGES", "100"))
SHORT, LONG = 4, 400
BESIDE_PAGES: Final = max(4, PAGES // 4)
"""Pages of the job beside which PP-OCR reads small requests."""
VLM_PAGES: Final = max(4, PAGES // 3)
VLM_TOKENS: Final = 64
LINES: Final = 30
A4: Final = (595, 842)
FAKE_SECONDS: Final = 0.02
SMALL_PAUSE: Final = 0.1
ALONE: Final = 50
"""Small requests while nothing else happens."""
UPLOADS: Final = {"1 MB": 1_000_000, "10 MB": 10_000_000, "50 MB": 50_000_000}
REPEATS: Final = 10
LOOK_SECONDS: Final = 0.02
MIB: Final = 1 << 20

SPEEDUP: Final = 1.6
GROWTH: Final = 1.2

WORDS: Final = (
    "invoice",
    "of",
    "the",
    "blue",
    "harbour",
    "company",
    "for",
    "coffee",
    "beans",
    "and",
    "paper",
    "cups",
    "delivered",
    "on",
    "monday",
)


def document(pages: int) -> bytes:
    """A PDF of A4 pages full of text, each another one."""
    return pdf([PdfPage(f"Page {number}", A4, content=_lines(number)) for number in range(1, pages + 1)])


def _lines(number: int) -> str:
    texts = (
        " ".join(WORDS[(number * 7 + line * 5 + at * 3) % len(WORDS)] for at in range(11))
        + f" {number * line}"
        for line in range(1, LINES + 1)
    )
    written = " ".join(f"({text}) Tj T*" for text in texts)
    return f"BT /F 11 Tf 24 TL 40 740 Td {written} ET"


def picture(number: int) -> bytes:
    """A picture of such a page."""
    page = Image.new("RGB", (1190, 1684), "white")
    for line in range(LINES):
        text = f"{WORDS[(number + line) % len(WORDS)]} {number * line}"
        ImageDraw.Draw(page).text((80, 200 + 48 * line), text, fill="black", font=ImageFont.load_default(22))
    return _png(page)


def small() -> bytes:
    """A picture with a few words."""
    words = Image.new("RGB", (420, 90), "white")
    ImageDraw.Draw(words).text((20, 25), "Total 134.75", fill="black", font=ImageFont.load_default(32))
    return _png(words)


def _png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


@asynccontextmanager
async def served(
    models: Sequence[Mapping[str, Any]], **environ: str
) -> AsyncIterator[tuple[aiohttp.ClientSession, int]]:
    """A server of these models; yields a client, and the server's process id."""
    config = {
        "models": models,
        "idle": server.NO_TIMERS,
        "server": {"limits": {"maxPdfPages": LONG}},
        "queue": {"deadlineSeconds": 3600},
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.json"
        file.write_text(json.dumps(config))
        told = {**os.environ, names.ENV_DEVICE: "cpu", names.ENV_CACHE_DIR: folder, **environ}
        async with server.started(told, "--config", str(file)) as (url, process):
            unlimited = aiohttp.ClientTimeout(total=None)
            async with aiohttp.ClientSession(url, timeout=unlimited) as http:
                await read(http, small(), max_tokens="8")
                yield http, process.pid


async def read(http: aiohttp.ClientSession, data: bytes, **fields: str) -> float:
    """Read one picture; returns the seconds that it took."""
    form = aiohttp.FormData(fields, default_to_multipart=True)
    form.add_field("file", data, filename="page")
    began = time.perf_counter()
    async with http.post("/ocr", data=form) as answer:
        assert answer.status == 200, await answer.text()
        await answer.read()
    return time.perf_counter() - began


@dataclass(frozen=True)
class Speed:
    """Pages a second of a job."""

    whole: float
    """From its submission to its end."""
    after_first: float
    """From the end of the first page to that of the last."""


async def job(http: aiohttp.ClientSession, data: bytes, **fields: str) -> Speed:
    """Read a document as a job."""
    began = time.perf_counter()
    form = aiohttp.FormData(fields, default_to_multipart=True)
    form.add_field("file", data, filename="document")
    async with http.post("/v1/jobs", data=form) as answer:
        assert answer.status == 202, await answer.text()
        id_ = (await answer.json())["id"]
    first: tuple[float, int] | None = None
    async with http.get(f"/v1/jobs/{id_}?watch=true") as answer:
        async for line in answer.content:
            if not line.startswith(b"data: "):
                continue
            now, state = time.perf_counter(), json.loads(line.removeprefix(b"data: "))
            done: int = state["pages"]["done"]
            if done and first is None:
                first = now, done
            if state["state"] not in ("queued", "running"):
                assert state["state"] == "done", state
                assert not state["pages"]["failed"], state
                assert first is not None
                await http.delete(f"/v1/jobs/{id_}")
                return Speed(done / (now - began), (done - first[1]) / max(now - first[0], 1e-6))
    raise AssertionError("the watch ended before the job")


async def one_by_one(data: bytes) -> float:
    """Read a document by `ocr-inference read`; returns pages a second from the end of the first page."""
    with tempfile.NamedTemporaryFile(suffix=".pdf") as file:
        file.write(data)
        file.flush()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ocr_inference", "read", "--verbose", file.name),
            env={**os.environ, names.ENV_DEVICE: "cpu"},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        ends = [time.perf_counter() async for line in process.stderr if b": page " in line]
        assert await process.wait() == 0
    return (len(ends) - 1) / (ends[-1] - ends[0])


@dataclass
class Memory:
    """Most memory that a server, its processes and its pages took while the block ran."""

    pid: int
    server_bytes: int = 0
    """Of the server's process and of what it holds in files in memory."""
    all_bytes: int = 0
    """With the processes that it started."""
    _task: asyncio.Task[None] | None = field(default=None, repr=False)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()

    async def _look(self) -> None:
        while True:
            own = resident(self.pid) + files(self.pid)
            children = 0
            for child in offspring(self.pid):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError, StopIteration):
                    children += resident(child)
            self.server_bytes = max(self.server_bytes, own)
            self.all_bytes = max(self.all_bytes, own + children)
            await asyncio.sleep(LOOK_SECONDS)


def files(pid: int) -> int:
    """Bytes of documents and pages that the process has open, which are files in memory."""
    found = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(link).startswith(("/memfd:ocr-page", "/memfd:ocr-rendered")):
                file = link.stat()
                found[file.st_ino] = file.st_size
    return sum(found.values())


async def beside(http: aiohttp.ClientSession, work: "asyncio.Task[Speed]") -> list[float]:
    """Read small pages, one after the other, until the work is done; returns their seconds."""
    seconds = []
    while not work.done():
        seconds.append(await read(http, small()))
        await asyncio.sleep(SMALL_PAUSE)
    await work
    return seconds


async def measure() -> report.Result:
    rows: list[report.Row] = []
    samples: dict[str, Sequence[float]] = {}
    await _speed(rows)
    await _speed_of_vlm(rows)
    await _growth(rows)
    for what, model, pages in (
        ("PP-OCR", {"name": "pp-ocr", "engine": "rapidocr"}, BESIDE_PAGES),
        (
            "an engine of 20 ms a page",
            {"name": "fake", "engine": "fake", "options": {"infer_seconds": FAKE_SECONDS}},
            LONG,
        ),
    ):
        async with served([model]) as (http, _):
            alone = [await read(http, small()) for _ in range(ALONE)]
            together = await beside(http, asyncio.create_task(job(http, document(pages))))
        rows += _of_small(f"small requests to {what}, alone", alone)
        rows += _of_small(f"small requests to {what}, beside a job", together)
        samples |= {f"{what}, alone": alone, f"{what}, beside a job": together}
    await _uploads(rows)
    method = (
        f"PDFs of A4 pages with {LINES} lines of text. PP-OCR: pages a second from the end of the first page to"
        f" that of the last, by `ocr-inference read` and as a job of a server. Vision-language model: a tiny"
        f" DeepSeek-OCR, {VLM_TOKENS} tokens a page, requests one after the other against a job. Memory: anonymous"
        " memory, and files in memory of the server, looked at every"
        f" {LOOK_SECONDS * 1000:.0f} ms, with an engine that reads nothing. Small requests: a picture with a few"
        f" words, one after the other with {SMALL_PAUSE:g} s between. Uploads: a picture, then zeros, to an engine"
        f" that reads nothing, median of {REPEATS}, against reading a file of that size into a page's memory. Clients,"
        " server and workers share the machine's cores"
    )
    return report.Result("jobs", method, rows, samples)


async def _speed(rows: list[report.Row]) -> None:
    data = document(PAGES)
    single = await one_by_one(data)
    async with served([{"name": "pp-ocr", "engine": "rapidocr"}]) as (http, _):
        together = (await job(http, data)).after_first
    rows += (
        report.plain(f"{PAGES} pages by `read`, PP-OCR", single, "1/s"),
        report.plain(f"{PAGES} pages as a job, PP-OCR", together, "1/s"),
        report.at_least("job against `read`, PP-OCR", together / single, "×", SPEEDUP),
    )


async def _speed_of_vlm(rows: list[report.Row]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        await asyncio.to_thread(vlmserver.make, Path(folder))
        model = {
            "name": "deepseek",
            "engine": "transformers",
            "source": {"path": str(Path(folder) / "deepseek")},
        }
        async with served([model]) as (http, _):
            data, fields = document(VLM_PAGES), {"max_tokens": str(VLM_TOKENS), "loop_guard": "false"}
            pictures = [picture(number) for number in range(VLM_PAGES)]
            began = time.perf_counter()
            for each in pictures:
                await read(http, each, **fields)
            single = VLM_PAGES / (time.perf_counter() - began)
            together = (await job(http, data, **fields)).whole
    rows += (
        report.plain(f"{VLM_PAGES} pages by requests, a tiny vision-language model", single, "1/s"),
        report.plain(f"{VLM_PAGES} pages as a job, a tiny vision-language model", together, "1/s"),
        report.plain("job against requests, a tiny vision-language model", together / single, "×"),
    )


async def _growth(rows: list[report.Row]) -> None:
    peaks: list[Memory] = []
    for pages in (SHORT, LONG):
        async with served([{"name": "fake", "engine": "fake"}]) as (http, pid), Memory(pid) as peak:
            speed = (await job(http, document(pages))).whole
        peaks.append(peak)
        rows += (
            report.plain(f"memory of the server, a job of {pages} pages", peak.server_bytes / MIB, "MiB"),
            report.plain(f"memory of all processes, a job of {pages} pages", peak.all_bytes / MIB, "MiB"),
        )
        if pages == LONG:
            rows.append(report.plain(f"{pages} pages that are only drawn", speed, "1/s"))
    short, long = peaks
    rows += (
        report.at_most(
            f"server, {LONG} pages against {SHORT}", long.server_bytes / short.server_bytes, "×", GROWTH
        ),
        report.at_most(f"all, {LONG} pages against {SHORT}", long.all_bytes / short.all_bytes, "×", GROWTH),
    )


async def _uploads(rows: list[report.Row]) -> None:
    async with served([{"name": "fake", "engine": "fake"}]) as (http, _):
        for what, size in UPLOADS.items():
            data = large_page(size)
            sent = report.median([await read(http, data) for _ in range(REPEATS)])
            copied = report.median([await asyncio.to_thread(_copied, data) for _ in range(REPEATS)])
            rows += (
                report.plain(f"upload of {what}, answered", sent * 1000, "ms"),
                report.plain(f"reading {what} into memory", copied * 1000, "ms"),
            )


def _copied(data: bytes) -> float:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        began = time.perf_counter()
        with PageFile.of(Path(file.name).read_bytes()):
            return time.perf_counter() - began


def _of_small(what: str, seconds: Sequence[float]) -> tuple[report.Row, report.Row]:
    return (
        report.plain(f"{what}, median", report.median(seconds) * 1000, "ms"),
        report.plain(f"{what}, p99", report.percentile(seconds, 0.99) * 1000, "ms"),
    )
