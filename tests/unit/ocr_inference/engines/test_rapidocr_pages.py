"""Pages that are read at the same time by threads: none waits for another, harms another or is forgotten."""

import threading
from collections.abc import Iterator

import pytest

from ocr_inference.engines.rapidocr.pages import BESIDE_BYTES, Check, Pages
from ocr_inference.protocol.engine import EngineError, Event, Failure, FailureKind, InferRequest, PageResult
from tests.support.patience import PATIENCE

PLENTY = 1 << 40


class Book:
    """Pages that are read for as long as the test wants, named by their bytes."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.trimmed = threading.Semaphore(0)
        self.ends = {name: threading.Event() for name in (b"a", b"b", b"c")}
        self.read: list[bytes] = []

    def __call__(self, request: InferRequest, check: Check) -> PageResult:
        assert isinstance(request.image, bytes)
        if request.image == b"damaged":
            raise EngineError(Failure(kind=FailureKind.INVALID_IMAGE, message="it is damaged"))
        if request.image == b"odd":
            raise ValueError("nobody knows why")
        if request.image == b"large":
            raise MemoryError
        self.begun.release()
        assert self.ends[request.image].wait(PATIENCE)
        check()
        self.read.append(request.image)
        return PageResult(text=request.image.decode(), width=1, height=1)


@pytest.fixture
def book() -> Iterator[Book]:
    book = Book()
    yield book
    for end in book.ends.values():
        end.set()


def request(name: bytes) -> InferRequest:
    return InferRequest(image=name)


def next_events(pages: Pages) -> list[Event]:
    while not (events := pages.events()):
        pass
    return events


def test_pages_are_read_at_the_same_time_and_answered_as_they_are_done(book: Book) -> None:
    pages = Pages(book, 2, lambda: PLENTY, book.trimmed.release)
    pages.admit(1, request(b"a"))
    pages.admit(2, request(b"b"))
    assert pages.free_slots == 0
    assert all(book.begun.acquire(timeout=PATIENCE) for _ in range(2)), "both have begun"
    assert pages.events() == [], "the caller isn't held until a page is done"
    book.ends[b"b"].set()
    ((number, answer),) = next_events(pages)
    assert (number, isinstance(answer, PageResult) and answer.text) == (2, "b")
    assert pages.free_slots == 1
    pages.admit(3, request(b"c"))
    book.ends[b"c"].set()
    assert [number for number, _ in next_events(pages)] == [3], "the first one doesn't hold it up"
    book.ends[b"a"].set()
    assert [number for number, _ in next_events(pages)] == [1]
    pages.finish()


def test_freed_memory_is_returned_when_pages_that_were_together_are_done(book: Book) -> None:
    pages = Pages(book, 2, lambda: PLENTY, book.trimmed.release)
    for end in book.ends.values():
        end.set()
    pages.admit(1, request(b"a"))
    next_events(pages)
    assert not book.trimmed.acquire(blocking=False), "a page alone leaves its memory to the next one"
    pages.admit(2, request(b"b"))
    pages.admit(3, request(b"c"))
    done = len(next_events(pages))
    while done < 2:
        assert not book.trimmed.acquire(blocking=False), "one is still read"
        done += len(next_events(pages))
    assert book.trimmed.acquire(blocking=False)
    pages.finish()


def test_a_page_begins_beside_another_only_where_memory_suffices(book: Book) -> None:
    left = PLENTY
    pages = Pages(book, 2, lambda: left, book.trimmed.release)
    assert pages.free_slots == 2
    pages.admit(1, request(b"a"))
    left = BESIDE_BYTES - 1
    assert pages.free_slots == 0
    left = BESIDE_BYTES
    assert pages.free_slots == 1
    book.ends[b"a"].set()
    next_events(pages)
    left = 0
    assert pages.free_slots == 2, "the first page always begins"
    pages.finish()


def test_memory_that_pages_have_not_taken_yet_is_theirs(book: Book) -> None:
    """Pages come together: what is left doesn't shrink before the first of them is decoded."""
    left = 3 * BESIDE_BYTES - 1
    pages = Pages(book, 3, lambda: left, book.trimmed.release)
    pages.admit(1, request(b"a"))
    assert pages.free_slots == 2
    pages.admit(2, request(b"b"))
    assert pages.free_slots == 0
    book.ends[b"a"].set()
    next_events(pages)
    assert pages.free_slots == 2
    book.ends[b"b"].set()
    pages.finish()


