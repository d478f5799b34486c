"""Files that this process may open."""

import resource
from typing import Final

USEFUL_FILES: Final = 1 << 16
"""Open files that are asked for at most: some libraries go through all numbers up to the limit."""


def open_files() -> int:
    """Return how many files this process may open, after raising the soft limit as far as it is of use.

    containerd 2 and later leave pods the 1,024 of systemd, which are a default for programs that use `select`.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = USEFUL_FILES if hard == resource.RLIM_INFINITY else min(hard, USEFUL_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return USEFUL_FILES if soft == resource.RLIM_INFINITY else soft
