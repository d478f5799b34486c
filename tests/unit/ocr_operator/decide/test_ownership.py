from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.decide import ownership
from ocr_operator.decide.leases import MAX_DURATION_SECONDS, MAX_HOLDER, Create, Sighting, Take, Wait

A, B = "ocr-system/first", "team/second"


def lease(holder: Any, version: str = "1", seconds: Any = 60) -> dict[str, Any]:
    spec = {"holderIdentity": holder, "leaseDurationSeconds": seconds}
    return {"metadata": {"resourceVersion": version}, "spec": spec}


def test_namespace_without_a_lease_is_taken() -> None:
    assert ownership.decide(A, None, 0.0) == Create()


def test_other_operator_is_respected_while_it_renews() -> None:
    seen = None
    for turn in range(10):
        seen = ownership.sight(seen, lease(B, version=str(turn)), turn * 50.0)
        assert isinstance(ownership.decide(A, seen, turn * 50.0 + 49), Wait)


def test_lease_that_is_not_renewed_is_taken_over_when_it_has_been_seen_for_as_long_as_it_lasts() -> None:
    seen = ownership.sight(None, lease(B), 1000.0)
    seen = ownership.sight(seen, lease(B), 1059.0)
    assert ownership.decide(A, seen, 1059.0) == Wait(B, 1.0)
    assert ownership.decide(A, seen, 1060.0) == Take("1", ours=False)


@pytest.mark.parametrize("holder", [A, f"{A}/replica-1"])
def test_restarted_operator_goes_on_at_once(holder: str) -> None:
    assert ownership.decide(A, ownership.sight(None, lease(holder), 5.0), 5.0) == Take("1", ours=True)


def test_operator_whose_name_begins_alike_is_another_one() -> None:
    assert isinstance(ownership.decide(A, ownership.sight(None, lease(f"{A}-b"), 5.0), 5.0), Wait)


@pytest.mark.parametrize("holder", ["", None])
def test_lease_without_a_holder_is_free(holder: Any) -> None:
    assert ownership.decide(A, ownership.sight(None, lease(holder), 5.0), 5.0) == Take("1", ours=False)


@pytest.mark.parametrize("seconds", [10**12, -1, 0, None, "x", 1.5])
def test_lease_written_by_hand_keeps_nobody_away_for_ever(seconds: Any) -> None:
    seen = ownership.sight(None, lease("x" * 9999, seconds=seconds), 0.0)
    assert 1 <= seen.seconds <= MAX_DURATION_SECONDS
    assert len(seen.holder) <= MAX_HOLDER


def test_lease_without_a_spec_is_free() -> None:
    seen = ownership.sight(None, {"metadata": {}}, 0.0)
    assert ownership.decide(A, seen, 0.0) == Take("", ours=False)


def test_written_lease_is_read_as_ours() -> None:
    written = {
        "metadata": {"resourceVersion": "7"},
        "spec": ownership.spec(A, datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)),
    }
    assert written["spec"]["renewTime"] == "2026-01-02T03:04:05.000006Z"
    assert ownership.sight(None, written, 0.0) == Sighting(A, "7", ownership.TIMING.duration, 0.0)


class Replayed:
    """An operator whose requests take time and whose clock began at another moment than others'."""

    def __init__(self, identity: str, offset: float) -> None:
        self.identity, self.offset = identity, offset
        self.seen: Sighting | None = None
        self.valid_until = float("-inf")

    def turn(self, store: dict[str, Any], now: float, delay: float) -> float:
        """Read, decide, and write `delay` seconds later as the API server would; returns when that ends."""
        mine = now + self.offset
        found = store.get("lease")
        self.seen = ownership.sight(self.seen, found, mine) if found else None
        match ownership.decide(self.identity, self.seen, mine):
            case Wait():
                self.valid_until = float("-inf")
            case step:
                expected = step.version if isinstance(step, Take) else None
                current = store.get("lease")
                if (current["metadata"]["resourceVersion"] if current else None) == expected:
                    store["version"] = store.get("version", 0) + 1
                    store["lease"] = lease(self.identity, version=str(store["version"]))
                    self.valid_until = now + ownership.TIMING.valid
        return now + delay

    def acts(self, now: float) -> bool:
        return now < self.valid_until


@given(
    st.lists(st.tuples(st.integers(0, 2), st.floats(0, 90), st.floats(0, 30)), min_size=1, max_size=60),
    st.tuples(*[st.floats(-1e6, 1e6)] * 3),
)
def test_two_operators_never_act_in_one_namespace(
    turns: list[tuple[int, float, float]], offsets: tuple[float, float, float]
) -> None:
    """Whichever operator comes, stops for a while or is slow: at each moment at most one believes that it owns it."""
    operators = [Replayed(f"ns/{n}", offset) for n, offset in enumerate(offsets)]
    store: dict[str, Any] = {}
    now = 0.0
    for which, pause, delay in turns:
        now += pause
        now = operators[which].turn(store, now, delay)
        assert sum(each.acts(now) for each in operators) <= 1
    now += ownership.TIMING.duration
    for _ in range(2):
        now += ownership.TIMING.duration + 1  # a clock that began elsewhere rounds
        operators[0].turn(store, now, 0.0)
    assert operators[0].acts(now), "whoever is left gets it"
