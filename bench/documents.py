"""What does a long document cost against a short one: memory of all that reads it, and the time to draw a page?

`ocr-inference read` reads 4 and 400 small pages of the same kind: text, scans (each page a JPEG of its own)
and fax (TIFF). The most memory of the processes that take part is added up: of the reader and what draws, and of the
model's.
"""

import asyncio
import contextlib
import io
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pypdfium2
from PIL import Image, ImageDraw

from bench import report
from ocr_inference.documents import document, page
from ocr_inference.protocol.page_file import PageFile
from tests.support.pdfs import PdfPage, pdf, written

SHORT, LONG = 4, 400
SIZE: Final = (298, 420)
"""A6 in points."""
DPI: Final = 72
POLL_SECONDS: Final = 0.05
DRAWN_PAGES: Final = 100
LIMITS: Final = page.Limits(max_pages=1000, max_pixels=100_000_000)


def text(pages: int, lines: int = 3, size: tuple[int, int] = SIZE) -> bytes:
    """Return a PDF of text."""
    return pdf(
        [
            PdfPage(
                f"Page {page}",
                size=size,
                content=" ".join(
                    f"BT /F 12 Tf 30 {size[1] - 90 - 14 * line} Td (Line {line} of page {page}, not a long one) Tj ET"
                    for line in range(lines)
                ),
            )
            for page in range(pages)
        ]
    )


def scans(pages: int) -> bytes:
    """Return a PDF whose pages are pictures of 200 KB each."""
    width, height = SIZE
    objects = {1: "<< /Type /Catalog /Pages 2 0 R >>"}
    for index in range(pages):
        number = 10 + 3 * index
        jpeg = io.BytesIO()
        _drawn(index, 4).save(jpeg, "JPEG", quality=90)
        data = jpeg.getvalue()
        objects[number] = (
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width} {height}] /Contents {number + 1} 0 R "
            f"/Resources << /XObject << /I {number + 2} 0 R >> >> >>"
        )
        content = f"q {width} 0 0 {height} 0 0 cm /I Do Q"
        objects[number + 1] = f"<< /Length {len(content)} >>\nstream\n{content}\nendstream"
        objects[number + 2] = (
            f"<< /Type /XObject /Subtype /Image /Width {width * 4} /Height {height * 4} /ColorSpace /DeviceGray "
            f"/BitsPerComponent 8 /Filter /DCTDecode /Length {len(data)} >>\nstream\n"
            f"{data.decode('latin-1')}\nendstream"
        )
    kids = " ".join(f"{10 + 3 * page} 0 R" for page in range(pages))
    objects[2] = f"<< /Type /Pages /Kids [{kids}] /Count {pages} >>"
    return written(objects)


def fax(pages: int) -> bytes:
    """Return a TIFF in Group 4."""
    out = io.BytesIO()
    first, *rest = [_drawn(page, 1).convert("1") for page in range(pages)]
    first.save(out, "TIFF", save_all=True, append_images=rest, compression="group4")
    return out.getvalue()


def _drawn(page: int, scale: int) -> Image.Image:
    size = (SIZE[0] * scale, SIZE[1] * scale)
    noise = Image.frombytes("L", SIZE, random.Random(page).randbytes(SIZE[0] * SIZE[1])).resize(size)
    image = Image.blend(noise, Image.new("L", size, 255), 0.9 if scale > 1 else 1.0)
    ImageDraw.Draw(image).text((30 * scale, 40 * scale), f"Page {page}", fill=0, font_size=20 * scale)
    return image


KINDS: Final[dict[str, Callable[[int], bytes]]] = {"text": text, "scans": scans, "fax": fax}


@dataclass
class Peaks:
    """Most memory of each process that was seen."""

    readers: dict[int, int] = field(default_factory=dict)
    """Bytes of the process that reads, and of those that draw, by their numbers."""
    workers: dict[int, int] = field(default_factory=dict)
    """Bytes of the model's processes."""

    def look(self, root: int) -> None:
        """Look at a process and at all below it."""
        with contextlib.suppress(OSError, KeyError, ValueError):
            status = Path(f"/proc/{root}/status").read_text()
            fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
            is_worker = b"ocr_inference.workers" in Path(f"/proc/{root}/cmdline").read_bytes()
            (self.workers if is_worker else self.readers)[root] = int(fields["VmHWM"].split()[0]) * 1024
            for child in Path(f"/proc/{root}/task/{root}/children").read_text().split():
                self.look(int(child))


