"""Windows of wall-clock time, on plain days, over midnight, and where clocks are changed."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.resources import windows
from ocr_operator.resources.windows import WEEK, Day, Window

BERLIN = ZoneInfo("Europe/Berlin")
"""Clocks go from 02:00 to 03:00 on 2026-03-29 and from 03:00 to 02:00 on 2026-10-25."""
MINUTE = timedelta(minutes=1)


def window(start: str, end: str, *days: Day, zone: str = "Europe/Berlin") -> Window:
    return Window(start=start, end=end, time_zone=zone, days=days or None)


def at(text: str, fold: int = 0) -> datetime:
    """A wall-clock time in Berlin as a moment."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).astimezone(UTC)


OFFICE = window("08:00", "18:00", "Mon", "Tue", "Wed", "Thu", "Fri")


@pytest.mark.parametrize(
    ("moment", "open_"),
    [
        ("2026-11-25T07:59:59", False),
        ("2026-11-25T08:00:00", True),
        ("2026-11-25T17:59:59", True),
        ("2026-11-25T18:00:00", False),
        ("2026-11-28T12:00:00", False),
    ],
)
def test_office_hours_are_those_of_their_zone(moment: str, open_: bool) -> None:
    assert windows.is_open([OFFICE], at(moment)) is open_


def test_next_change_is_the_opening_after_the_weekend() -> None:
    assert windows.next_change([OFFICE], at("2026-11-27T12:00")) == at("2026-11-27T18:00")
    assert windows.next_change([OFFICE], at("2026-11-27T18:00")) == at("2026-11-30T08:00")


def test_window_over_midnight_belongs_to_the_day_it_starts_on() -> None:
    night = window("22:00", "06:00", "Fri")
    assert windows.is_open([night], at("2026-11-27T23:00"))
    assert windows.is_open([night], at("2026-11-28T05:59"))
    assert not windows.is_open([night], at("2026-11-27T05:00")), "that night began on a Thursday"
    assert windows.next_change([night], at("2026-11-27T23:00")) == at("2026-11-28T06:00")


def test_end_of_the_day_is_midnight() -> None:
    evening = window("18:00", "24:00", "Wed")
    assert windows.is_open([evening], at("2026-11-25T23:59"))
    assert windows.next_change([evening], at("2026-11-25T20:00")) == at("2026-11-26T00:00")


def test_windows_that_touch_are_one() -> None:
    both = [window("08:00", "12:00"), window("12:00", "18:00")]
    assert windows.next_change(both, at("2026-11-25T09:00")) == at("2026-11-25T18:00")


def test_window_that_never_closes_has_no_next_change() -> None:
    assert windows.next_change([window("00:00", "24:00")], at("2026-11-25T09:00")) is None
    assert windows.next_change([], at("2026-11-25T09:00")) is None


class TestSpring:
    """02:00 to 03:00 doesn't exist."""

    def test_window_that_starts_in_the_gap_opens_at_the_jump(self) -> None:
        assert windows.next_change([window("02:30", "04:00")], at("2026-03-29T01:00")) == at(
            "2026-03-29T03:00"
        )

    def test_window_within_the_gap_waits_for_the_next_day(self) -> None:
        assert windows.next_change([window("02:10", "02:50")], at("2026-03-29T01:00")) == at(
            "2026-03-30T02:10"
        )

    def test_weekly_window_within_the_gap_waits_for_the_next_week(self) -> None:
        inside = [window("02:10", "02:50", "Sun")]
        assert windows.next_change(inside, at("2026-03-28T20:00")) == at("2026-04-05T02:10")


class TestAutumn:
    """02:00 to 03:00 comes twice."""

    def test_window_within_the_hour_is_open_twice(self) -> None:
        inside = [window("02:15", "02:45")]
        changes = [at("2026-10-25T01:00")]
        while len(changes) < 5:
            change = windows.next_change(inside, changes[-1])
            assert change is not None
            changes.append(change)
        first, second = at("2026-10-25T02:15"), at("2026-10-25T02:15", fold=1)
        assert second - first == timedelta(hours=1)
        assert changes[1:] == [first, first + 30 * MINUTE, second, second + 30 * MINUTE]

    def test_window_that_starts_within_the_hour_closes_while_it_is_repeated(self) -> None:
        late = [window("02:30", "05:00")]
        assert windows.next_change(late, at("2026-10-25T02:40")) == at("2026-10-25T02:00", fold=1)


