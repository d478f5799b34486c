from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.pods.rate_limiter import RateLimiter


def test_a_burst_is_free_and_what_follows_waits_its_turn() -> None:
    limiter, waits = RateLimiter(rate=2, burst=3), []
    for _ in range(5):
        limiter, wait = limiter.spend(10.0)
        waits.append(wait)
    assert waits == [0, 0, 0, 0.5, 1.0]
    same, wait = limiter.take(10.9)
    assert (same, round(wait, 6)) == (limiter, 0.6), "none is there, and none is taken"
    limiter, wait = limiter.take(11.5)
    assert wait == 0, "five were taken, three came back"
    assert limiter.take(11.5)[1] > 0


@given(st.lists(st.floats(0, 5), max_size=40), st.floats(0.5, 50), st.integers(1, 10))
def test_who_keeps_the_waits_keeps_the_rate(gaps: list[float], rate: float, burst: int) -> None:
    limiter, now, times = RateLimiter(rate, burst), 0.0, list[float]()
    for gap in gaps:
        now += gap
        limiter, wait = limiter.spend(now)
        now += wait
        times.append(now)
    for first in range(len(times)):
        for last in range(first, len(times)):
            assert last - first + 1 <= burst + rate * (times[last] - times[first]) + 1e-6


def test_a_clock_that_goes_back_gives_no_token() -> None:
    limiter, _ = RateLimiter(rate=1, burst=1).spend(10.0)
    assert limiter.take(5.0)[1] > 0
