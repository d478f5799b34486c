"""Garbage collection in a process that stays: what lives as long as it does is not looked through again and again.

Python looks for cycles of objects that nothing refers to any more. All threads stand still meanwhile, an event loop,
too, and now and then it looks through every object of the process: modules, and what a program keeps.
"""

import contextlib
import gc
from collections.abc import Iterator
from typing import Final

YOUNG: Final = 10_000
"""So many more objects than the last time, and the young ones are looked through. Python's own are hundreds, which one
list of a cluster or one page has: they are still in use then, and soon count as old.
"""


def exempt() -> None:
    """Exempt all objects that are there from later collections. One that becomes part of a cycle stays for good, so
    this is for a start, and not for what comes and goes.
    """
    gc.collect()
    gc.freeze()


@contextlib.contextmanager
def seldom(young: int = YOUNG) -> Iterator[None]:
    """Exempt the objects that are there, and look for garbage among others only once there are so many `young` ones
    more, until the block ends.

    Afterwards all is as before: what is exempt when the process ends counts as leaked with libraries that look.
    """
    before = gc.get_threshold()
    exempt()
    gc.set_threshold(young, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def forget_frames(error: BaseException) -> None:
    """Take the traceback off an error, and off those that led to it, once all is said about it.

    A traceback holds the frames it came through, and these what was read so far. Where a library keeps the error with
    the connection, as aiohttp does, they hold each other, and megabytes of a broken answer wait for a collection.
    """
    each: BaseException | None = error
    seen: set[int] = set()  # a library may have made two errors each other's cause
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        each.__traceback__ = None
        each = each.__cause__ or each.__context__
