"""Cores and memory by control groups of both versions, from folders that look like a machine's."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from ocr_inference import limits
from tests.support.patience import PATIENCE

ONE = {
    "proc/self/cgroup": "9:name=systemd:/\n4:memory:/pods/a\n3:cpuset:/\n1:cpu,cpuacct:/pods/a\n0::/\n",
    "proc/self/mountinfo": (
        "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
        "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
        "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
    ),
}
"""A host with version 1, and version 2 beside it without controllers."""
ONE_CONTAINER = ONE | {
    "proc/self/mountinfo": (
        "32 31 0:29 /pods/a /sys/fs/cgroup/cpu,cpuacct ro,relatime master:4 - cgroup cgroup rw,cpu,cpuacct\n"
        "35 31 0:32 /pods/a /sys/fs/cgroup/memory ro,relatime master:5 - cgroup cgroup rw,memory\n"
    )
}
"""A container of version 1: it sees its own group only, where its paths are still the host's."""
TWO = {
    "proc/self/cgroup": "0::/pods/a\n",
    "proc/self/mountinfo": "29 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n",
}
TWO_CONTAINER = TWO | {"proc/self/cgroup": "0::/\n"}
"""A container of version 2, with a namespace of its own."""
TWO_OUTSIDE = TWO | {"proc/self/cgroup": "0::/../../other\n"}
GROUPS: Mapping[str, tuple[Mapping[str, str], tuple[str, ...]]] = {
    "1": (ONE, ("/pods/a", "/pods", "")),
    "1, container": (ONE_CONTAINER, ("",)),
    "2": (TWO, ("/pods/a", "/pods", "")),
    "2, container": (TWO_CONTAINER, ("",)),
    "2, outside": (TWO_OUTSIDE, ("",)),
}
FREE = "proc/meminfo", "MemTotal: 9999 kB\nMemAvailable: 1000 kB\nHugePages_Total: 0\n"


