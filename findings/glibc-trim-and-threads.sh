#!/usr/bin/env bash
# Guess: `malloc_trim(0)` gives all freed memory back to the system, as its manual says since glibc 2.8: from the whole heap
#   and from all arenas. So where pictures are prepared in a thread that has ended, nothing of them is left after it.
# What happens (glibc 2.36, numpy 2.4.6): one array of 12 MiB leaves nothing, in whichever thread. The second one, after the
#   first was freed, leaves nothing in the main thread, and all its 12 MiB in another: by freeing the first, which was mapped
#   apart, glibc learns to take such sizes from the arena, and in arenas other than the main one `malloc_trim` frees pages
#   between pieces that are in use, but not the free end.
# Why it matters here: a model that waits for its next wake had prepared a blank page in a thread, and kept 41 MiB, a fifth
#   of all its memory, which no call gave back. It prepares it in its own thread now.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6
cd "$folder"
cat > keeps.py <<'PYTHON'
import ctypes
import gc
import os
import sys
import threading

import numpy


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def trim():
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def prepare(pictures):
    for _ in range(pictures):
        numpy.ones((3, 1024, 1024), numpy.float32)  # 12 MiB, freed at once


numpy.ones(3)
trim()
before = resident()
if sys.argv[1] == "thread":
    thread = threading.Thread(target=prepare, args=(int(sys.argv[2]),))
    thread.start()
    thread.join()
else:
    prepare(int(sys.argv[2]))
trim()
print(f"{resident() - before:.1f}")
PYTHON
python3 -c "import platform; print(*platform.libc_ver())"
declare -A left
for where in main thread; do
    for pictures in 1 2; do
        left[$where$pictures]=$("$folder/venv/bin/python" keeps.py $where $pictures)
        echo "$pictures of 12 MiB, one after the other, $where: ${left[$where$pictures]} MiB are left after malloc_trim"
    done
done
python3 - "${left[main1]}" "${left[main2]}" "${left[thread1]}" "${left[thread2]}" <<'PYTHON'
import sys

*trimmed, kept = map(float, sys.argv[1:])
assert max(trimmed) < 2 and kept > 10, "this has changed"
PYTHON
