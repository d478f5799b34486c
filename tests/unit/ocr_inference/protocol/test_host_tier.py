"""The host tier: exact size, shared between processes, given back."""

import os
import subprocess
import sys
from pathlib import Path

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
