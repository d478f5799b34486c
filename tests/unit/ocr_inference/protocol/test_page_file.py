import os

import pytest

from ocr_inference.protocol.engine import PageOptions
from ocr_inference.protocol.page_file import Page, PageFile
from tests.support.descriptors import open_descriptors


def test_pieces_are_read_back_in_order_by_readers_of_their_own() -> None:
    with PageFile.create() as page:
        page.write(b"one ")
        page.write(memoryview(bytearray(b"two")))
        assert page.size == 7
        with page.open() as first, page.open() as second:
            assert first.read(3) == b"one"
            assert second.read() == b"one two"
        page.write(b"!")  # reading moved no position of the writer's
        with page.open() as reader:
            assert reader.read() == b"one two!"


def test_a_descriptor_handed_on_outlives_the_owner() -> None:
    page = PageFile.of(b"page")
    handed = PageFile(os.dup(page.fileno()))
    page.close()
    with handed, handed.open() as reader:
        assert reader.read() == b"page"


def test_a_duplicate_reads_from_the_start_and_writes_nothing() -> None:
    with PageFile.of(b"page") as page, page.duplicate() as other:
        assert b"".join(other.pieces()) == b"page"
        with pytest.raises(OSError, match="Bad file descriptor"):
            other.write(b"!")
        page.close()
        assert b"".join(other.pieces()) == b"page"


def test_a_descriptor_is_closed_with_the_last_of_its_handles() -> None:
    before = open_descriptors()
    with PageFile.of(b"page") as page:
        shared = page.share()
        assert open_descriptors() == before + 1
    assert b"".join(shared.pieces()) == b"page"
    shared.close()
    assert open_descriptors() == before
    with pytest.raises(ValueError, match="closed"):
        page.share()


def test_a_page_that_is_dropped_is_closed() -> None:
    page = PageFile.of(b"page")
    before = open_descriptors()
    del page
    assert open_descriptors() == before - 1


def test_the_digest_is_of_the_bytes_and_of_what_is_requested() -> None:
    large = bytes(1 << 20)
    with PageFile.of(large) as page, PageFile.of(large) as copy, PageFile.of(large + b"x") as other:
        digests = {Page(file, PageOptions()).digest for file in (page, copy, page.duplicate())}
        assert len(digests) == 1
        digests |= {Page(other, PageOptions()).digest, Page(page, PageOptions(task="free")).digest}
        assert len(digests) == 3


def test_a_closed_page_has_no_descriptor() -> None:
    page = PageFile.of(b"page")
    page.close()
    page.close()
    with pytest.raises(ValueError, match="closed"):
        page.fileno()


def test_what_is_cut_off_is_gone_and_what_comes_next_follows() -> None:
    with PageFile.of(b"abcdef") as page:
        page.cut(2)
        page.write(b"xy")
        assert b"".join(page.pieces()) == b"abxy"


def test_a_part_is_sent_to_another_page() -> None:
    with PageFile.of(b"abcdef") as page, PageFile.of(b"0") as other:
        assert page.send(other, 1, 3) == 3
        assert b"".join(other.pieces()) == b"0bcd"


def test_a_page_is_freed_with_its_last_handle() -> None:
    freed: list[bool] = []
    page = PageFile.create(lambda: freed.append(True))
    other = page.share()
    page.close()
    page.close()
    assert freed == []
    other.close()
    assert freed == [True]
