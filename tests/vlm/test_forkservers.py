"""What a forkserver of `transformers` has imported, and what a fork of it needn't."""

import os
from pathlib import Path

import pytest

from ocr_inference.workers.forkservers import Forkservers
from tests.support import forkserver
from tests.support.engines import eventually

pytest.importorskip("transformers")

from tests.support import checkpoints


async def test_imports_leave_no_threads_and_no_device() -> None:
    await forkserver.check_one_thread("transformers")


def test_a_first_page_imports_nothing_that_a_forkserver_could_have(tmp_path: Path) -> None:
    assert forkserver.imported_late("transformers", checkpoints.make_deepseek_ocr(tmp_path / "model")) == []


async def test_what_imports_only_ran_through_is_given_back() -> None:
    """Without it a forkserver has 300 MiB of libraries mapped that it never uses again."""
    async with Forkservers(os.environ) as forkservers:
        forkservers.prepare("transformers")
        await eventually(lambda: "transformers" in forkservers.pids())
        pid = forkservers.pids()["transformers"]
        lines = forkserver.proc(pid, "status").splitlines()
        (mapped,) = [int(line.split()[1]) for line in lines if line.startswith("RssFile:")]
        assert mapped < 100 << 10
