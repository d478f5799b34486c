"""Does any damaged document crash or stop the process that draws it, and does the server outlive that?

Mutated PDFs, and pictures of several frames, go through what a rendering process does, many in one process, as
`bench.fuzz` does with pictures. What ends that process, or takes too long, is read again as the server reads it: by
rendering processes of its own, from which an error of the page has to come.
"""

import mmap
import os
import sys
import time
from contextlib import aclosing, closing
from functools import partial
from typing import Final

from bench import fuzz, report
from ocr_inference.documents import document, kinds, renderer
from ocr_inference.documents.page import Limits, PageFault, PageImage
from ocr_inference.errors import ApiError
from ocr_inference.protocol.page_file import PageFile
from tests.support import document_mutations

COUNT: Final = int(os.environ.get("BENCH_FUZZ_COUNT", "100000"))
SECONDS: Final = float(os.environ.get("BENCH_FUZZ_SECONDS", "inf"))
SEED: Final = int(os.environ.get("BENCH_FUZZ_SEED", "1"))
PIXELS: Final = 1_000_000
DPI: Final = 72
MAX_PAGES: Final = 4
EACH: Final = 1000
"""Documents of a process, so that what they leave in its memory doesn't add up."""
HANG_SECONDS: Final = float(renderer.PAGE_CPU_SECONDS)


def read_all(seed: int, begin: int, end: int, at: mmap.mmap) -> fuzz.Read:
    """Read these documents in this process."""
    return fuzz.each(partial(_read, seed), begin, end, at)


def _read(seed: int, number: int) -> str:
    kind, data = document_mutations.mutated(seed, number)
    with PageFile.of(data) as file:
        return _read_file(kind, file)


def _read_file(kind: str, file: PageFile) -> str:
    outcome = "no pages"
    try:
        opened = renderer.opened(kind, file.fileno(), PIXELS)
    except ApiError as error:
        return f"{_family(kind)}: refused, {error.code}"
    except MemoryError:
        return f"{_family(kind)}: refused, out_of_memory"
    with closing(opened):
        for index in range(min(opened.count, MAX_PAGES)):
            try:
                _, drawn = opened.render(index, DPI)
            except (ApiError, MemoryError) as error:
                outcome = error.code if isinstance(error, ApiError) else "out_of_memory"
            else:
                outcome = "read"
                os.close(drawn)
    return f"{_family(kind)}: {outcome}"


def _family(kind: str) -> str:
    return kind if kind == kinds.PDF else "frames"


async def outlived(seed: int, number: int) -> bool:
    """Whether the server gets an answer for each page of a document that ended its process."""
    _, data = document_mutations.mutated(seed, number)
    with PageFile.of(data) as file:
        try:
            async with (
                document.opened(file, Limits(10_000, PIXELS)) as opened,
                aclosing(opened.pages(dpi=DPI)) as pages,
            ):
                read = 0
                async for page in pages:
                    read += isinstance(page, PageImage | PageFault)
                    if isinstance(page, PageImage):
                        page.file.close()
                return read == opened.count
        except ApiError:
            return True


async def measure() -> report.Result:
    began = time.perf_counter()
    program = ("-m", "bench.fuzzdocuments")
    tally = await fuzz.fuzz(
        SEED, COUNT, each=EACH, hang_seconds=HANG_SECONDS, program=program, seconds=SECONDS
    )
    taken = time.perf_counter() - began
    ended = [int(crash.split(":")[0]) for crash in tally.crashes] + tally.hangs
    lost = [number for number in ended if not await outlived(SEED, number)]
    for finding in (*tally.crashes, *(f"{number}: hangs" for number in tally.hangs), *tally.unexpected):
        print(f"  finding: seed {SEED}, document {finding}")
    slowest = sorted(tally.seconds, reverse=True)
    # A process that ends takes its tally with it: what it had read by then isn't among the outcomes.
    rows = [
        report.plain("documents", tally.count, ""),
        *(report.plain(f"  {outcome}", number, "") for outcome, number in sorted(tally.outcomes.items())),
        report.plain(
            "  not told apart, read before one that ended its process",
            tally.count - tally.outcomes.total(),
            "",
        ),
        report.at_most("documents that crash the process that draws them", len(tally.crashes), "", 0),
        report.at_most(f"documents that take longer than {HANG_SECONDS:g} s", len(tally.hangs), "", 0),
        report.at_most("of both, those that the server gets no error for", len(lost), "", 0),
        report.at_most("exceptions that aren't an answer", len(tally.unexpected), "", 0),
        report.at_most("processor time of the slowest document", slowest[0][0], "s", HANG_SECONDS),
        report.plain("documents a second, making them included", tally.count / taken, ""),
    ]
    return report.Result(
        "fuzzdocuments",
        method=(
            f"Seed {SEED}. Two of three are PDFs (form fields, annotations, layers, pictures in five filters, an "
            "embedded font, shadings, patterns, object streams, a page that isn't there), the others pictures of "
            f"{', '.join(document_mutations.FRAMES)}; each damaged 1 to 20 times, as in `fuzz`, and PDFs by words and "
            "numbers in other places, too. Each is opened and up to "
            f"{MAX_PAGES} pages are drawn at {DPI} dpi with a limit of {PIXELS} pixels, by `renderer.opened`, in "
            f"processes of {EACH}. What ends a process is read again by `documents.document`. "
            "`tests.support.document_mutations.mutated(seed, number)` makes it again."
        ),
        rows=rows,
        samples={"processor time of the slowest documents, s": [taken for taken, _ in slowest[:50]]},
    )


if __name__ == "__main__":
    fuzz.main(sys.argv[1:], read_all)
