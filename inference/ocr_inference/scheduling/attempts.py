"""Decides what follows from an attempt to read a page that failed while its worker lives: `next_step(…)`.

Where an engine fails for several pages together, any of them may be the cause. So each is read again alone, as after
the death of a worker (`suspects`): the others get their text, and the cause gets its error.
"""

from enum import StrEnum

from ocr_inference.protocol.engine import Failure, FailureKind


class Next(StrEnum):
    FAIL = "fail"
    """The page has failed, with this failure."""
    ALONE = "alone"
    """It is read again, with no other page in its worker."""
    CLIMB = "climb"
    """It is read again in another way (`memory_ladder`)."""


class Verdict(StrEnum):
    OPEN = "open"
    """Nothing is known that wasn't known before."""
    ACQUITTED = "acquitted"
    """It is suspected of nothing."""
    CAUSE = "cause"
    """Pages that are read with it fail: it is read alone for some time, from any client."""


def next_step(failure: Failure, *, alone: bool) -> Next:
    """Return what follows for a page that was read `alone`, or wasn't.

    Each page is read again alone once at most: one that was alone is never one of several.
    """
    if failure.kind is FailureKind.OUT_OF_MEMORY:
        return Next.CLIMB
    return Next.ALONE if failure.shared and not alone else Next.FAIL


def verdict(failure: Failure, *, suspected: bool) -> Verdict:
    """Return what a failure says about its page; `suspected`: it had failed together with others before.

    A worker was done with the page, so it kills none. One that never came to its worker is suspected still of what it
    was, and one of several that failed together, too.
    """
    if failure.shared or failure.kind is FailureKind.OUT_OF_DESCRIPTORS:
        return Verdict.OPEN
    return Verdict.CAUSE if suspected and failure.kind is FailureKind.FAILED else Verdict.ACQUITTED
