"""Carries out `ocr-inference read`: finds documents, chooses what reads them, prints or writes, says how it went."""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from yarl import URL

from ocr_inference.cli import exits, stopping
from ocr_inference.cli.read import finding, local, planning, remote, rendering, summary
from ocr_inference.cli.read.asked import Asked
from ocr_inference.cli.read.outputs import Outputs
from ocr_inference.cli.read.planning import STDIN, Collision, Document, Inventory
from ocr_inference.cli.read.reading import Reading, Source
from ocr_inference.cli.read.run import Run
from ocr_inference.cli.read.summary import Fate, Outcome
from ocr_inference.cli.read.terminal import Terminal
from ocr_inference.config.settings import Config, Limits, Settings
from ocr_inference.documents.formats.kinds import SUFFIXES
from ocr_inference.errors import ApiError
from ocr_inference.protocol.page_file import PageFile


@dataclass(frozen=True)
class Options:
    """Command line of `read`."""

    words: Sequence[str]
    """Files, folders, patterns, `-`."""
    asked: Asked
    output: Path | None = None
    force: bool = False
    at_a_time: int = 2
    max_pixels: int = Limits().max_image_pixels
    """Of a page in a file that is made of them."""
    quiet: bool = False
    verbose: bool = False


async def run(
    options: Options,
    source: Callable[[Terminal], AbstractAsyncContextManager[Source]],
    *,
    environ: Mapping[str, str],
    out: BinaryIO,
    redactor: Callable[[str], str],
) -> int:
    """Read all documents; returns the exit code. `source` makes what reads them. Raises `ApiError` and `OSError` where
    the command line can't be carried out."""
    began = time.monotonic()
    terminal = Terminal(
        sys.stderr, environ, time.monotonic, quiet=options.quiet, verbose=options.verbose, redactor=redactor
    )
    found, documents, outputs = await asyncio.to_thread(_plan, options)
    problems = [Outcome(shown, Fate.FAILED, reason=reason) for shown, reason in found.problems]
    if options.quiet or not documents:
        for each in problems:
            terminal.say(f"ocr-inference: {summary.failure(each)}")
    if not documents:
        _say_none(terminal, options, found)
        return exits.FAILED
    is_one = len(options.words) == 1 and documents[0].shown in (options.words[0], "standard input")
    stopped, outcomes = None, [*problems]
    async with stopping.by_signals() as stop:
        try:
            async with source(terminal) as reader:
                work = Run(
                    documents,
                    reader,
                    options.asked,
                    _renders(options.asked, options.max_pixels, is_alone=is_one or outputs is not None),
                    terminal,
                    outputs,
                    None if outputs is not None else _prints(out),
                    options.force,
                    says_failures=options.quiet or _is_short(documents, found),
                )
                try:
                    await work.read(options.at_a_time)
                finally:
                    outcomes = [*problems, *work.ended()]
                    work.flush()
        except asyncio.CancelledError:
            if not stop:
                raise
            stopped = stop[0]
    _say_end(
        terminal, outcomes, found, time.monotonic() - began, stopping.WORDS[stopped] if stopped else None
    )
    return summary.exit_code(outcomes) if stopped is None else stopping.CODES[stopped]


def _plan(options: Options) -> tuple[Inventory, Sequence[Document], Outputs | None]:
    if STDIN in options.words and sys.stdin is not None and sys.stdin.isatty():
        raise ApiError(
            422, "is_terminal", "- is standard input, and that is a terminal: pipe a document into it"
        )
    try:
        outputs = None if options.output is None else Outputs(options.output)
    except OSError as error:
        raise ApiError(422, "no_folder", f"--output {options.output}: {error.strerror}") from error
    leave_out = frozenset() if outputs is None else outputs.paths() | _inner(outputs.folder, options.words)
    format_ = options.asked.format
    try:
        found = finding.find(options.words, leave_out)
        documents = planning.documents(found.found, None if outputs is None else f".{SUFFIXES[format_]}")
    except (Collision, finding.TooMany) as error:
        raise ApiError(422, "too_many", str(error)) from error
    if outputs is None and format_ in rendering.BINARY:
        _refuse_binary(options, len(documents))
    return found, documents, outputs


def _inner(folder: Path, words: Sequence[str]) -> frozenset[str]:
    """Return the output folder where it is inside of a folder that is read; results right beside documents are left
    out one by one."""
    return (
        frozenset() if str(folder) in {os.path.abspath(word) for word in words} else frozenset({str(folder)})
    )


def _refuse_binary(options: Options, documents: int) -> None:
    if documents > 1:
        message = f"--format {options.asked.format} of several documents needs --output DIR"
        raise ApiError(422, "missing_value", message)
    if sys.stdout.isatty():
        message = f"--format {options.asked.format} isn't for terminals: use --output DIR, or > FILE"
        raise ApiError(422, "is_terminal", message)


def _renders(
    asked: Asked, max_pixels: int, *, is_alone: bool
) -> Callable[[Document, Reading, PageFile], Awaitable[bytes]]:
    async def render(document: Document, reading: Reading, file: PageFile) -> bytes:
        return await rendering.render(
            asked.format, document.shown, reading, file, max_pixels, is_alone=is_alone
        )

    return render


def _prints(out: BinaryIO) -> Callable[[bytes], None]:
    to_terminal = out.isatty()

    def show(content: bytes) -> None:
        out.write(rendering.printable(content) if to_terminal else content)
        out.flush()

    return show


def _say_none(terminal: Terminal, options: Options, found: Inventory) -> None:
    if not found.problems:
        where = ", ".join(options.words)
        skipped = planning.counted(found.skipped)
        terminal.say(f"ocr-inference: no document in {where}" + (f" (only {skipped})" if skipped else ""))


def _is_short(documents: Sequence[Document], found: Inventory) -> bool:
    """Return whether a run needs no closing lines."""
    return len(documents) == 1 and not found.problems and not found.skipped


def _say_end(
    terminal: Terminal, outcomes: Sequence[Outcome], found: Inventory, seconds: float, stopped: str | None
) -> None:
    if stopped is None and len(outcomes) == 1 and not found.skipped and not found.problems:
        if outcomes[0].fate is Fate.DONE:
            terminal.note(f"{outcomes[0].shown}: done before (--force reads it again)")
        return
    for line in summary.closing(outcomes, found.skipped, seconds, stopped=stopped or ""):
        terminal.note(line)


def remote_source(
    server: URL, key: str, asked: Asked, environ: Mapping[str, str]
) -> Callable[[Terminal], AbstractAsyncContextManager[Source]]:
    return lambda terminal: remote.reading(server, key, asked, environ=environ, detail=terminal.detail)


def local_source(
    settings: Settings, config: Config, asked: Asked, environ: Mapping[str, str]
) -> Callable[[Terminal], AbstractAsyncContextManager[Source]]:
    return lambda terminal: local.reading(settings, config, asked, environ=environ, detail=terminal.detail)
