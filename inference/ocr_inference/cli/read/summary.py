"""What became of a run: its exit code, and the lines at its end; pure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from ocr_inference.cli import exits
from ocr_inference.cli.read import planning, progress
from ocr_inference.cli.read.reading import Reading

USAGE_CODES: Final = frozenset(
    {
        "missing_token",
        "missing_value",
        "model_not_found",
        "unknown_task",
        "unsupported_task",
        "wrong_token",
    }
)
"""Codes of refusals that say that the command line is wrong, or a key."""


class Fate(Enum):
    READ = auto()
    PARTLY = auto()
    FAILED = auto()
    DONE = auto()
    """It was read before."""
    UNREAD = auto()
    """The run ended before its turn."""


@dataclass(frozen=True)
class Outcome:
    shown: str
    fate: Fate
    pages: int = 0
    """Pages that were read."""
    reason: str = ""
    """Why pages are missing."""
    code: str = ""
    ends_run: bool = False


def outcome(shown: str, reading: Reading) -> Outcome:
    """Return what became of a document that was read, or should have been."""
    reasons = [error.words for error in reading.errors]
    more = f" (and {len(reasons) - 3} more)" if len(reasons) > 3 else ""
    reason = "; ".join(reasons[:3]) + more
    fate = Fate.FAILED if not reading.pages else Fate.PARTLY if reading.errors else Fate.READ
    code = reading.errors[0].code if reading.errors else ""
    return Outcome(shown, fate, len(reading.pages), reason, code, reading.ends_run)


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """Return 0 where all documents are read, 3 where some pages of some are, 1 where none is; 2 where none can be
    before the command line is another."""
    fates = {each.fate for each in outcomes}
    if fates and fates <= {Fate.READ, Fate.DONE}:
        return exits.OK
    if fates & {Fate.READ, Fate.DONE, Fate.PARTLY}:
        return exits.PARTLY
    if any(each.ends_run and each.code in USAGE_CODES for each in outcomes):
        return exits.USAGE
    return exits.FAILED


def failure(each: Outcome) -> str:
    """Return the line about a document that isn't read, or not all of it."""
    return f"{progress.safe(each.shown)}: {each.reason}"


def closing(
    outcomes: Sequence[Outcome], skipped: Mapping[str, int], seconds: float, *, stopped: str = ""
) -> list[str]:
    """Return the lines at the end of a run of several documents; `stopped` is what ended it early."""
    return [*_counts(outcomes, seconds, stopped), *_skipped(skipped), *_failures(outcomes)]


def _counts(outcomes: Sequence[Outcome], seconds: float, stopped: str) -> Iterator[str]:
    count = Counter(each.fate for each in outcomes)
    read = count[Fate.READ] + count[Fate.PARTLY]
    sheets = progress.pages(sum(each.pages for each in outcomes))
    parts = [f"read {progress.documents(read)} ({sheets}) in {progress.duration(seconds)}"]
    if count[Fate.PARTLY]:
        parts.append(f"{count[Fate.PARTLY]} of them not whole")
    if count[Fate.DONE]:
        parts.append(f"{count[Fate.DONE]} done before (--force reads them again)")
    if count[Fate.FAILED]:
        parts.append(f"{count[Fate.FAILED]} failed")
    if count[Fate.UNREAD]:
        parts.append(f"{count[Fate.UNREAD]} not begun")
    yield (f"{stopped}: " if stopped else "") + ", ".join(parts)


def _skipped(skipped: Mapping[str, int]) -> Iterator[str]:
    if total := sum(skipped.values()):
        files = "file that is no document" if total == 1 else "files that are no documents"
        yield f"skipped {total} {files}: {progress.safe(planning.counted(skipped))}"


def _failures(outcomes: Sequence[Outcome]) -> Iterator[str]:
    for title, fate in (("failed", Fate.FAILED), ("not whole", Fate.PARTLY)):
        if found := [each for each in outcomes if each.fate is fate]:
            yield f"{title}:"
            yield from (f"  {failure(each)}" for each in found)
