"""A processor's first page, ahead of the first page."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, cast

import pytest

pytest.importorskip("torch", reason="needs the extra `transformers`")

from ocr_inference.engines.transformers.checkpoints import Opened
from ocr_inference.engines.transformers.loading import Weights
from ocr_inference.engines.transformers.rehearsal import Rehearsal
from ocr_inference.protocol.engine import InferRequest, ModelSpec
from ocr_inference.protocol.host_tier import HostTier
from tests.support import chatmodels

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


class Recorded(Rehearsal):
    """What becomes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def begin(self, opened: Opened, *, beside: bool = True) -> None:
        super().begin(opened, beside=beside)
        self.said.append("begins" if beside else "is done")

    def end(self) -> None:
        super().end()
        self.said.append("ends")


def opened(prepare: Any) -> Opened:
    class Prepares:
        def prepare(self, request: InferRequest) -> None:
            prepare(request)

    return cast("Opened", Prepares())


@pytest.mark.parametrize("beside", [True, False])
def test_it_is_a_page_in_another_thread_or_before_all_else(beside: bool) -> None:
    found: list[tuple[bool, InferRequest]] = []
    rehearsal = Rehearsal()
    rehearsal.begin(
        opened(
            lambda request: found.append((threading.current_thread() is threading.main_thread(), request))
        ),
        beside=beside,
    )
    rehearsal.end()
    [(in_main, request)] = found
    assert in_main is not beside
    assert request.image


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_one_that_fails_fails_nothing(beside: bool) -> None:
    def refuse(_: InferRequest) -> None:
        raise ValueError("too small")

    rehearsal = Rehearsal()
    rehearsal.begin(opened(refuse), beside=beside)
    rehearsal.end()
    rehearsal.end()


NO_THREADS = """
import resource, sys
from pathlib import Path
from ocr_inference.engines.transformers.rehearsal import Rehearsal
rehearsal = Rehearsal()
resource.setrlimit(resource.RLIMIT_AS, (used := int(Path("/proc/self/statm").read_text().split()[0]) * 4096, used))
rehearsal.begin(None)
rehearsal.end()
"""


def test_where_no_thread_can_be_had_nothing_fails() -> None:
    done = subprocess.run([sys.executable, "-c", NO_THREADS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_it_is_done_with_each_load_standby_and_restore(tmp_path: Path) -> None:
    """Afterwards no thread of it is left."""
    folder = chatmodels.make(tmp_path / "m", "lighton_ocr")
    spec = ModelSpec(name="m", engine="transformers", path=str(folder), cache_dir=str(tmp_path))
    host = HostTier.create("m")

    def called(*calls: str) -> list[str]:
        recorded = Recorded()
        weights = Weights(spec, host, lambda _: None, os.environ, rehearsal=recorded)
        for name in calls:
            getattr(weights, name)()
        return recorded.said

    for name in ("load", "restore"):
        said = called(name)
        assert (said.count("begins"), said[-1]) == (1, "ends"), name
    assert called("stand_by")[-1] == "is done", (
        "nothing waits: its memory is given back better without a thread"
    )
    assert "begins" not in called("stand_by", "restore"), "the restore finds it done"
    assert not [each for each in threading.enumerate() if each.name == "rehearsal"]
