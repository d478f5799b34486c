"""The status itself: counts, pods, conditions with their times."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from ocr_operator.decide.status import conditions, pods
from ocr_operator.decide.status.conditions import Verdict
from ocr_operator.decide.status.types import Fault, Seen
from ocr_operator.resources import observed
from ocr_operator.resources.live_override import LiveOverride
from ocr_operator.resources.reading import count, mapping, text
from ocr_operator.resources.spec import InvalidSpec, OcrDeployment
from ocr_wire import names
from ocr_wire.text import clean

MAX_PODS: Final = 100
"""Pods listed, first by name: 100 with 8 models each are about 100 KiB of the 1.5 MiB of an object."""
MAX_MESSAGE: Final = 1024
_TEXTS: Final = ("type", "status", "reason", "message", "lastTransitionTime")
"""Fields of a condition that are strings."""
NOT_SEEN: Final = 0
"""The generation of a status that is about none yet; that of resources starts at 1."""


def aggregate(resource: OcrDeployment, seen: Seen, now: datetime, *, compared: bool = True) -> dict[str, Any]:
    """The complete status. `now` is used for what changed against `resource.status`, and to tell models that have
    just become idle from those that stay so: equal inputs give an equal status, and feeding the answer back changes
    nothing.

    `compared`: the children have been compared with what the resource says now. Before, only what live settings lead
    to is new, and the rest, with the generation that it is about, stays: a rollout that hasn't begun must not look
    finished.
    """
    view = conditions.view(resource, seen, now)
    verdicts = {kind: judge(view) for kind, judge in conditions.CONDITIONS.items()}
    before = resource.status
    about, phase = resource.generation, conditions.phase(view, verdicts)
    if not compared:
        verdicts = {"ConfigApplied": verdicts["ConfigApplied"]}
        about, phase = count(before, "observedGeneration", NOT_SEEN), text(before, "phase") or phase
    live = (seen.live.revision, seen.live.hash) if seen.live else None
    models = [model.name for model in resource.spec.models]
    entries = [pods.entry(each, resource.generation, live, models, now) for each in pods.current(seen.pods)]
    where = [model["location"] for entry in entries for model in entry["models"]]
    status: dict[str, Any] = {
        "observedGeneration": about,
        "phase": phase,
        "replicas": len(view.pods),
        "readyReplicas": len(view.ready),
        "awakeReplicas": sum(pods.awake(each) for each in view.ready),
        "selector": f"{names.LABEL_DEPLOYMENT}={resource.name}",
        "locations": {location: where.count(location) for location in pods.LOCATIONS},
        "pods": entries[:MAX_PODS],
        "conditions": renewed(before, verdicts, resource.generation, now),
    }
    if live:
        status["liveSettings"] = {
            "revision": live[0],
            "hash": live[1],
            "sources": [msgspec.to_builtins(each) for each in seen.sources],
        }
        if seen.override is not None and not seen.override.ended(now):
            status["liveSettings"]["override"] = _override(seen.override)
        if (reserved := mapping(before, "liveSettings").get("reserved")) is not None:
            status["liveSettings"]["reserved"] = reserved
        if status != before and seen.reserved:
            status["liveSettings"]["reserved"] = seen.reserved
    elif known := before.get("liveSettings"):
        status["liveSettings"] = known
    return status


def _override(override: LiveOverride) -> dict[str, str]:
    reported = {"hash": override.hash}
    if override.until is not None:
        reported["until"] = observed.stamp(override.until)
    if override.rejection:
        reported["rejected"] = override.rejection
    return reported


def stalled(body: Mapping[str, Any], problem: InvalidSpec, now: datetime) -> dict[str, Any]:
    """The status of a resource that doesn't parse: what was known before, and `Stalled=True`.

    Pods that run go on with the spec that they were made from; no pass touches them until the spec is mended.
    """
    meta, before = body.get("metadata"), body.get("status")
    reported = meta.get("generation") if isinstance(meta, Mapping) else None
    generation = reported if isinstance(reported, int) and reported >= 0 else 0
    before = before if isinstance(before, Mapping) else {}
    problems = f"{problem.field}: {problem.message}"
    verdicts = {
        "Ready": Verdict("False", "InvalidSpec", problems),
        "Progressing": Verdict("False", "InvalidSpec", "waits for a change of the resource"),
        "Stalled": Verdict("True", "InvalidSpec", problems),
    }
    name = meta.get("name") if isinstance(meta, Mapping) else None
    fixed = {
        "observedGeneration": generation,
        "phase": "Stalled",
        "conditions": renewed(before, verdicts, generation, now),
    }
    return {"selector": f"{names.LABEL_DEPLOYMENT}={name}", **before, **fixed}


def faulty(body: Mapping[str, Any], fault: Fault, now: datetime) -> dict[str, Any]:
    """The status of a resource on which the operator fails: what was known before, and what is wrong; the same again
    changes nothing. The generation that it is about stays: nothing shows that what the resource says now is done.
    """
    meta, before = body.get("metadata"), body.get("status")
    meta = meta if isinstance(meta, Mapping) else {}
    before = before if isinstance(before, Mapping) else {}
    known = previous(before)
    reported = known.get("Degraded", {})
    if (reported.get("reason"), reported.get("message")) == (fault.reason, fault.message):
        return dict(before)
    generation = meta.get("generation")
    bad = Verdict("True", fault.reason, fault.message)
    verdicts = {
        "Ready": Verdict("False", fault.reason, fault.message),
        "Progressing": bad,
        "Degraded": bad,
    }
    fixed = {
        "observedGeneration": count(before, "observedGeneration", NOT_SEEN),
        "phase": "Stalled" if known.get("Stalled", {}).get("status") == "True" else "Degraded",
        "conditions": renewed(before, verdicts, generation if isinstance(generation, int) else 0, now),
    }
    return {"selector": f"{names.LABEL_DEPLOYMENT}={meta.get('name')}", **before, **fixed}


def renewed(
    before: Mapping[str, Any],
    verdicts: Mapping[str, Verdict],
    generation: int,
    now: datetime,
    kinds: Iterable[str] = conditions.CONDITIONS,
) -> list[dict[str, Any]]:
    """`metav1.Condition`s in the order of `kinds`; a condition without a verdict stays as it was."""
    known = previous(before)
    answer = []
    for kind in kinds:
        old, verdict = known.get(kind, {}), verdicts.get(kind)
        if verdict is None:
            answer.extend([dict(old)] if old else [])
            continue
        since = old.get("lastTransitionTime")
        kept = old.get("status") == verdict.status and observed.time(since) is not None
        answer.append(
            {
                "type": kind,
                "status": verdict.status,
                "observedGeneration": generation,
                "lastTransitionTime": since if kept else observed.stamp(now),
                "reason": verdict.reason,
                "message": clean(verdict.message, MAX_MESSAGE),
            }
        )
    return answer


def previous(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The conditions of a status by type; whatever isn't one (the status may be edited by hand) is left out."""
    listed = status.get("conditions")
    return {
        each["type"]: each
        for each in (listed if isinstance(listed, list) else [])
        if isinstance(each, Mapping) and _is_condition(each)
    }


def _is_condition(entry: Mapping[str, Any]) -> bool:
    """Return whether the texts of an entry are some: what is read here is compared, and written back."""
    return "type" in entry and all(isinstance(entry.get(each, ""), str) for each in _TEXTS)
