"""What a job is about, and what is kept of it beside its row in the table."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from ocr_inference.documents.page import Limits as DocumentLimits
from ocr_inference.documents.page import PageImage
from ocr_inference.errors import ApiError
from ocr_inference.jobs.job import Job
from ocr_inference.jobs.table import BeginPage
from ocr_inference.protocol.latest import Latest
from ocr_inference.protocol.page_file import PageFile


@dataclass(frozen=True)
class Work:
    """Document of a job, and how its pages are read. Results are bytes that only the caller understands."""

    model: str
    file: PageFile
    """The document; the job closes it."""
    limits: DocumentLimits
    indices: tuple[int, ...]
    """Pages that are requested, from 0, in their order."""
    dpi: float
    read: Callable[[PageImage], Awaitable[bytes]]
    """Returns a page's result; raises `ApiError`."""
    refused: Callable[[int, ApiError], bytes]
    """Returns the result of a page, by its index, that couldn't be read."""
    name: str = ""
    """Of the document, as its client named it."""
    owner: str = ""
    """By which its client is known again; empty where it isn't."""


@dataclass(frozen=True)
class View:
    """Job as clients see it."""

    job: Job
    queued_ahead: int | None
    name: str = ""
    """Of its document, as its client named it."""


@dataclass
class Record:
    """Parts of a job beside its row in the table."""

    latest: Latest[View]
    results: list[bytes | None]
    """By position; None where a page hasn't ended."""
    work: Work | None
    """None once it has ended."""
    document: PageFile | None
    """None once it was dropped."""
    indices: tuple[int, ...]
    """Of its pages, in its document."""
    name: str
    owner: str
    turn: asyncio.Queue[BeginPage] | None = None
    """Of the turn that takes further pages; None between turns."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


def _ignore(_: str) -> None:
    pass


@dataclass(frozen=True)
class Counts:
    """Counters of jobs, called with a label."""

    page: Callable[[str], None] = _ignore
    """With `read` or `failed`."""
    end: Callable[[str], None] = _ignore
    """With the state in which a job ends."""
