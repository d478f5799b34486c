"""Files of pages that were read, made by a process of their own; the server's side of it.

    with await exporting.made(order, results, [document]) as file: ...

Results are handed over as they are taken, one page at a time, so nothing grows with the number of pages but the file.
"""

import asyncio
import signal
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain
from typing import Final

import msgspec

from ocr_inference import errors
from ocr_inference.documents.exporter import Made, Order
from ocr_inference.documents.rendering import SaidTooMuch, plain_environment, said
from ocr_inference.errors import ApiError
from ocr_inference.protocol.page_file import PageFile

PROGRAM: Final = ("-I", "-W", "ignore", "-m", "ocr_inference.documents.exporter")
MAX_ANSWER_BYTES: Final = 1 << 16
SECONDS: Final = 120.0
"""How long nothing may go on; what it may take of a processor is bounded by the process itself."""


async def made(
    order: Order, results: Iterable[bytes], origins: Sequence[PageFile], program: Sequence[str] = PROGRAM
) -> PageFile:
    """Return the file that is ordered, which the caller closes; as `make`."""
    try:
        out = PageFile.create()
    except OSError as error:
        raise _no_process(error) from error
    try:
        await make(order, results, origins, out, program)
    except BaseException:
        out.close()
        raise
    return out


async def make(
    order: Order,
    results: Iterable[bytes],
    origins: Sequence[PageFile],
    out: PageFile,
    program: Sequence[str] = PROGRAM,
) -> None:
    """Write the file that is ordered to `out`; raises `ApiError`. `results` are pages as answers have them, JSON
    without line breaks; `origins` are the documents that they come from, which stay the caller's."""
    await _make(order, results, (out, *origins), program)


async def _make(
    order: Order, results: Iterable[bytes], files: Sequence[PageFile], program: Sequence[str]
) -> None:
    descriptors = tuple(file.fileno() for file in files)
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *program, *map(str, descriptors)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            pass_fds=descriptors,
            env=plain_environment(),
        )
    except OSError as error:
        raise _no_process(error) from error
    try:
        answer = await _talk(process, order, results)
    except TimeoutError:
        raise _failed(f"its process did nothing for {SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if answer.status:
        raise ApiError(answer.status, answer.code, answer.message)


async def _talk(process: asyncio.subprocess.Process, order: Order, results: Iterable[bytes]) -> Made:
    assert process.stdin is not None
    # A process that has ended takes nothing more; how it ended is known below.
    with suppress(BrokenPipeError, ConnectionResetError):
        for line in chain((msgspec.json.encode(order),), results):
            process.stdin.write(line)
            process.stdin.write(b"\n")
            async with asyncio.timeout(SECONDS):
                await process.stdin.drain()
        process.stdin.close()
    async with asyncio.timeout(SECONDS + 60):
        try:
            answer = await said(process, MAX_ANSWER_BYTES)
        except SaidTooMuch:
            raise _failed("its process sent what isn't understood") from None
        code = await process.wait()
    try:
        return msgspec.json.decode(answer, type=Made)
    except msgspec.DecodeError:
        if code == -signal.SIGXCPU:
            raise _failed("a page took more processor time than it may take") from None
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        raise _failed(f"its process {how}") from None


def _failed(why: str) -> ApiError:
    return ApiError(422, "export_failed", f"the file can't be made: {why}")


def _no_process(error: OSError) -> ApiError:
    message = f"no process to make the file can be started: {error.strerror}; try again later"
    return errors.of(errors.FAILURES["out_of_descriptors"], message)
