"""Which connections end, and which requests are served."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.connections import phases
from ocr_inference.connections.limits import Limits, Times
from ocr_inference.connections.phases import End, Ending, Kind, Phase, Seen, Take, Wait

TIMES = Times(head=20, idle=75, stalled=30)
LIMITS = Limits(ordinary=4, looks=6, total=8)

moments = st.integers(0, 1000).map(lambda tenths: tenths / 10)
connections = st.builds(
    Seen,
    phase=st.sampled_from(Phase),
    since=moments,
    stuck_since=st.none() | moments,
    half_closed_since=st.none() | moments,
    asked=st.booleans(),
)


@pytest.mark.parametrize(
    ("seen", "seconds", "ending"),
    [
        (Seen(Phase.SILENT, 0), 20, Ending.SILENT),
        (Seen(Phase.HEAD, 0), 20, Ending.HEAD),
        (Seen(Phase.IDLE, 0), 75, Ending.IDLE),
        (Seen(Phase.CLOSING, 0), 30, Ending.STALLED),
        (Seen(Phase.SERVING, 0, stuck_since=5), 35, Ending.STALLED),
        (Seen(Phase.IDLE, 0, stuck_since=5), 35, Ending.STALLED),
        (Seen(Phase.CLOSING, 0, half_closed_since=0), 30, Ending.STALLED),
        (Seen(Phase.SERVING, 0, half_closed_since=5), 5 + phases.UNASKED_SECONDS, Ending.GONE),
    ],
)
def test_each_wait_has_its_time(seen: Seen, seconds: float, ending: Ending) -> None:
    assert phases.overdue(seen, TIMES, seconds - 0.01) is None
    assert phases.overdue(seen, TIMES, seconds + 0.01) is ending


@pytest.mark.parametrize(
    "seen",
    [
        Seen(Phase.SERVING, 0),
        Seen(Phase.SERVING, 0, half_closed_since=1, asked=True),
        Seen(Phase.READY, 0),
        Seen(Phase.READY, 0, half_closed_since=1),
    ],
)
def test_a_request_may_take_any_time(seen: Seen) -> None:
    assert phases.overdue(seen, TIMES, 1e9) is None


@given(connections)
def test_what_has_no_request_ends_in_bounded_time(seen: Seen) -> None:
    if seen.phase not in (Phase.SERVING, Phase.READY):
        began = max(seen.since, seen.half_closed_since or 0)
        assert (
            phases.overdue(seen, TIMES, began + 0.01 + max(TIMES.head, TIMES.idle, TIMES.stalled)) is not None
        )


@given(st.dictionaries(st.integers(), connections))
def test_only_an_answer_that_is_left_untaken_makes_way_and_the_longest_first(all_: dict[int, Seen]) -> None:
    stuck = {
        key: seen.stuck_since
        for key, seen in all_.items()
        if seen.phase is Phase.SERVING and seen.stuck_since is not None
    }
    found = phases.untaken(all_.items())
    assert (found is None) == (not stuck)
    assert found is None or stuck[found] == min(stuck.values())


@given(connections, moments, moments)
def test_what_is_overdue_stays_so(seen: Seen, now: float, later: float) -> None:
    if phases.overdue(seen, TIMES, now) is not None:
        assert phases.overdue(seen, TIMES, now + later) is not None


@given(st.lists(moments, max_size=12).map(sorted), st.integers(0, 12), st.integers(1, 12), moments)
def test_room_is_made_by_what_has_waited_longest(
    since: list[float], busy: int, total: int, now: float
) -> None:
    taken = len(since) + busy
    match phases.make_room(taken, total, enumerate(since), now):
        case Take():
            assert taken < total
        case End(key):
            assert (taken >= total, key) == (True, 0)
            assert now - since[0] >= phases.GRACE_SECONDS - 1e-6
        case Wait(None):
            assert (taken >= total, since) == (True, [])
        case Wait(seconds):
            assert taken >= total
            assert seconds is not None
            assert seconds > 0
            later = phases.make_room(taken, total, enumerate(since), now + seconds + 1e-6)
            assert later == End(0)


@given(st.integers(0, 8))
def test_each_kind_has_places_that_the_one_below_cannot_take(serving: int) -> None:
    admitted = [phases.admits(kind, serving, LIMITS) for kind in (Kind.ADMIN, Kind.LOOK, Kind.ORDINARY)]
    assert admitted == [serving < 8, serving < 6, serving < 4]
