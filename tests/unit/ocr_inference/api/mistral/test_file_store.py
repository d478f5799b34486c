"""Which uploaded files are kept."""

import pytest

from ocr_inference.api.mistral import file_store
from ocr_inference.api.mistral.file_store import MAX_FILES, FileStore, Stored
from ocr_inference.errors import ApiError
from ocr_inference.protocol.page_file import PageFile


def dropped(sizes: list[int], coming: int, now: float = 0.0) -> list[str] | None:
    stored = {str(at): Stored(str(at), "", size, float(at)) for at, size in enumerate(sizes)}
    return file_store.dropped(stored, coming, now, keep_seconds=100.0, most_bytes=50)


def test_what_fits_drops_nothing() -> None:
    assert dropped([20, 20], 10) == []


def test_older_files_make_way_by_size() -> None:
    assert dropped([20, 20, 10], 15) == ["0"]
    assert dropped([20, 20, 10], 50) == ["0", "1", "2"]
    assert dropped([20], 51) is None


def test_older_files_make_way_by_number() -> None:
    assert dropped([0] * MAX_FILES, 0) == ["0"]


def test_old_files_go_by_age() -> None:
    assert dropped([1, 1, 1], 1, now=101.0) == ["0", "1"]


class Clock:
    now = 0.0


async def test_files_are_found_until_they_are_old() -> None:
    store = FileStore(100, 60.0, lambda: Clock.now)
    with PageFile.of(b"document") as file:
        stored = store.store(file, "a.pdf")
    with store.opened(stored.id, "p") as found:
        assert b"".join(found.pieces()) == b"document"
    assert store.used_bytes() == 8
    Clock.now = 60.0
    with pytest.raises(ApiError, match="kept for 60 s"):
        store.find(stored.id)
    assert store.used_bytes() == 0


async def test_a_file_of_another_process_is_told_apart() -> None:
    with pytest.raises(ApiError, match="don't survive a restart") as error:
        FileStore(100, 60.0, lambda: 0.0).find("file-0-0", "document.file_id")
    assert (error.value.status, error.value.param) == (404, "document.file_id")