def machine(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in dict([FREE], **files).items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@pytest.mark.parametrize("kind", GROUPS)
def test_groups_are_found_from_ones_own_upwards(tmp_path: Path, kind: str) -> None:
    files, paths = GROUPS[kind]
    folder = "sys/fs/cgroup" + ("/memory" if kind.startswith("1") else "")
    assert limits.groups("memory", machine(tmp_path, files)) == [
        tmp_path / f"{folder}{path}" for path in paths
    ]


@pytest.mark.parametrize("files", [{}, {"proc/self/mountinfo": "nonsense\n - cgroup2\n"}])
def test_a_machine_without_groups_has_no_limits(tmp_path: Path, files: Mapping[str, str]) -> None:
    root = machine(tmp_path, files)
    assert limits.groups("cpu", root) == []
    assert limits.threads(root) == min(limits.MAX_THREADS, len(os.sched_getaffinity(0)))
    assert limits.memory_left(root) == 1000 * 1024


CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("files", "threads"),
    [
        (TWO | {"sys/fs/cgroup/pods/a/cpu.max": "100000 100000\n"}, 1),
        (TWO | {"sys/fs/cgroup/pods/a/cpu.max": "10000 100000\n"}, 1),
        (TWO | {"sys/fs/cgroup/pods/a/cpu.max": "max 100000\n"}, CORES),
        (TWO | {"sys/fs/cgroup/pods/a/cpu.max": "9900000 100000\n"}, CORES),
        (TWO | {"sys/fs/cgroup/pods/a/cpu.max": "odd\n"}, CORES),
        (TWO | {"sys/fs/cgroup/pods/cpu.max": "100000 100000\n"}, 1),
        (TWO_CONTAINER | {"sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1),
        (ONE | {"sys/fs/cgroup/cpu,cpuacct/pods/a/cpu.cfs_quota_us": "-1\n"}, CORES),
        (
            ONE
            | {
                "sys/fs/cgroup/cpu,cpuacct/pods/a/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/pods/a/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu,cpuacct/pods/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu,cpuacct/pods/cpu.cfs_period_us": "100000\n",
            },
            1,
        ),
        (
            ONE_CONTAINER
            | {
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "100000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            1,
        ),
    ],
)
def test_threads_follow_the_tightest_quota(tmp_path: Path, files: Mapping[str, str], threads: int) -> None:
    assert limits.threads(machine(tmp_path, files)) == min(limits.MAX_THREADS, threads)


def test_threads_follow_affinity() -> None:
    script = (
        "import os; from ocr_inference import limits\n"
        "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); print(limits.threads())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert done.stdout == "1\n"


def two(limit: str, used: int, files: int = 0) -> dict[str, str]:
    return {
        "memory.max": f"{limit}\n",
        "memory.current": f"{used}\n",
        "memory.stat": f"anon 9\ninactive_file {files}\nactive_file {files}\nfile_mapped 5\n",
    }


def one(limit: str, used: int, files: int = 0) -> dict[str, str]:
    return {
        "memory.limit_in_bytes": f"{limit}\n",
        "memory.usage_in_bytes": f"{used}\n",
        "memory.stat": f"inactive_file 7\ntotal_inactive_file {files}\ntotal_active_file {files}\n",
    }


@pytest.mark.parametrize(
    ("own", "above", "left"),
    [
        ({}, {}, 1000 * 1024),
        (two("max", 5), two("max", 5), 1000 * 1024),
        (two("500000", 300_000, 50_000), {}, 300_000),
        (two("500000", 300_000), two("450000", 440_000), 10_000),
        (two("10", 30), {}, 0),
        (two("99999999999", 3), {}, 1000 * 1024),
        ({"memory.max": "500000\n"}, {}, 1000 * 1024),
    ],
)
def test_what_is_left_is_what_machine_and_groups_leave(
    tmp_path: Path, own: Mapping[str, str], above: Mapping[str, str], left: int
) -> None:
    files = {f"sys/fs/cgroup/pods/a/{name}": text for name, text in own.items()}
    files |= {f"sys/fs/cgroup/pods/{name}": text for name, text in above.items()}
    assert limits.memory_left(machine(tmp_path, TWO | files)) == left


@pytest.mark.parametrize(
    ("group", "left"),
    [(one("9223372036854771712", 5), 1000 * 1024), (one("500000", 300_000, 50_000), 300_000)],
)
def test_version_1_says_the_same_in_other_words(tmp_path: Path, group: Mapping[str, str], left: int) -> None:
    files = {f"sys/fs/cgroup/memory/{name}": text for name, text in group.items()}
    assert limits.memory_left(machine(tmp_path, ONE_CONTAINER | files)) == left


@pytest.mark.parametrize(
    ("base", "groups", "limit"),
    [
        (TWO, {}, None),
        (TWO, {"sys/fs/cgroup/pods/a/memory.max": "max\n"}, None),
        (
            TWO,
            {"sys/fs/cgroup/pods/a/memory.max": "500\n", "sys/fs/cgroup/pods/memory.max": "400\n"},
            400,
        ),
        (ONE_CONTAINER, {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        (ONE_CONTAINER, {"sys/fs/cgroup/memory/memory.limit_in_bytes": "500\n"}, 500),
    ],
)
def test_the_tightest_limit_of_memory(
    tmp_path: Path, base: Mapping[str, str], groups: Mapping[str, str], limit: int | None
) -> None:
    assert limits.memory_limit(machine(tmp_path, {**base, **groups})) == limit


def test_cores_are_not_rounded(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/pods/a/cpu.max": "50000 100000\n"}
    assert limits.cores(machine(tmp_path, TWO | files)) == 0.5


def test_too_much_is_refused_before_the_system_kills(tmp_path: Path) -> None:
    root = machine(tmp_path, {})
    limits.require_memory(1000 * 1024, "the page", root)
    with pytest.raises(MemoryError, match="the page needs 1024001 bytes of host memory, 1024000 are left"):
        limits.require_memory(1000 * 1024 + 1, "the page", root)


def test_this_machine_says_how_much_is_left() -> None:
    assert 0 < limits.memory_left() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
