"""Decides whether a document has to be read, by what an earlier run noted of its result; pure."""

from enum import Enum, auto

from msgspec import Struct


class Record(Struct, frozen=True, kw_only=True):
    """Note of a result that was written. Fields of newer versions are ignored."""

    output: str
    """Path below the output folder."""
    source: str
    """Path of the document, from the output folder."""
    digest: str
    """SHA-256 of the document."""
    mark: str
    """What was requested of it, see `Asked.mark`."""
    complete: bool = True
    """Whether all of its pages were read."""
    begun: str = ""
    """SHA-256 of the result, in a note from before it was there; empty since."""


class Step(Enum):
    READ = auto()
    DONE = auto()
    """The result is there."""
    FOREIGN = auto()
    """A file of that name is there, and is another document's, or of another program."""


def step(record: Record | None, wanted: Record, *, is_there: bool, force: bool) -> Step:
    """Decide on a document whose result would be noted as `wanted`; `record` is the note of the file that has its
    name."""
    if force or not is_there:
        return Step.READ
    if record is None:
        return Step.FOREIGN
    if record.digest == wanted.digest:
        done = record.complete and record.mark == wanted.mark
        return Step.DONE if done else Step.READ
    # Two runs may read standard input, and mean two documents.
    same = record.source == wanted.source != "-"
    return Step.READ if same else Step.FOREIGN
