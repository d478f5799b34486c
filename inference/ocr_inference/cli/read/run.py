"""Reads all documents of a plan, several at a time, and hands their results on in order.

What is wrong with a document is an outcome; what concerns all of them ends the run.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from errno import EDQUOT, ENOSPC, EROFS
from typing import Final

import msgspec

from ocr_inference.cli import groups
from ocr_inference.cli.read import opening, resuming, summary
from ocr_inference.cli.read.asked import Asked
from ocr_inference.cli.read.outputs import Outputs
from ocr_inference.cli.read.planning import Document
from ocr_inference.cli.read.progress import Progress
from ocr_inference.cli.read.reading import Reading, Source
from ocr_inference.cli.read.resuming import Record, Step
from ocr_inference.cli.read.summary import Fate, Outcome
from ocr_inference.cli.read.terminal import Terminal
from ocr_inference.documents.formats.kinds import Format
from ocr_inference.errors import ApiError
from ocr_inference.protocol.page_file import PageFile

TICK_SECONDS: Final = 0.5
"""Between two drawings while nothing happens, such as a download."""
_NO_ROOM: Final = frozenset({ENOSPC, EDQUOT, EROFS})

Render = Callable[[Document, Reading, PageFile], Awaitable[bytes]]
Print = Callable[[bytes], None]


@dataclass
class Run:
    """Run over documents. `outcomes` and `progress` are written by its tasks only."""

    documents: Sequence[Document]
    source: Source
    asked: Asked
    render: Render
    terminal: Terminal
    output: Outputs | None = None
    """Folder of results; None where they are printed."""
    show: Print | None = None
    force: bool = False
    says_failures: bool = True
    """Whether each failure is said as it happens, and not at the end."""
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    _progress: Progress = field(default_factory=lambda: Progress(0))
    _waiting: dict[int, bytes] = field(default_factory=dict)
    """Results that are printed after those of documents before them."""
    _printed: int = 0
    _ends: bool = False

    def __post_init__(self) -> None:
        self._progress = Progress(len(self.documents))

    async def read(self, at_a_time: int) -> None:
        """Read all documents; cancelling it leaves no half file."""
        todo = iter(enumerate(self.documents))
        ticking = asyncio.create_task(self._tick())
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(min(at_a_time, len(self.documents))):
                    tasks.create_task(self._work(todo))
        except BaseExceptionGroup as group:
            raise groups.first(group) from None
        finally:
            ticking.cancel()
            self.terminal.clear()

    def ended(self) -> list[Outcome]:
        """Return the outcome of each document."""
        unread = (Outcome(each.shown, Fate.UNREAD) for each in self.documents)
        return [self.outcomes.get(number, each) for number, each in enumerate(unread)]

    async def _work(self, todo: Iterator[tuple[int, Document]]) -> None:
        for number, document in todo:
            if self._ends:
                return
            self._progress = self._progress.begun(number, document.shown, time.monotonic())
            content, outcome = await self._one(number, document)
            self.outcomes[number] = outcome
            if outcome.ends_run:
                self._ends = True
            pages = outcome.pages if outcome.fate in (Fate.READ, Fate.PARTLY) else None
            failed = outcome.fate in (Fate.FAILED, Fate.PARTLY)
            self._progress = self._progress.closed(number, pages, failed=failed)
            if failed and self.says_failures:
                self.terminal.say(f"ocr-inference: {summary.failure(outcome)}")
            self._print(number, content)
            self.terminal.draw(self._progress)

    async def _one(self, number: int, document: Document) -> tuple[bytes, Outcome]:
        """Return what is to be printed of a document, and its outcome."""
        try:
            with await opening.in_thread(document.path) as file:
                return await self._opened(number, document, file)
        except ApiError as error:
            return b"", summary.outcome(document.shown, Reading.failed(error))

    async def _opened(self, number: int, document: Document, file: PageFile) -> tuple[bytes, Outcome]:
        wanted, is_there = None, False
        if self.output is not None and document.output is not None:
            wanted = await self._noted(self.output, document, file)
            is_there = self.output.is_there(wanted.output)
            record = self.output.record(wanted.output)
            match resuming.step(record, wanted, is_there=is_there, force=self.force):
                case Step.DONE:
                    return b"", Outcome(document.shown, Fate.DONE)
                case Step.FOREIGN:
                    there = self.output.folder / wanted.output
                    way_out = "--force overwrites it, or choose another --output"
                    raise ApiError(409, "output_exists", f"{there} is there, and isn't its result: {way_out}")
                case Step.READ:
                    pass
        read = await self.source.read(file, document.shown, lambda *pages: self._report(number, *pages))
        outcome = summary.outcome(document.shown, read)
        if outcome.fate is Fate.FAILED and self.asked.format is not Format.JSON:
            return b"", outcome
        content = await self.render(document, read, file)
        if self.output is None or wanted is None:
            return content, outcome
        if outcome.fate is not Fate.FAILED:
            outcome = self._written(self.output, wanted, content, outcome, may_replace=is_there or self.force)
        return b"", outcome

    async def _noted(self, output: Outputs, document: Document, file: PageFile) -> Record:
        return Record(
            output=document.output or "",
            source=output.source(document.path),
            digest=await asyncio.to_thread(opening.digest, file),
            mark=self.asked.mark(),
        )

    def _written(
        self, output: Outputs, wanted: Record, content: bytes, outcome: Outcome, *, may_replace: bool
    ) -> Outcome:
        record = msgspec.structs.replace(wanted, complete=outcome.fate is Fate.READ)
        try:
            # Not in a thread: one that is left behind would write after the program said that it stopped.
            output.write(record, content, may_replace=may_replace)
        except OSError as error:
            # Another run may have read the same meanwhile.
            there = output.record(wanted.output) if isinstance(error, FileExistsError) else None
            if resuming.step(there, wanted, is_there=True, force=False) is Step.DONE:
                return Outcome(outcome.shown, Fate.DONE)
            reason = f"{output.folder / wanted.output} can't be written: {error.strerror}"
            ends_run = error.errno in _NO_ROOM
            return Outcome(outcome.shown, Fate.FAILED, 0, reason, "not_written", ends_run)
        return outcome

    def _report(self, number: int, done: int, total: int | None) -> None:
        self._progress = self._progress.page(number, done, total, time.monotonic())
        self.terminal.draw(self._progress)

    def _print(self, number: int, content: bytes) -> None:
        if self.show is None:
            return
        self._waiting[number] = content
        while self._printed in self._waiting:
            if content := self._waiting.pop(self._printed):
                self.terminal.clear()
                self.show(content)
            self._printed += 1

    def flush(self) -> None:
        """Print what waits for documents that weren't read."""
        for number in sorted(self._waiting):
            if self.show is not None and (content := self._waiting.pop(number)):
                self.show(content)

    async def _tick(self) -> None:
        while True:
            from_source = self.source.activity()
            self._progress = self._progress.with_activity(from_source)
            self.terminal.draw(self._progress)
            await asyncio.sleep(TICK_SECONDS)
