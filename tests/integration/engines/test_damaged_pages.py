"""Some hundred of the damaged pictures and documents of `make fuzz`, and what measures them."""

import pytest

from bench import fuzz
from tests.support import document_mutations, mutations

HANGS = """
import mmap, os, struct, sys, time
begin, end, file = (int(each) for each in sys.argv[2:])
at = mmap.mmap(file, 8)
for number in range(begin, end):
    struct.pack_into("<q", at, 0, number)
    if number == 3:
        os.abort()
    if number == 7:
        time.sleep(600)
print('{"outcomes": {"read": %d}, "seconds": [], "grown_bytes": 0, "unexpected": []}' % (end - begin))
"""


async def test_damaged_pictures_are_read_or_refused() -> None:
    tally = await fuzz.fuzz(2, 1200, each=600)
    assert (tally.crashes, tally.hangs, tally.unexpected) == ([], [], [])
    assert tally.outcomes.total() == 1200
    # Pictures that are all refused at once would test little.
    assert tally.outcomes["read"] > 200
    assert tally.outcomes["invalid_image"] > 400
    assert tally.outcomes["image_too_large"] > 50


async def test_damaged_documents_are_drawn_or_refused() -> None:
    tally = await fuzz.fuzz(2, 300, each=300, program=("-m", "bench.fuzzdocuments"))
    assert (tally.crashes, tally.hangs, tally.unexpected) == ([], [], [])
    assert tally.outcomes.total() == 300
    assert tally.outcomes["PDF: read"] > 40
    assert tally.outcomes["frames: read"] > 15


async def test_a_crash_and_a_hang_are_found_and_the_others_go_on() -> None:
    tally = await fuzz.fuzz(1, 20, each=10, hang_seconds=1.0, program=("-c", HANGS))
    assert tally.crashes == ["3: exit code -6"]
    assert tally.hangs == [7]
    assert tally.outcomes == {"read": 12}


@pytest.mark.parametrize("number", range(6))
def test_a_number_is_always_the_same_document(number: int) -> None:
    first = document_mutations.mutated(5, number)
    document_mutations.frames.cache_clear()
    document_mutations.pdfs.cache_clear()
    assert document_mutations.mutated(5, number) == first
    assert document_mutations.mutated(6, number) != first


@pytest.mark.parametrize("number", range(12))
def test_a_number_is_always_the_same_picture(number: int) -> None:
    mutations.pictures.cache_clear()
    first = mutations.mutated(5, number)
    mutations.pictures.cache_clear()
    assert mutations.mutated(5, number) == first
    assert mutations.mutated(6, number) != first
