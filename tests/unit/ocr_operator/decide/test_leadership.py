import re
from datetime import UTC, datetime

from ocr_operator.decide import leadership
from ocr_operator.decide.leases import Create, Take, Wait

NOW = datetime(2026, 1, 1, tzinfo=UTC)
A, B = "ocr-operator-7c9-aaaaa", "ocr-operator-7c9-bbbbb"


def lease(spec: dict[str, object], version: str = "1") -> dict[str, object]:
    return {"metadata": {"resourceVersion": version}, "spec": spec}


def test_first_replica_creates_the_lease_and_keeps_when_it_got_it() -> None:
    assert leadership.decide(A, None, 0.0) == Create()
    first = leadership.spec(A, None, NOW)
    seen = leadership.sight(None, lease(first), 0.0)
    assert leadership.decide(A, seen, 0.0) == Take("1", ours=True)
    later = leadership.spec(A, seen, NOW.replace(hour=1))
    assert (later["acquireTime"], later["leaseTransitions"]) == (first["acquireTime"], 0)
    assert later["renewTime"] > first["renewTime"]


def test_times_have_six_digits_also_where_they_are_zeros() -> None:
    spec = leadership.spec(A, None, NOW)
    assert re.fullmatch(r"2026-01-01T00:00:00\.000000Z", spec["renewTime"])


def test_another_replica_takes_it_when_it_stood_still_for_as_long_as_it_lasts() -> None:
    seen = leadership.sight(None, lease(leadership.spec(A, None, NOW)), 100.0)
    assert leadership.decide(B, seen, 114.5) == Wait(A, 0.5)
    assert leadership.decide(B, seen, 115.0) == Take("1", ours=False)
    taken = leadership.spec(B, seen, NOW)
    assert (taken["holderIdentity"], taken["leaseTransitions"]) == (B, 1)


def test_lease_that_was_given_back_is_taken_at_once() -> None:
    seen = leadership.sight(None, lease(leadership.spec(A, None, NOW)), 100.0)
    back = leadership.sight(None, lease(leadership.given_back(seen, NOW)), 100.0)
    assert leadership.decide(B, back, 100.0) == Take("1", ours=False)
    assert leadership.spec(B, back, NOW)["leaseTransitions"] == 1


def test_lease_of_a_person_is_read() -> None:
    seen = leadership.sight(None, lease({"leaseTransitions": -5, "acquireTime": 7, "holderIdentity": A}), 0.0)
    assert (seen.transitions, seen.seconds) == (0, leadership.TIMING.duration)
    assert leadership.spec(B, seen, NOW)["leaseTransitions"] == 1