def test_a_bad_page_fails_alone(book: Book) -> None:
    pages = Pages(book, 3, lambda: PLENTY, book.trimmed.release)
    pages.admit(1, request(b"a"))
    pages.admit(2, request(b"damaged"))
    pages.admit(3, request(b"odd"))
    failed: dict[int, object] = {}
    while len(failed) < 2:
        failed |= dict(pages.events())
    assert {number: getattr(failure, "kind", None) for number, failure in failed.items()} == {
        2: FailureKind.INVALID_IMAGE,
        3: FailureKind.FAILED,
    }
    book.ends[b"a"].set()
    assert [number for number, _ in next_events(pages)] == [1]
    pages.finish()


def test_where_memory_runs_out_the_others_go_on(book: Book) -> None:
    pages = Pages(book, 2, lambda: PLENTY, book.trimmed.release)
    pages.admit(1, request(b"a"))
    assert book.begun.acquire(timeout=PATIENCE)
    pages.admit(2, request(b"large"))
    ((number, failure),) = next_events(pages)
    assert isinstance(failure, Failure)
    assert (number, failure.kind, failure.of_host) == (2, FailureKind.OUT_OF_MEMORY, True)
    book.ends[b"a"].set()
    ((number, answer),) = next_events(pages)
    assert (number, isinstance(answer, PageResult)) == (1, True)
    pages.finish()


def test_where_memory_runs_out_for_a_page_alone_the_worker_hears_of_it(book: Book) -> None:
    pages = Pages(book, 2, lambda: PLENTY, book.trimmed.release)
    pages.admit(1, request(b"large"))
    with pytest.raises(MemoryError):
        next_events(pages)
    assert pages.free_slots == 2
    pages.finish()


def test_a_page_that_nobody_wants_is_left_at_its_next_part_and_stays_in_until_then(book: Book) -> None:
    pages = Pages(book, 2, lambda: 0, book.trimmed.release)
    pages.admit(1, request(b"a"))
    assert book.begun.acquire(timeout=PATIENCE)
    assert not pages.cancel(1)
    assert not pages.cancel(1), "as often as one likes"
    assert pages.free_slots == 0, "it takes memory"
    assert pages.events() == []
    book.ends[b"a"].set()
    ((number, failure),) = next_events(pages)
    assert (number, isinstance(failure, Failure) and failure.message) == (1, "cancelled")
    assert (pages.free_slots, book.read) == (2, [])
    assert pages.cancel(1), "it is out"
    pages.finish()


def test_a_page_that_has_not_begun_is_dropped_at_once(book: Book) -> None:
    pages = Pages(book, 1, lambda: PLENTY, book.trimmed.release)
    pages.admit(1, request(b"a"))
    assert book.begun.acquire(timeout=PATIENCE)
    pages.admit(2, request(b"b"))
    assert pages.cancel(2)
    book.ends[b"a"].set()
    assert [number for number, _ in next_events(pages)] == [1]
    assert (pages.events(), pages.free_slots, book.read) == ([], 1, [b"a"])
    pages.finish()


def test_finish_waits_for_pages_that_are_at_work(book: Book) -> None:
    pages = Pages(book, 1, lambda: PLENTY, book.trimmed.release)
    pages.admit(1, request(b"a"))
    assert book.begun.acquire(timeout=PATIENCE)
    threading.Timer(0.05, book.ends[b"a"].set).start()
    pages.finish()
    assert book.ends[b"a"].is_set()
    assert pages.free_slots == 1
    pages.admit(2, request(b"b"))
    book.ends[b"b"].set()
    assert [number for number, _ in next_events(pages)] == [2], "it goes on afterwards"
    pages.finish()
