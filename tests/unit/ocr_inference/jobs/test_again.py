"""Whether a page of a job is tried again, and how many pages are read at a time."""

import pytest

from ocr_inference import errors
from ocr_inference.errors import ApiError
from ocr_inference.jobs import again, share


def error(code: str, after: float | None = None) -> ApiError:
    return ApiError(503, code, "", retry_after_seconds=after)


def test_a_place_that_others_have_is_asked_for_again_and_again() -> None:
    assert again.delay(error("queue_full"), 1_000_000) == again.BUSY_SECONDS


def test_a_load_that_fails_is_tried_again_for_a_minute_and_then_fails_the_job() -> None:
    found = [again.delay(error("load_failed"), tries) for tries in range(1, len(again.DELAYS) + 2)]
    assert found == [*again.DELAYS, None]
    assert sum(again.DELAYS) > 60
    assert again.ends_job(error("load_failed"))


def test_a_page_that_is_late_is_tried_again_twice_and_alone_to_blame() -> None:
    found = [again.delay(error("deadline_exceeded"), tries) for tries in (1, 2, 3)]
    assert found == [again.BUSY_SECONDS, again.BUSY_SECONDS, None]
    assert not again.ends_job(error("deadline_exceeded"))


def test_the_server_says_how_long_to_wait() -> None:
    assert again.delay(error("load_failed", 20.0), 1) == 20.0


@pytest.mark.parametrize("code", ["invalid_image", "page_kills_worker", "worker_died", "engine_failed"])
def test_what_concerns_one_page_is_its_result(code: str) -> None:
    assert again.delay(error(code), 1) is None
    assert not again.ends_job(error(code))


@pytest.mark.parametrize("code", ["no_fit", "draining", "model_not_found"])
def test_what_does_not_pass_ends_the_job_at_once(code: str) -> None:
    assert again.delay(error(code), 1) is None
    assert again.ends_job(error(code))


def test_each_code_is_one_that_the_server_has() -> None:
    known = {rule.code for rule in (*errors.REFUSALS.values(), *errors.FAILURES.values())} | {"uploads_busy"}
    assert known >= {*again.BUSY, *again.OF_MODEL, again.LATE}


@pytest.mark.parametrize(
    ("max_pages", "others", "together", "pages"),
    [(8, 0, False, 1), (8, 1, False, 1), (8, 0, True, 4), (8, 3, True, 4), (1, 0, True, 2), (1, 1, True, 1)],
)
def test_jobs_read_few_pages_at_a_time(max_pages: int, others: int, together: bool, pages: int) -> None:
    assert share.window(max_pages, others, together=together) == pages