@pytest.mark.parametrize(
    "name", ["Mars/Base", "America", "zone.tab", "../etc/passwd", "", "x" * 300, "a\0b", "\udcff"]
)
def test_unknown_zone_is_none_and_its_window_never_open(name: str) -> None:
    assert windows.zone(name) is None
    assert not windows.is_open([window("00:00", "24:00", zone=name)], at("2026-11-25T09:00"))
    assert windows.next_change([window("00:00", "12:00", zone=name)], at("2026-11-25T09:00")) is None


ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",  # clocks change by half an hour
    "Asia/Kathmandu",  # 45 minutes off
    "Pacific/Apia",  # skipped a whole day in 2011
    "Africa/Casablanca",  # changes around Ramadan
]
TIMES = st.builds("{:02}:{:02}".format, st.integers(0, 23) | st.integers(1, 3), st.integers(0, 59))
"""Every other one in the hours in which clocks are changed."""


@st.composite
def some_windows(draw: st.DrawFn) -> list[Window]:
    def one() -> Window:
        start = draw(TIMES)
        end = draw((TIMES | st.just("24:00")).filter(lambda end: end != start))
        days = draw(st.none() | st.lists(st.sampled_from(WEEK), min_size=1, unique=True).map(tuple))
        return Window(start=start, end=end, time_zone=draw(st.sampled_from(ZONES)), days=days)

    return [one() for _ in range(draw(st.integers(1, 2)))]


CHANGES_OF_CLOCKS = [
    datetime(2026, 3, 29, 1, tzinfo=UTC),
    datetime(2026, 10, 25, 1, tzinfo=UTC),
    datetime(2026, 3, 8, 7, tzinfo=UTC),
    datetime(2026, 4, 4, 15, tzinfo=UTC),
    datetime(2011, 12, 30, 10, tzinfo=UTC),
    datetime(2026, 2, 15, 2, tzinfo=UTC),
]
MOMENTS = st.one_of(
    st.builds(
        lambda change, minutes: change + timedelta(minutes=minutes),
        st.sampled_from(CHANGES_OF_CLOCKS),
        st.integers(-2000, 2000) | st.integers(-90, 90),
    ),
    st.datetimes(datetime(2005, 1, 1), datetime(2036, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)


def shows(moment: datetime, each: Window) -> bool:
    """The rule in other words: compare what a clock on the wall shows, as text."""
    wall = moment.astimezone(ZoneInfo(each.time_zone))
    today, clock = wall.strftime("%a"), wall.strftime("%H:%M")
    eve = (wall.replace(tzinfo=None) - timedelta(days=1)).strftime("%a")
    days = each.days or WEEK
    if each.start < each.end:
        return today in days and each.start <= clock < each.end
    return (today in days and clock >= each.start) or (eve in days and clock < each.end)


@given(some_windows(), MOMENTS)
def test_open_is_what_the_clock_on_the_wall_shows(some: list[Window], moment: datetime) -> None:
    assert windows.is_open(some, moment) is any(shows(moment, each) for each in some)


NEAR = st.builds("{:02}:{:02}".format, st.integers(1, 3), st.sampled_from([0, 15, 30, 45]))
BERLIN_NIGHTS = st.builds(
    lambda start, end: [Window(start=start, end=end, time_zone="Europe/Berlin")], NEAR, NEAR
).filter(lambda some: some[0].start != some[0].end)
NEAR_CHANGES = st.builds(
    lambda change, minutes: change + timedelta(minutes=minutes),
    st.sampled_from(CHANGES_OF_CLOCKS[:2]),
    st.integers(-150, 150),
)


@given(st.tuples(some_windows(), MOMENTS) | st.tuples(BERLIN_NIGHTS, NEAR_CHANGES))
def test_next_change_is_the_first_minute_that_differs(case: tuple[list[Window], datetime]) -> None:
    """Minute by minute: all clocks of these zones change at whole minutes."""
    some, moment = case
    moment = moment.replace(second=0, microsecond=0)
    current = any(shows(moment, each) for each in some)
    change = windows.next_change(some, moment)
    minutes = (moment + MINUTE * count for count in range(1, 3 * 24 * 60))
    expected = next((each for each in minutes if any(shows(each, one) for one in some) is not current), None)
    if expected is not None:
        assert change == expected
    else:
        assert change is None or change >= moment + timedelta(days=3)


@given(some_windows(), MOMENTS)
def test_order_of_windows_is_irrelevant(some: list[Window], moment: datetime) -> None:
    turned = list(reversed(some))
    assert windows.next_change(turned, moment) == windows.next_change(some, moment)
