"""What was read of a document: its pages, and what is wrong with those that are missing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import msgspec

from ocr_inference.api.schema import PageAnswer
from ocr_inference.errors import ApiError
from ocr_inference.protocol.page_file import PageFile
from ocr_wire.errors import ErrorInfo
from ocr_wire.redaction import redact

Report = Callable[[int, int | None], None]
"""Called with the number of pages that have ended, and of those that are requested, if that is known."""


class PageError(msgspec.Struct, frozen=True):
    """Page that couldn't be read."""

    index: int | None
    """From 0, in the document; None where nothing of it can be read."""
    code: str
    message: str

    @classmethod
    def of(cls, index: int | None, error: ErrorInfo) -> Self:
        return cls(index, error.code or "failed", redact(error.message))

    @property
    def words(self) -> str:
        """Error in a sentence that names the page."""
        number = "" if self.index is None else f"page {self.index + 1}"
        return (
            self.message
            if self.message.startswith(f"{number} ") or not number
            else f"{number}: {self.message}"
        )


@dataclass(frozen=True)
class Reading:
    found: tuple[PageAnswer, ...] = ()
    """Pages in their order, those that couldn't be read with their error; the last may stand for all that follow."""
    is_begun: bool = True
    """Whether it could be opened; if not, the only page stands for the document."""
    ends_run: bool = False
    """Whether what is wrong concerns all documents, so that no other one needs to be tried."""

    @property
    def pages(self) -> tuple[PageAnswer, ...]:
        """Pages that were read."""
        return tuple(page for page in self.found if page.error is None)

    @property
    def errors(self) -> tuple[PageError, ...]:
        return tuple(
            PageError.of(page.index if self.is_begun else None, page.error)
            for page in self.found
            if page.error is not None
        )

    @classmethod
    def of(
        cls, found: Sequence[PageAnswer], broken_off: ErrorInfo | None = None, *, ends_run: bool = False
    ) -> Self:
        """Make it of all pages that have ended, and of what broke it off."""
        ordered = sorted(found, key=lambda page: page.index)
        if broken_off is None:
            return cls(tuple(ordered), ends_run=ends_run)
        following = ordered[-1].index + 1 if ordered else 0
        return cls((*ordered, PageAnswer(index=following, error=broken_off)), bool(ordered), ends_run)

    @classmethod
    def failed(cls, error: ApiError, *, ends_run: bool = False) -> Self:
        """Make it of a document of which nothing could be read."""
        return cls.of((), error.info, ends_run=ends_run)


class Source(Protocol):
    """Reader of documents: with a model in this process, or a server."""

    async def read(self, file: PageFile, shown: str, report: Report) -> Reading:
        """Read the document; raises nothing that is known to go wrong."""

    def activity(self) -> str:
        """Return what takes time before pages are read, such as a model that is loaded; empty while nothing does."""
