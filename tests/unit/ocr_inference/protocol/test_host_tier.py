"""The host tier: exact size, shared between processes, given back."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ocr_inference.protocol import host_tier
from ocr_inference.protocol.host_tier import HostTier
from tests.support.patience import PATIENCE

MIB = 1 << 20


def resident_kib(pid: str = "self") -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def test_it_has_the_size_that_it_is_given_and_takes_what_is_written() -> None:
    tier = HostTier.create("x")
    tier.resize(10 * MIB + 5)
    assert (tier.size, tier.resident_bytes) == (10 * MIB + 5, 0)
    with tier.map() as mapped:
        assert len(mapped) == 10 * MIB + 5
        mapped[: 4 * MIB] = b"w" * 4 * MIB
    assert tier.resident_bytes == 4 * MIB
    tier.resize(0)
    assert tier.resident_bytes == 0
    tier.close()


def test_what_one_process_writes_another_reads_and_it_outlives_both() -> None:
    tier = HostTier.create("shared")
    tier.resize(MIB)
    script = (
        "import sys; from ocr_inference.protocol.host_tier import HostTier\n"
        "with HostTier(int(sys.argv[1])).map() as mapped: mapped[7:12] = bytes(map(ord, 'hello'))"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(tier.fd)], pass_fds=[tier.fd], check=True, timeout=PATIENCE
    )
    with tier.map() as mapped:
        assert mapped[7:12] == b"hello"
    tier.close()


def test_memory_goes_back_when_it_is_emptied_even_while_it_is_mapped() -> None:
    tier = HostTier.create("x")
    tier.resize(64 * MIB)
    before = resident_kib()
    with tier.map() as mapped:
        for offset in range(0, 64 * MIB, 4096):
            mapped[offset] = 1
        assert resident_kib() - before > 60 * 1024
        tier.resize(0)
        assert resident_kib() - before < 4 * 1024
    tier.close()


def test_entered_pages_need_no_faults() -> None:
    """As /proc counts them: nobody has read a byte of what is resident then."""
    tier = HostTier.create("x")
    tier.resize(64 * MIB)
    os.pwrite(tier.fd, b"w" * 64 * MIB, 0)
    with tier.map() as mapped:
        before = resident_kib()
        HostTier.enter_pages(mapped)
        assert resident_kib() - before > 60 * 1024
    tier.close()


def make_limits(folder: Path, available: int = 1000, **cgroup: str) -> tuple[Path, Path]:
    meminfo = folder / "meminfo"
    meminfo.write_text(f"MemTotal: 9999 kB\nMemAvailable: {available} kB\nHugePages_Total: 0\n")
    for name, text in cgroup.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder, meminfo


@pytest.mark.parametrize(
    ("cgroup", "left"),
    [
        ({}, 1000 * 1024),
        ({"memory_max": "max\n"}, 1000 * 1024),
        (
            {
                "memory_max": "500000\n",
                "memory_current": "300000\n",
                "memory_stat": "anon 9\ninactive_file 60000\nactive_file 40000\nfile_mapped 5\n",
            },
            300_000,
        ),
        (
            {
                "memory_max": "10\n",
                "memory_current": "30\n",
                "memory_stat": "inactive_file 0\nactive_file 0\n",
            },
            0,
        ),
        (
            {
                "memory_max": "99999999999\n",
                "memory_current": "3\n",
                "memory_stat": "inactive_file 0\nactive_file 0\n",
            },
            1000 * 1024,
        ),
    ],
)
def test_room_is_what_machine_and_container_leave(tmp_path: Path, cgroup: dict[str, str], left: int) -> None:
    assert host_tier.available_bytes(*make_limits(tmp_path, **cgroup)) == left  # type: ignore[arg-type]


def test_too_much_is_refused_before_the_system_kills(tmp_path: Path) -> None:
    limits = make_limits(tmp_path)
    host_tier.require_available(1000 * 1024, *limits)
    with pytest.raises(MemoryError, match="need 1024001 bytes of host memory, 1024000 are left"):
        host_tier.require_available(1000 * 1024 + 1, *limits)


def test_this_machine_says_how_much_room_it_has() -> None:
    assert 0 < host_tier.available_bytes() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
