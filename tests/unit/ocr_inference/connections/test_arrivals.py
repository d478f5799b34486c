"""In which order connections are taken, and which ones are turned away."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.connections import arrivals
from ocr_inference.connections.arrivals import PATIENCE_SECONDS, Arrivals

MOST = 8


def waiting(*sources: str, most: int = MOST) -> Arrivals[str]:
    """Arrivals in this order, each known by its source and its number."""
    found, numbers = Arrivals[str](most), Counter[str]()
    for each in sources:
        found.put(each, f"{each}{numbers[each]}", 0.0)
        numbers[each] += 1
    return found


def taken(found: Arrivals[str]) -> list[str]:
    order = []
    while (key := found.take()) is not None:
        order.append(key)
    return order


def test_sources_have_turns() -> None:
    assert taken(waiting("a", "a", "a", "b", "c", "b")) == ["a0", "b0", "c0", "a1", "b1", "a2"]


def test_last_of_the_source_that_has_most_is_turned_away() -> None:
    found = waiting("a", "a", "b", "a", most=3)
    assert found.turn_away() == "a2"
    assert found.turn_away() is None
    assert taken(found) == ["a0", "b0", "a1"]


def test_what_arrives_at_once_is_waited_for() -> None:
    found = waiting(*"a" * MOST)
    assert found.patience(0.25) == pytest.approx(PATIENCE_SECONDS - 0.25)
    found.take()
    assert found.patience(0.25) == 0, "there is room"
    found.put("a", "again", 0.5)
    assert found.patience(PATIENCE_SECONDS) == 0, "they have kept all places for so long"
    for _ in range(MOST // 2):
        found.take()
    for number in range(MOST // 2):
        found.put("b", str(number), 2.0)
    assert found.patience(2.0) == PATIENCE_SECONDS, "half of the places were free"


def test_nothing_waits_where_nothing_has_arrived() -> None:
    found = Arrivals[str](MOST)
    assert (found.take(), found.turn_away(), found.patience(0.0)) == (None, None, 0.0)


@given(st.lists(st.sampled_from("abcd"), max_size=40), st.integers(0, 40))
def test_one_connection_waits_for_one_of_each_other_source(sources: list[str], behind: int) -> None:
    found = waiting(*sources, "probe", *sources[:behind], most=100)
    assert taken(found).index("probe0") <= len(set(sources))


@given(st.lists(st.sampled_from("abcd") | st.none(), max_size=200))
def test_nothing_is_lost_or_kept(steps: list[str | None]) -> None:
    """A step puts one in and turns away what is too much, or takes one out."""
    found, inside = Arrivals[int](MOST), dict[int, str]()
    for number, step in enumerate(steps):
        if step is None:
            key = found.take()
        else:
            found.put(step, number, 0.0)
            inside[number] = step
            shares = Counter(inside.values())
            key = found.turn_away()
            assert key is None or shares[inside[key]] == max(shares.values())
        if key is not None:
            del inside[key]
        assert len(found) == len(inside) <= MOST


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.1", "::ffff:10.0.0.1", True),
        ("2001:db8::1", "2001:db8::ffff:1:2:3", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_addresses_of_one_source(one: str, other: str, same: bool) -> None:
    assert (arrivals.source(one) == arrivals.source(other)) is same
