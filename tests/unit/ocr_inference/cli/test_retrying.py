"""Which calls are made again, and when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.cli.server import retrying


@pytest.mark.parametrize(
    ("status", "after", "tries", "seconds"),
    [
        (429, "30", 1, 30),
        (503, "0", 1, 1),
        (503, "9999", 1, 60),
        (503, None, 1, 1),
        (503, None, 3, 4),
        (503, "Wed, 21 Oct 2026 07:28:00 GMT", 9, 16),
        (429, "-5", 1, 1),
        (None, None, 1, 1),
        (None, None, 4, None),
        (200, None, 1, None),
        (401, None, 1, None),
        (422, "1", 1, None),
        (500, None, 1, None),
        (507, None, 1, None),
    ],
)
def test_the_server_says_when_and_if_not_we_wait_longer_each_time(
    status: int | None, after: str | None, tries: int, seconds: float | None
) -> None:
    assert retrying.delay(status, after, tries=tries, waited=0.0) == seconds


@given(
    st.sampled_from([429, 503, None]),
    st.none() | st.integers(0, 10**6).map(str) | st.text(max_size=5),
    st.floats(0, 2000),
)
def test_no_call_waits_for_longer_than_the_patience(
    status: int | None, after: str | None, patience: float
) -> None:
    waited, tries = 0.0, 1
    while (delay := retrying.delay(status, after, tries=tries, waited=waited, patience=patience)) is not None:
        assert 1 <= delay <= retrying.MOST_SECONDS
        waited, tries = waited + delay, tries + 1
    assert waited <= patience
