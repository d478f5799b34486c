"""Does any damaged picture crash, stop or fill a worker? Mutated pictures of every format through a worker's decoding.

A process reads them one after another, as a worker does, from files in memory. It writes down which one it reads, so
that a crash or a hang has a number, by which `tests.support.mutations` makes the same bytes again; then a new process
goes on behind it.
"""

import asyncio
import contextlib
import math
import mmap
import os
import resource
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import msgspec

from bench import report
from ocr_inference.engines import pictures
from ocr_inference.protocol.engine import EngineError
from ocr_inference.protocol.page import FORMATS
from ocr_inference.protocol.page_file import PageFile
from tests.support import mutations

COUNT: Final = int(os.environ.get("BENCH_FUZZ_COUNT", "100000"))
SEED: Final = int(os.environ.get("BENCH_FUZZ_SEED", "1"))
PIXELS: Final = 4_000_000
"""Limit of pixels for most pictures: what claims more is refused by its header."""
MANY_PIXELS: Final = 100_000_000
"""The server's own default, for every `SELDOM`th picture."""
SELDOM: Final = 4
HANG_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.2
BYTES_A_PIXEL: Final = 16
"""Of a decoded picture: as its file has it, with transparency on white, and as colours."""
SPARE_BYTES: Final = 64 << 20
_AT: Final = struct.Struct("<q")


@dataclass
class Tally:
    count: int = 0
    """Pictures that were read, those too whose process ended before it said what became of them."""
    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: list[tuple[float, int]] = field(default_factory=list)
    """Processor time of the slowest pictures, and of every hundredth, with their numbers."""
    crashes: list[str] = field(default_factory=list)
    hangs: list[int] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    """Pictures whose exception isn't `EngineError`."""
    grown_bytes: int = 0
    """Most memory that one process took beyond its begin."""

    def add(self, said: "Read") -> None:
        """Count what a process has read."""
        self.outcomes.update(said.outcomes)
        self.seconds += said.seconds
        self.unexpected += said.unexpected
        self.grown_bytes = max(self.grown_bytes, said.grown_bytes)


class Read(msgspec.Struct, frozen=True):
    """What a process says when it has read its pictures, or one of them raises what it mustn't."""

    outcomes: dict[str, int]
    seconds: list[tuple[float, int]]
    grown_bytes: int
    unexpected: list[str]


def limit_of(number: int) -> int:
    """Return the limit of pixels with which a picture is read."""
    return MANY_PIXELS if number % SELDOM == 0 else PIXELS


def read_all(seed: int, begin: int, end: int, at: mmap.mmap) -> Read:
    """Read these pictures in this process."""
    pictures.decode(pictures.blank(), PIXELS)
    return each(partial(_read, seed), begin, end, at)


def _read(seed: int, number: int) -> str:
    _, data = mutations.mutated(seed, number)
    try:
        with PageFile.of(data) as page, page.open() as opened:
            pictures.decode(opened, limit_of(number))
    except EngineError as error:
        return error.failure.kind.value
    return "read"


def each(read: Callable[[int], str], begin: int, end: int, at: mmap.mmap) -> Read:
    """Call `read`, which returns an outcome, with each number, and write down in `at` which one it is."""
    before = _peak_bytes()
    outcomes: Counter[str] = Counter()
    seconds: list[tuple[float, int]] = []
    unexpected: list[str] = []
    for number in range(begin, end):
        _AT.pack_into(at, 0, number)
        # Of the processor: beside other programs a picture takes what they leave.
        began = time.process_time()
        try:
            outcome = read(number)
        except Exception as error:  # noqa: BLE001 whatever it is, it is a finding
            outcome = "unexpected"
            unexpected.append(f"{number}: {type(error).__name__}: {error}")
        taken = time.process_time() - began
        outcomes[outcome] += 1
        if taken > 0.05 or number % 100 == 0:
            seconds.append((taken, number))
    return Read(dict(outcomes), seconds, _peak_bytes() - before, unexpected)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def fuzz(
    seed: int,
    count: int,
    *,
    each: int = 10_000,
    hang_seconds: float = HANG_SECONDS,
    program: Sequence[str] = ("-m", "bench.fuzz"),
    seconds: float = math.inf,
) -> Tally:
    """Read `count` mutated pictures by processes of `each` pictures, whatever becomes of those; begin with no other
    process after so many seconds."""
    tally, until = Tally(), time.monotonic() + seconds
    with tempfile.TemporaryFile() as file:
        file.truncate(_AT.size)
        with contextlib.closing(mmap.mmap(file.fileno(), _AT.size)) as at:
            run = _Run(seed, tuple(program), hang_seconds, file.fileno(), at, tally)
            while tally.count < count and time.monotonic() < until:
                tally.count = await run.read(tally.count, min(count, tally.count + each))
    return tally