async def read(data: bytes, folder: Path) -> tuple[Peaks, float]:
    """Read the document by `ocr-inference read`; return the most memory and the seconds."""
    file, config = folder / "document", folder / "config.yaml"
    file.write_bytes(data)
    config.write_text("server: {limits: {maxPdfPages: 5000}}\nmodels: [{name: fake, engine: fake}]\n")
    command = ("-m", "ocr_inference", "read", str(file), "--config", str(config), "--dpi", str(DPI))
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *command), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    peaks, ended = Peaks(), asyncio.create_task(process.wait())
    while not ended.done():
        peaks.look(process.pid)
        await asyncio.wait([ended], timeout=POLL_SECONDS)
    if process.returncode != 0:
        raise RuntimeError(f"reading failed with exit code {process.returncode}")
    return peaks, time.perf_counter() - began


async def drawn(data: bytes) -> float:
    """Draw all pages of a PDF as the server does; return the seconds."""
    with PageFile.of(data) as file:
        began = time.perf_counter()
        async with document.opened(file, LIMITS) as opened, aclosing(opened.pages()) as pages:
            async for each in pages:
                assert isinstance(each, page.PageImage)
                each.file.close()
        return time.perf_counter() - began


def drawn_here(data: bytes) -> float:
    """Draw all pages by PDFium in this process and pack them as PNG, which a page could be sent as; return the
    seconds."""
    began = time.perf_counter()
    with pypdfium2.PdfDocument(data) as opened:
        for each in opened:
            each.render(scale=page.DPI / 72).to_pil().save(io.BytesIO(), "PNG", compress_level=1)
    return time.perf_counter() - began


async def measure() -> report.Result:
    rows: list[report.Row] = []
    samples: dict[str, Sequence[float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for kind, make in KINDS.items():
            short, _ = await read(make(SHORT), Path(temporary))
            long, taken = await read(make(LONG), Path(temporary))
            readers = [sum(peaks.readers.values()) / 2**20 for peaks in (short, long)]
            workers = [sum(peaks.workers.values()) / 2**20 for peaks in (short, long)]
            samples[f"{kind}: most memory of what reads and draws, MiB"] = readers
            samples[f"{kind}: most memory of the model's processes, MiB"] = workers
            rows += [
                report.plain(f"{kind}: most memory of what reads and draws {SHORT} pages", readers[0], "MiB"),
                report.at_most(f"{kind}: of {LONG} pages, of that", readers[1] / readers[0], "×", 1.2),
                report.plain(f"{kind}: of the model's processes, {SHORT} pages", workers[0], "MiB"),
                report.plain(f"{kind}: of the model's processes, {LONG} pages", workers[1], "MiB"),
                report.plain(f"{kind}: pages a second", LONG / taken, ""),
            ]
    data = text(DRAWN_PAGES, lines=45, size=(595, 842))
    ours = [await drawn(data) for _ in range(3)]
    here = [drawn_here(data) for _ in range(3)]
    samples |= {"drawn by a process, s": ours, "drawn here and packed as PNG, s": here}
    rows += [
        report.plain(
            "A4 of text, drawn by a process of its own", 1000 * min(ours) / DRAWN_PAGES, "ms a page"
        ),
        report.plain(
            "the same in the same process, packed as PNG", 1000 * min(here) / DRAWN_PAGES, "ms a page"
        ),
    ]
    return report.Result(
        "documents",
        method=(
            f"`ocr-inference read` of {SHORT} and of {LONG} pages of A6 at {DPI} dpi. Memory: the "
            f"most that each process had resident (VmHWM, read every {POLL_SECONDS:g} s), added up, though not all had "
            "it at the same time. The engine is `fake`, which decodes each page and does no more: PP-OCR's memory "
            f"differs by 150 MiB between runs of one document. Drawing: {DRAWN_PAGES} pages at {page.DPI} dpi, the "
            "best of 3 runs, start of the process included."
        ),
        rows=rows,
        samples=samples,
    )
