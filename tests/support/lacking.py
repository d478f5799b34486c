"""Tests that need what a machine may lack: skipped with the reason, or failed where that would hide something."""

import os
import shutil
from collections.abc import Mapping
from typing import NoReturn

import pytest


def lacks(
    why: str, *, environment: Mapping[str, str] = os.environ, user: int | None = None, path: str | None = None
) -> NoReturn:
    """End a test because of what isn't here.

    It is skipped, but fails in CI (`CI=true`) where root and apt are: there `make` installs it, and a skip is no pass.
    """
    root = (os.geteuid() if user is None else user) == 0
    if environment.get("CI") == "true" and root and shutil.which("apt-get", path=path) is not None:
        pytest.fail(why, pytrace=False)
    pytest.skip(why)
