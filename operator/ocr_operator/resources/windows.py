"""Weekly windows of time: whether one is open, and when that changes next.

A window is open while the wall clock of its time zone shows a time within it; that is the whole rule, also on the
days on which clocks are changed:

- in spring, a window that starts within the hour that doesn't exist opens when the clock jumps over its start;
  one that lies wholly within that hour doesn't open on that day;
- in autumn, what lies within the hour that comes twice is open twice.

Zones come from the system's database, else from the package `tzdata`.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from ocr_wire.text import whole

Day = Literal["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
WEEK: Final[tuple[Day, ...]] = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

START_PATTERN: Final = whole(r"^([01][0-9]|2[0-3]):[0-5][0-9]$")
END_PATTERN: Final = whole(r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$")
ZONE_PATTERN: Final = whole(r"^[A-Za-z][A-Za-z0-9_+/-]*$")

HORIZON: Final = timedelta(days=8)
"""How far `next_change` looks: a week, and a day for a window that a change of clocks swallows."""
_STEP: Final = timedelta(hours=6)
"""Zones keep an offset far longer than that, so no change of clocks hides between two steps."""
_SECOND: Final = timedelta(seconds=1)


class Window(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """From `start` (inclusive) to `end` (exclusive); an `end` before the start is on the day after."""

    start: Annotated[str, msgspec.Meta(max_length=5, pattern=START_PATTERN)]
    end: Annotated[str, msgspec.Meta(max_length=5, pattern=END_PATTERN)]
    time_zone: Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=ZONE_PATTERN)] = "UTC"
    days: Annotated[tuple[Day, ...], msgspec.Meta(min_length=1, max_length=7)] | None = None
    """Those on which it starts; None is every day."""


def zone(name: str) -> tzinfo | None:
    """The zone of that IANA name; None if there is none."""
    try:
        return ZoneInfo(name)
    except (
        ZoneInfoNotFoundError,
        ValueError,
        OSError,
    ):  # ValueError: no zone file; OSError: a folder of them
        return None


def is_open(windows: Iterable[Window], now: datetime) -> bool:
    """Return whether any of them is open. One whose zone is unknown never is."""
    return any(_open(each, now) for each in windows)


def next_change(windows: Iterable[Window], now: datetime) -> datetime | None:
    """The first moment after `now` at which `is_open` is no longer what it is; None if not within `HORIZON`."""
    windows = tuple(windows)
    current = is_open(windows, now)
    moments = {moment for each in windows for moment in _moments(each, now)}
    return next((each for each in sorted(moments) if each > now and is_open(windows, each) != current), None)


def _open(window: Window, now: datetime) -> bool:
    place = zone(window.time_zone)
    if place is None:
        return False
    wall = now.astimezone(place)
    shown, start, end = wall.hour * 60 + wall.minute, _minutes(window.start), _minutes(window.end)
    days = window.days or WEEK
    today, yesterday = WEEK[wall.weekday()], WEEK[wall.weekday() - 1]
    if start < end:
        return today in days and start <= shown < end
    return (today in days and shown >= start) or (yesterday in days and shown < end)


def _moments(window: Window, now: datetime) -> Iterator[datetime]:
    """All moments at which the window may open or close: its own times, and changes of clocks."""
    place = zone(window.time_zone)
    if place is None:
        return
    first = now.astimezone(place).date() - timedelta(days=1)
    for number in range(HORIZON.days + 2):
        day = first + timedelta(days=number)
        for minutes in (_minutes(window.start), _minutes(window.end)):
            yield from _instants(day + timedelta(days=minutes // 1440), minutes % 1440, place)
    began = now
    while began < now + HORIZON:
        ended = began + _STEP
        if _offset(began, place) != _offset(ended, place):
            yield _clock_change(began, ended, place)
        began = ended


def _instants(day: date, minutes: int, place: tzinfo) -> Iterator[datetime]:
    """The moments at which the wall clock shows that time: two of them where the hour comes twice."""
    for fold in (0, 1):
        yield datetime.combine(day, time(minutes // 60, minutes % 60, fold=fold), place).astimezone(UTC)


def _clock_change(before: datetime, after: datetime, place: tzinfo) -> datetime:
    """The first second of the new offset."""
    before, after = before.replace(microsecond=0), after.replace(microsecond=0)
    old = _offset(before, place)
    while after - before > _SECOND:
        middle = (before + (after - before) / 2).replace(microsecond=0)
        before, after = (middle, after) if _offset(middle, place) == old else (before, middle)
    return after


def _offset(moment: datetime, place: tzinfo) -> timedelta | None:
    return moment.astimezone(place).utcoffset()


def _minutes(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes)
