"""What a forkserver of `transformers` has imported, and what a fork of it needn't."""

from pathlib import Path

import pytest

from tests.support import forkserver

pytest.importorskip("transformers")

from tests.support import checkpoints


async def test_imports_leave_no_threads_and_no_device() -> None:
    await forkserver.check_one_thread("transformers")


def test_a_first_page_imports_nothing_that_a_forkserver_could_have(tmp_path: Path) -> None:
    assert forkserver.imported_late("transformers", checkpoints.make_deepseek_ocr(tmp_path / "model")) == []
