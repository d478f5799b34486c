"""A control group for a test, where the system lets one be made."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocr_inference import limits
from tests.support.patience import PATIENCE


@contextlib.contextmanager
def memory(limit_bytes: int) -> Iterator[Path]:
    """Yield the folder of a new group below this process's own, with a limit on memory; skips where none can be made.

    A process enters by writing its number to `cgroup.procs` there. All have to have ended when the block ends.
    """
    above = limits.groups("memory")
    if not above:
        pytest.skip("no control group for memory here")
    group = above[-1] / f"ocr-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made: {error.strerror}")
    try:
        names = [name for name in ("memory.max", "memory.limit_in_bytes") if (group / name).exists()]
        if not names:
            pytest.skip("the control group has no controller for memory")
        (group / names[0]).write_text(str(limit_bytes))
        yield group
    finally:
        _remove(group)


def _remove(group: Path) -> None:
    """Remove it when all of its processes have ended: they end with the one that the test waited for."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return group.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
