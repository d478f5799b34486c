"""Processes whose memory a file takes over: it is the same memory, to them and to their forks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ocr_inference.workers import memory_map
from ocr_inference.workers.forkservers import Forkservers
from ocr_inference.workers.two_calls import supported
from tests.support.engines import eventually
from tests.support.forkserver import parent, proc, texts, workers

pytestmark = pytest.mark.skipif(not supported(), reason="no glibc, or another kind of machine")

SWAPS = """
import ctypes, gc, hashlib, mmap, os, random, sys
from pathlib import Path
from ocr_inference.workers import memory_map, swap_file

def own():
    mappings = memory_map.parse(Path("/proc/self/smaps").read_text())
    return sum(each.own_bytes for each in mappings)

def digest():
    found = hashlib.sha256()
    for block in blocks:
        found.update(block)
    for number in sorted(numbers):
        found.update(numbers[number].encode())
    return found.hexdigest()

random.seed(7)
blocks = [random.randbytes(size) for size in (64 << 20, 5 << 20, 100_001)]
numbers = {number: str(number) * 3 for number in range(300_000)}
before, was = digest(), own()
size = swap_file.swap_out((sys.argv[1],))
swapped = own()
assert size > 100 << 20, size
assert swapped < was / 4, (swapped, was)
assert digest() == before
"""
"""More than 100 MiB of memory, in one piece and in a million."""

INTERRUPTED = SWAPS.replace(
    "size = swap_file.swap_out((sys.argv[1],))\n",
    """
asked = iter([False, False, True])
first = swap_file.swap_out((sys.argv[1],), wanted=lambda: next(asked, True))
assert 0 < first <= 2 * swap_file.PIECE_BYTES, first
assert digest() == before
size = swap_file.swap_out((sys.argv[1],))
""",
)

THEN = {
    "what is written later stays in the process": """
numbers[7] = "other"
numbers.update({number: str(number) for number in range(10**6, 10**6 + 300_000)})
del blocks[0]
gc.collect()
assert numbers[8] == "888" and numbers[1_299_999] == "1299999"
numbers = {number: numbers[number] for number in range(300_000)} | {7: "777"}
blocks.insert(0, random.Random(7).randbytes(64 << 20))
assert digest() == before
""",
    "a fork has the same": """
reading, writing = os.pipe()
if os.fork() == 0:
    os.write(writing, digest().encode())
    numbers.clear()
    os._exit(0)
assert os.wait()[1] == 0
assert os.read(reading, 100).decode() == before
assert digest() == before
""",
    "what is given back comes again": """
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE
was = resident()
swap_file.give_back()
assert resident() < was - (64 << 20), (was, resident())
assert digest() == before
""",
    "memory that the C library moves keeps its content": """
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.realloc.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.realloc.argtypes = [ctypes.c_size_t], [ctypes.c_void_p, ctypes.c_size_t]
at = libc.malloc(40 << 20)
ctypes.memset(at, 7, 40 << 20)
swap_file.swap_out((sys.argv[1],))
at = libc.realloc(at, 400 << 20)
assert ctypes.string_at(at, 40 << 20) == bytes([7]) * (40 << 20)
ctypes.memset(at, 8, 400 << 20)
assert digest() == before
""",
}


def run(code: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def is_on_a_disk(folder: Path) -> bool:
    mounts = Path("/proc/self/mountinfo").read_text()
    return memory_map.file_system(mounts, os.path.realpath(folder)) in memory_map.DISKS


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    if not is_on_a_disk(tmp_path):
        pytest.skip("the folder of tests isn't on a disk")
    return tmp_path


@pytest.mark.parametrize("then", THEN.values(), ids=[name.replace(" ", "-") for name in THEN])
def test_memory_that_a_file_has_taken_over(then: str, disk: Path) -> None:
    run(SWAPS + then, disk)
    assert list(disk.iterdir()) == [], "the file has no name"


def test_process_that_is_wanted_meanwhile_goes_on_after_a_piece_and_does_the_rest_later(disk: Path) -> None:
    run(INTERRUPTED, disk)


FREED = """
import ctypes, mmap, os, tempfile, sys
from ocr_inference.workers.two_calls import TwoCalls
protection = mmap.PROT_READ | mmap.PROT_WRITE
page = mmap.PAGESIZE
with TwoCalls() as calls, tempfile.TemporaryFile(dir=sys.argv[1]) as file:
    os.ftruncate(file.fileno(), 3 * page)
    start = calls.map(0, 3 * page, -1, 0, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    ctypes.memset(start, 7, 3 * page)
    calls.unmap(start + 2 * page, page)
    assert not calls.replace(start, 3 * page, file.fileno(), 0, protection=protection)
    assert calls.replace(start, 2 * page, file.fileno(), 0, protection=protection)
    assert ctypes.string_at(start, 2 * page) == bytes([7]) * 2 * page
    assert os.pread(file.fileno(), 3 * page, 0) == bytes([7]) * 2 * page + bytes(page)
"""


def test_memory_that_is_freed_before_its_turn_is_left_out(disk: Path) -> None:
    """Reading which memory there is takes some itself, and frees it again."""
    run(FREED, disk)


REFUSED = """
import sys, threading
from ocr_inference.workers import swap_file
try:
    swap_file.swap_out((sys.argv[1],))
except swap_file.CantSwap as error:
    assert {expected!r} in str(error), error
else:
    raise AssertionError
"""


def test_nothing_is_swapped_to_memory_or_beside_other_threads(disk: Path) -> None:
    if not is_on_a_disk(Path("/dev/shm")):
        run(REFUSED.format(expected="is on no local disk"), Path("/dev/shm"))
    thread = "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    run(thread + REFUSED.format(expected="several threads"), disk)
    run(REFUSED.format(expected="No such file"), disk / "absent")


NO_DESCRIPTORS = """
import resource, threading
from ocr_inference.workers import swap_file
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
"""


def test_a_process_that_can_open_nothing_goes_on(disk: Path) -> None:
    run(NO_DESCRIPTORS + REFUSED.format(expected="Too many open files"), disk)
    run(NO_DESCRIPTORS + "swap_file.give_back()", disk)


def own_bytes(pid: int) -> int:
    return sum(each.own_bytes for each in memory_map.parse(proc(pid, "smaps")))


async def test_a_forkserver_at_rest_has_its_memory_in_a_file_and_forks_as_before(disk: Path) -> None:
    environ = os.environ | {"TMPDIR": str(disk)}
    async with Forkservers(environ, swaps=False) as resident, Forkservers(environ) as swapping:
        async with workers(resident) as started:
            expected = await texts(started)
        async with workers(swapping) as started:
            assert await texts(started) == expected
        (own,), (pid,) = resident.pids().values(), swapping.pids().values()
        await eventually(lambda: own_bytes(pid) < own_bytes(own) / 3)
        for _ in range(2):
            async with workers(swapping, 3) as started:
                assert {parent(worker.pid) for worker in started} == {pid}
                assert (await texts(started))[0] == expected[0]
