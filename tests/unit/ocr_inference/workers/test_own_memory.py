"""Host memory of the process itself."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.workers import own_memory
from tests.support.patience import PATIENCE


def test_the_resident_set_is_the_kernels_number() -> None:
    (line,) = (
        each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith("VmRSS")
    )
    assert abs(own_memory.rss_bytes() - int(line.split()[1]) * 1024) < 16 << 20


def test_what_the_system_does_not_say_is_0(tmp_path: Path) -> None:
    assert own_memory.rss_bytes(tmp_path / "statm") == 0
    (tmp_path / "statm").write_text("no numbers\n")
    assert own_memory.rss_bytes(tmp_path / "statm") == 0


def test_trim_returns_what_was_freed() -> None:
    blocks = [bytearray(100_000) for _ in range(300)]
    keep = blocks[::50]  # so that the heap doesn't shrink by itself
    full = own_memory.rss_bytes()
    blocks.clear()
    own_memory.trim()
    assert own_memory.rss_bytes() < full - (15 << 20)
    assert len(keep) == 6


MIB = 1 << 20
BOUND = """
import resource, sys
from pathlib import Path
from ocr_inference.workers import own_memory

root = Path(sys.argv[1])
(root / "proc/self/status").write_bytes(Path("/proc/self/status").read_bytes())
bound = own_memory.Bound(enabled=sys.argv[2] == "on", root=root)
bound.set()
for mebibytes in (64, 256):
    try:
        print(len(bytearray(mebibytes << 20)) >> 20)
    except MemoryError:
        print("MemoryError")
bound.lift()
print(len(bytearray(256 << 20)) >> 20, resource.getrlimit(resource.RLIMIT_DATA) == (-1, -1))
"""


def bounded(root: Path, enabled: str) -> list[str]:
    """Run `BOUND` on a machine that has 160 MiB left; return its lines."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemAvailable: {160 * 1024} kB\n")
    command = [sys.executable, "-c", BOUND, str(root), enabled]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    return done.stdout.splitlines()


def test_what_is_beyond_the_bound_fails_in_the_process_and_the_process_goes_on(tmp_path: Path) -> None:
    assert bounded(tmp_path, "on") == ["64", "MemoryError", "256 True"]


def test_a_bound_that_is_not_enabled_bounds_nothing(tmp_path: Path) -> None:
    assert bounded(tmp_path, "off") == ["64", "256", "256 True"]


def test_a_machine_that_says_nothing_bounds_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bound = own_memory.Bound(enabled=True, root=tmp_path)
    bound.set()
    bound.lift()
    assert resource.getrlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY
    assert "isn't bounded" in caplog.text


@given(st.integers(0, 2**50), st.integers(0, 2**50))
def test_a_page_gets_what_is_left_but_what_others_need(data: int, left: int) -> None:
    more = own_memory.data_limit(data, left) - data
    assert 0 <= more <= left
    assert more == 0 or left - more == own_memory.SPARE_BYTES
