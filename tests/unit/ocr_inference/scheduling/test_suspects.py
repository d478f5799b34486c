"""Pages that are suspected of killing workers: counted by death, forgotten in time, bounded."""

from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.scheduling import suspects
from ocr_inference.scheduling.suspects import KEEP_SECONDS, MAX_KILLS, MAX_PAGES, Suspects

DIGESTS = st.integers(0, 400).map(lambda number: number.to_bytes(2, "big"))
EVENTS = st.lists(
    st.tuples(
        st.one_of(st.frozensets(DIGESTS, max_size=300), DIGESTS), st.floats(0, KEEP_SECONDS, allow_nan=False)
    ),
    max_size=20,
)
"""Deaths (the pages that had begun) and pages that were read, each with the seconds that have passed before it."""


def test_a_page_is_counted_once_a_death_and_until_its_time_is_over() -> None:
    state = suspects.died({}, [b"a", b"a", b"b"], 0.0)
    state = suspects.died(state, [b"a"], 10.0)
    assert suspects.kills(state, b"a", 10.0) == MAX_KILLS
    assert suspects.kills(state, b"b", 10.0) == 1
    assert suspects.kills(state, b"c", 10.0) == 0
    assert suspects.kills(state, b"a", 9.0 + KEEP_SECONDS) == MAX_KILLS
    assert suspects.kills(state, b"b", 9.0 + KEEP_SECONDS) == 0
    assert suspects.kills(state, b"a", 10.0 + KEEP_SECONDS) == 0
    assert not suspects.current(state, 10.0 + KEEP_SECONDS)


def test_a_page_that_was_read_is_suspected_no_more() -> None:
    state = suspects.acquitted(suspects.died({}, [b"a", b"b"], 0.0), b"a")
    assert (suspects.kills(state, b"a", 0.0), suspects.kills(state, b"b", 0.0)) == (0, 1)


def test_a_page_at_which_an_engine_failed_is_suspected_of_no_death_and_for_a_time() -> None:
    state = suspects.failed(suspects.died({}, [b"a", b"b"], 0.0), b"a", 5.0)
    found = suspects.find(state, b"a", 5.0)
    assert found is not None
    assert (found.kills, suspects.kills(state, b"b", 5.0)) == (0, 1)
    assert suspects.find(state, b"a", 5.0 + KEEP_SECONDS) is None
    assert suspects.find(suspects.acquitted(state, b"a"), b"a", 5.0) is None
    state = suspects.died(state, [b"a"], 6.0)
    assert suspects.kills(state, b"a", 6.0) == 1


def test_of_too_many_pages_the_newest_are_kept() -> None:
    state: Suspects = {}
    for number in range(MAX_PAGES + 10):
        state = suspects.died(state, [number.to_bytes(2, "big")], float(number) / 10)
    assert len(state) == MAX_PAGES
    assert min(int.from_bytes(digest, "big") for digest in state) == 10


@given(EVENTS)
def test_whatever_happens_no_page_is_blamed_for_deaths_that_it_had_no_part_in(
    events: list[tuple[frozenset[bytes] | bytes, float]],
) -> None:
    state: Suspects = {}
    now = 0.0
    part: dict[bytes, list[float]] = {}
    for event, seconds in events:
        now += seconds
        if isinstance(event, bytes):
            state = suspects.acquitted(state, event)
            part.pop(event, None)
            assert suspects.kills(state, event, now) == 0
        else:
            state = suspects.died(state, event, now)
            for digest in event:
                part.setdefault(digest, []).append(now)
        assert len(state) <= MAX_PAGES
        for digest in state:
            count = suspects.kills(state, digest, now)
            times = part[digest]
            assert count <= len(times)
            assert (count > 0) == (now < times[-1] + KEEP_SECONDS)