@dataclass(frozen=True)
class _Run:
    """Processes that read pictures, one after another."""

    seed: int
    program: tuple[str, ...]
    hang_seconds: float
    descriptor: int
    at: mmap.mmap
    """The picture that is read at the moment, shared with the process, whose descriptor of it this is."""
    tally: Tally

    async def read(self, begin: int, end: int) -> int:
        """Read pictures in a process; return the first one that is left."""
        _AT.pack_into(self.at, 0, begin)
        arguments = (*self.program, *map(str, (self.seed, begin, end, self.descriptor)))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *arguments),
            stdout=asyncio.subprocess.PIPE,
            # Decoders write a line for each damaged line of a page.
            stderr=asyncio.subprocess.DEVNULL,
            pass_fds=(self.descriptor,),
        )
        talk = asyncio.create_task(process.communicate())
        last, since, hung = begin, time.monotonic(), False
        while not talk.done():
            await asyncio.wait([talk], timeout=POLL_SECONDS)
            if (number := _number(self.at)) != last:
                last, since = number, time.monotonic()
            elif time.monotonic() - since > self.hang_seconds and not talk.done():
                hung = True
                process.kill()
                await talk
        out, _ = await talk
        if process.returncode == 0:
            self.tally.add(msgspec.json.decode(out, type=Read))
            return end
        if hung:
            self.tally.hangs.append(_number(self.at))
        else:
            self.tally.crashes.append(f"{_number(self.at)}: exit code {process.returncode}")
        # What this process has read isn't counted, but was read.
        return _number(self.at) + 1


def _number(at: mmap.mmap) -> int:
    return int(_AT.unpack_from(at)[0])


async def measure() -> report.Result:
    began = time.perf_counter()
    tally = await fuzz(SEED, COUNT)
    taken = time.perf_counter() - began
    done = tally.outcomes.total()
    slowest = sorted(tally.seconds, reverse=True)
    for finding in (*tally.crashes, *(f"{number}: hangs" for number in tally.hangs), *tally.unexpected):
        print(f"  finding: seed {SEED}, picture {finding}")
    rows = [
        report.plain("pictures", done, ""),
        *(report.plain(f"  {outcome}", number, "") for outcome, number in sorted(tally.outcomes.items())),
        report.at_most("crashes", len(tally.crashes), "", 0),
        report.at_most(f"pictures that take longer than {HANG_SECONDS:g} s", len(tally.hangs), "", 0),
        report.at_most("exceptions that aren't an answer", len(tally.unexpected), "", 0),
        report.at_most("processor time of the slowest picture", slowest[0][0], "s", 5),
        report.at_most(
            "most memory of a process beyond its begin",
            tally.grown_bytes / 2**20,
            "MiB",
            (MANY_PIXELS * BYTES_A_PIXEL + SPARE_BYTES) / 2**20,
        ),
        report.plain("pictures a second, making them included", done / taken, ""),
    ]
    kinds = sum(len(mutations.pictures(name)) for name in FORMATS)
    return report.Result(
        "fuzz",
        method=(
            f"Seed {SEED}. Small pictures of {', '.join(FORMATS)} in {kinds} kinds, each damaged 1 to 8 "
            "times: bits, heads, sides, lengths and counts at which something overflows, cuts, repeated, moved and "
            "missing pieces, noise, markers, parts of other formats; checksums of a PNG's chunks are right in 4 of 5. "
            f"Each goes through `engines.pictures.decode` with a limit of {PIXELS} pixels, every {SELDOM}th with "
            f"{MANY_PIXELS}, in processes of 10,000. `tests.support.mutations.mutated(seed, number)` makes it again."
        ),
        rows=rows,
        samples={
            "processor time of the slowest pictures, s": [taken for taken, _ in slowest[:50]],
            "their numbers": [float(number) for _, number in slowest[:50]],
        },
    )


def main(arguments: Sequence[str], read: Callable[[int, int, int, mmap.mmap], Read] = read_all) -> None:
    """Read what the arguments say, in this process, and write down what became of it."""
    seed, begin, end, descriptor = (int(argument) for argument in arguments)
    with contextlib.closing(mmap.mmap(descriptor, _AT.size)) as at:
        said = read(seed, begin, end, at)
    sys.stdout.buffer.write(msgspec.json.encode(said))


if __name__ == "__main__":
    main(sys.argv[1:])
