"""Waiting for what somebody else does, from code that isn't asynchronous."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(look: Callable[[], T | None], seconds: float = 60, what: str = "") -> T:
    """The first true answer of `look`. A look that takes time, such as a kubectl, is asked half of the time at most."""
    deadline = time.monotonic() + seconds
    began = time.monotonic()
    while not (answer := look()):
        now = time.monotonic()
        assert now < deadline, f"not within {seconds} s: {what or look}"
        time.sleep(max(0.05, now - began))
        began = time.monotonic()
    return answer
