"""Kubernetes Events, on transitions only and from the conditions alone, so that the two can't disagree.

Models that move between GPU, host memory and disk are no Events: with short idle timeouts that is daily life,
it stands in `status.pods`, in the pods' logs and in their metrics.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from ocr_operator.decide.placement import Placement
from ocr_operator.decide.status.aggregate import previous
from ocr_operator.resources import live_override
from ocr_operator.resources.reading import mapping
from ocr_wire import names
from ocr_wire.conditions import CONDITIONS

MAX_FAILURES: Final = 3
"""Events of failures in one pass; a hundred pods that fail alike are one story, in `Degraded`."""
MAX_PLACED: Final = 1000
"""Characters of an Event about several placements; it may have 1,024."""
MAX_CHANGES: Final = 4
"""Fields that an Event about changed settings names."""
_SETTERS: Final = {
    live_override.ORIGIN: "OverrideChangedSettings",
    names.POLICY_KIND: "PolicyChangedSettings",
}
"""What sets live settings besides the resource's spec, as its status names it → the reason of the Event."""
_GOOD: Final = {each.type: each.healthy for each in CONDITIONS if each.is_news}
"""The healthy side of each condition whose changes are news; `Progressing` is neither good nor bad."""
_RECOVERED: Final = {"Degraded": "Recovered", "Stalled": "Resumed", "Placed": "Placed"}
"""Good news only after bad news, and under these names: `AsExpected` says nothing in an Event."""
_WARN: Final = frozenset({"Degraded", "Placed", "Stalled"})
"""Starting up or waiting for an echo is no warning; if anything is wrong, `Degraded` says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def events(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    placements: Iterable[Placement] = (),
    moves: Sequence[str] = (),
    announced: tuple[int, int] | None = None,
) -> list[Event]:
    """List the Events of what changed between two statuses; `announced` is what was `applied` in the last such Event:
    a pod that can't be asked for a while, or another operator process, is no news.

    `placements` are those made (and accepted) in this pass, `moves` the changes of the awake set since the last such
    Event: they make one.

    1. placements, each with its why, several in one  2. a condition that turned bad, or is bad for a new reason
    3. one that turned good, live settings that ready pods have taken up included (a pod begins with the newest: that is
    no news)  4. a failure that a pod reports  5. the awake set  6. effective values that policies changed, all in one,
    and those that an override changed  7. an override that isn't used
    """
    found = _placed(placements)
    old, new = previous(before), previous(after)
    renewed = _revision(before) != _revision(after)
    for kind, good in _GOOD.items():
        was, now = old.get(kind, {}), new.get(kind, {})
        if _bad(now, good):
            if kind in _WARN and (not _bad(was, good) or was.get("reason") != now.get("reason")):
                found.append(_event("Warning", str(now.get("reason")), now))
            elif kind == "Ready" and was.get("status") == good:
                found.append(_event("Normal", "NotReady", now))
        elif now.get("status") == good:
            if kind in _RECOVERED:
                news = _bad(was, good)
            else:
                news = was.get("status") != good or (kind == "ConfigApplied" and renewed)
            if kind == "ConfigApplied":
                news = news and applied(after) != announced and was.get("reason") != "NoReadyPods"
            if news:
                found.append(_event("Normal", _RECOVERED.get(kind, kind), now))
    rest = _failures(before, after) + _moved(moves) + _changes(before, after) + _rejected(before, after)
    return list(dict.fromkeys(found + rest))


def applied(status: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the generation and revision that every ready pod has echoed, if they all have."""
    found, revision = previous(status).get("ConfigApplied", {}), _revision(status)
    generation = found.get("observedGeneration")
    if found.get("status") != "True" or not isinstance(generation, int) or not isinstance(revision, int):
        return None
    return generation, revision


def _placed(placements: Iterable[Placement]) -> list[Event]:
    """Tell of placements in as few Events as their length allows."""
    messages: list[str] = []
    for each in sorted(placements, key=lambda each: each.pod):
        sentence = f"{each.pod.rpartition('/')[2]}: {each.why}"
        if messages and len(messages[-1]) + len(sentence) + 2 <= MAX_PLACED:
            messages[-1] += f"; {sentence}"
        else:
            messages.append(sentence)
    return [Event(type="Normal", reason="PodPlaced", message=each) for each in messages]


def _moved(moves: Sequence[str]) -> list[Event]:
    if not moves:
        return []
    earlier = f"; {len(moves) - 1} more before" if len(moves) > 1 else ""
    return [Event(type="Normal", reason="AwakeSetChanged", message=moves[-1] + earlier)]


def _bad(condition: Mapping[str, Any], good: str) -> bool:
    """`Pending` (a pod that is about to be placed) is nothing bad, and neither is `Unknown`."""
    return condition.get("status") in {"True", "False"} - {good} and condition.get("reason") != "Pending"


def _event(kind: Literal["Normal", "Warning"], reason: str, condition: Mapping[str, Any]) -> Event:
    return Event(type=kind, reason=reason, message=str(condition.get("message")) or reason)


def _failures(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Event]:
    known, found = _last_failures(before), _last_failures(after)
    return [
        Event(
            type="Warning",
            reason="PodFailure",
            message=f"{pod}: {failure.get('reason')}: {failure.get('message')}",
        )
        for pod, failure in sorted(found.items())
        if failure != known.get(pod)
    ][:MAX_FAILURES]


def _last_failures(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    listed = status.get("pods")
    return {
        str(pod.get("name")): pod["lastFailure"]
        for pod in (listed if isinstance(listed, list) else [])
        if isinstance(pod, Mapping) and isinstance(pod.get("lastFailure"), Mapping)
    }


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Event]:
    """List the changes of effective values that came by policies and overrides: the resource's spec doesn't show them.

    A change in which both have a part is the override's.
    """
    was, now = _sources(before), _sources(after)
    changes: dict[str, list[str]] = {}
    for field, (value, origin) in now.items():
        old_value, old_origin = was.get(field, (value, origin))
        kinds = {origin.partition("/")[0], old_origin.partition("/")[0]}
        reason = next((reason for kind, reason in _SETTERS.items() if kind in kinds), None)
        if value != old_value and reason is not None:
            by = origin if origin.partition("/")[0] in _SETTERS else f"{origin}, no longer {old_origin}"
            changes.setdefault(reason, []).append(f"{field} {old_value} → {value} ({by})")
    return [
        Event(type="Normal", reason=reason, message=_shortened(changes[reason]))
        for reason in _SETTERS.values()
        if reason in changes
    ]


def _shortened(changes: Sequence[str]) -> str:
    more = len(changes) - MAX_CHANGES
    return ", ".join(changes[:MAX_CHANGES]) + (f" and {more} more" if more > 0 else "")


def _rejected(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Event]:
    was, now = _override(before), _override(after)
    if not now.get("rejected") or now == was:
        return []
    return [Event(type="Warning", reason="OverrideRejected", message=str(now["rejected"]))]


def _override(status: Mapping[str, Any]) -> Mapping[str, Any]:
    return mapping(mapping(status, "liveSettings"), "override")


def _sources(status: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Field → its value and where it comes from."""
    listed = mapping(status, "liveSettings").get("sources")
    return {
        str(each.get("field")): (str(each.get("value")), str(each.get("from")))
        for each in (listed if isinstance(listed, list) else [])
        if isinstance(each, Mapping)
    }


def _revision(status: Mapping[str, Any]) -> object:
    return mapping(status, "liveSettings").get("revision")
