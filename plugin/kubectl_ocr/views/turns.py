"""What `kubectl ocr why` says besides the placement: why a pod gets requests, and why its models are where they are.

A pure function of what was read and of the time. The sentences are the operator's own: of the pod's annotation
`ocr-operator.io/routing`, and of the Events about its resource, which the cluster keeps for an hour.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec
from msgspec import UNSET

from kubectl_ocr import text
from kubectl_ocr.objects import sent
from kubectl_ocr.objects.cluster import Event
from kubectl_ocr.objects.pod import Pod
from kubectl_ocr.objects.resource import ModelStatus, Resource
from kubectl_ocr.text import Cell, Item
from ocr_wire.routing import Record
from ocr_wire.states import Location, State

YIELDED: Final = "GpuMemoryYielded"
_TURNS: Final = frozenset({YIELDED, "GpuMemoryFreed", "GpuMemoryShort"})
"""Reasons of Events about GPU memory that models take turns on."""
MAX_TURNS: Final = 5
_SKEW: Final = timedelta(seconds=10)
"""Times of Events are whole seconds, and of the operator's clock."""


class Requests(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Whether the Service sends requests to the pod."""

    awake: bool
    why: str
    since: datetime | None = None


class ModelReason(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    name: str
    state: str
    location: str
    why: str
    """Empty where nothing that is recorded explains it."""


class Turn(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Event about GPU memory that a model of the pod gave, got or lacks."""

    reason: str
    at: datetime
    why: str


def requests(pod: Pod) -> Requests | None:
    """Return why the pod gets requests, or none; None of a pod that waits for its place."""
    if pod.gated:
        return None
    found = sent.awake_reason(pod)
    if not isinstance(found, Record):
        recorded = "the operator recorded no reason" if found is None else found.message
        return Requests(awake=pod.awake, why=text.clean(recorded))
    if found.awake is not None and found.awake != pod.awake:
        said = "somebody else changed its label: the operator sets it back, if it runs"
        return Requests(awake=pod.awake, why=said)
    why = text.clean(found.why) or "the operator recorded no reason"
    return Requests(awake=pod.awake, why=why, since=found.time)


def turns(pod: Pod, events: Sequence[Event]) -> tuple[Turn, ...]:
    """Return what happened to the GPU memory of the pod's models, the last first."""
    of_it = re.compile(rf" of {re.escape(pod.metadata.namespace)}/{re.escape(pod.metadata.name)}(?![-.\w])")
    found = [
        Turn(reason=each.reason, at=each.time, why=text.clean(each.message))
        for each in events
        if each.reason in _TURNS and each.time is not None and of_it.search(each.message[:2048])
    ]
    return tuple(sorted(found, key=lambda each: (each.at, each.why), reverse=True)[:MAX_TURNS])


def models(
    pod: Pod, resource: Resource | None, listed: Sequence[Turn], now: datetime
) -> tuple[ModelReason, ...]:
    """Return where the pod's models are, with the reasons that are known."""
    reported = [
        model
        for each in (resource.status.pods if resource is not None else ())
        if each.name == pod.metadata.name
        for model in each.models
    ]
    return tuple(
        ModelReason(
            name=each.name,
            state=each.state,
            location=each.location,
            why=_model(each, pod, resource, listed, now),
        )
        for each in reported
        if resource is not None
    )


def _model(reported: ModelStatus, pod: Pod, resource: Resource, listed: Sequence[Turn], now: datetime) -> str:
    since = reported.idle_since
    if reported.state == State.READY:
        return "in use, or until a moment ago" if since is None else f"idle for {_since(since, now)}"
    if reported.state not in {State.OFFLOADED, State.UNLOADED}:
        return ""  # on its way, or failed: the state says it
    gone = next((each for each in listed if _gave(each, reported, pod)), None)
    if gone is not None:
        return f"made way {_since(gone.at, now)} ago for {gone.why.partition(' for ')[2] or 'another model'}"
    values = sent.sent_values(pod, {reported.name})
    after = sent.idle(resource, values, reported.name)[0].offload_after_seconds
    if since is None or after is UNSET or after < 0:
        return ""
    if (now - since).total_seconds() >= after:
        return f"idle for {_since(since, now)}; leaves the GPU after {text.duration(after)} without a request"
    others = "by a control, or for another model of its pod"
    return f"not on the GPU though idle for {_since(since, now)} only, of {text.duration(after)}: {others}"


def _gave(turn: Turn, reported: ModelStatus, pod: Pod) -> bool:
    """Return whether this turn is why the model isn't on the GPU: nothing asked for it since."""
    mine = turn.why.startswith(f"{reported.name} of {pod.metadata.namespace}/{pod.metadata.name} ")
    since = reported.idle_since
    return turn.reason == YIELDED and mine and (since is None or turn.at + _SKEW >= since)


def _since(at: datetime, now: datetime) -> str:
    return text.duration((now - at).total_seconds())


def render(
    asked: Requests | None,
    located: Sequence[ModelReason],
    listed: Sequence[Turn],
    now: datetime,
    paint: text.Paint = text.plain,
) -> list[str]:
    lines = []
    if asked is not None:
        state = "awake" if asked.awake else "asleep"
        since = "" if asked.since is None else f" since {_since(asked.since, now)}"
        lines.append(f"  {state:<10}{f'{since.strip()}: ' if since else ''}{asked.why}")
    if located:
        items = [
            Item(
                [
                    text.clean(each.name, 63),
                    text.clean(each.state, 32),
                    Cell(text.clean(each.location, 32), text.GOOD if each.location == Location.GPU else ""),
                    each.why or "-",
                ]
            )
            for each in located
        ]
        table = text.table(("MODEL", "STATE", "LOCATION", "WHY"), items, paint)
        lines += ["  models", *(f"    {line}" for line in table.splitlines())]
    if listed:
        lines.append("  GPU memory")
        lines += [f"    {_since(each.at, now)} ago: {each.why}" for each in listed]
    return lines
