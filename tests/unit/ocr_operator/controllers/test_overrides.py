"""Live overrides in passes: they count at once, end by themselves, are removed once, and a bad one stops nothing."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ocr_operator.kube import api
from ocr_wire import names
from ocr_wire.live_override import digest
from tests.support.stage import Stage, stage, until

T0 = datetime(2026, 11, 25, 12, tzinfo=UTC)
OFFLOAD = "idle.offloadAfterSeconds"
REF = api.Ref(api.OCR_DEPLOYMENT, "default", "invoices")


class Clock:
    """A wall clock that tests set."""

    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> datetime:
        return self.now


def text_of(end: datetime | None = None, **values: Any) -> str:
    return json.dumps({"values": values, **({"until": end.isoformat()} if end else {})})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def ours(clock: Clock) -> AsyncIterator[Stage]:
    """One resource with two pods, all settled."""
    async with stage(operator=False) as made:
        made.clock = clock
        await made.start(resync_seconds=3600.0)
        await made.apply(idle={"offloadAfterSeconds": 300})
        await until(lambda: made.holds("Ready") and made.applied(), what="all is well")
        yield made


async def annotate(ours: Stage, text: str | None) -> None:
    old = ours.resource()["metadata"].get("annotations") or {}
    new = {key: value for key, value in old.items() if key != names.ANNOTATION_LIVE_OVERRIDE}
    if text is not None:
        new[names.ANNOTATION_LIVE_OVERRIDE] = text
    await ours.kube.patch(REF, [{"op": "add", "path": "/metadata/annotations", "value": new}])


def annotation(ours: Stage) -> str | None:
    found: str | None = (ours.resource()["metadata"].get("annotations") or {}).get(
        names.ANNOTATION_LIVE_OVERRIDE
    )
    return found


def told(ours: Stage) -> dict[str, Any]:
    found: dict[str, Any] = ours.status()["liveSettings"].get("override", {})
    return found


def runs_by(ours: Stage, seconds: int) -> bool:
    """Every pod works by that timeout, and the condition says so."""
    return ours.applied() and all(
        pod.settings["values"]["idle"]["offloadAfterSeconds"] == seconds for pod in ours.pods.values()
    )


def events(ours: Stage, reason: str) -> list[str]:
    return [each["message"] for each in ours.objects(api.EVENT).values() if each["reason"] == reason]


async def test_pods_get_it_without_a_change_of_the_spec_and_lose_it_at_its_end(
    ours: Stage, clock: Clock
) -> None:
    generation, pods = ours.resource()["metadata"]["generation"], set(ours.pods)
    revision = ours.status()["liveSettings"]["revision"]
    end = T0 + timedelta(hours=2)
    text = text_of(end, idle={"offloadAfterSeconds": 30})
    await annotate(ours, text)
    await until(lambda: told(ours).get("hash") == digest(text) and runs_by(ours, 30), what="it counts")
    assert ours.source(OFFLOAD) == ("30", "override")
    assert told(ours) == {"hash": digest(text), "until": "2026-11-25T14:00:00Z"}
    assert ours.status()["liveSettings"]["revision"] == revision + 1
    assert ours.resource()["metadata"]["generation"] == generation
    await until(lambda: events(ours, "OverrideChangedSettings"), what="an Event")
    assert events(ours, "OverrideChangedSettings") == [f"{OFFLOAD} 300 → 30 (override)"]

    clock.now = end
    await ours.kube.patch(REF, [{"op": "add", "path": "/metadata/labels", "value": {"look": "again"}}])
    await until(lambda: annotation(ours) is None and runs_by(ours, 300), what="it has ended")
    assert ours.source(OFFLOAD) == ("300", "spec")
    assert told(ours) == {}
    assert ours.status()["liveSettings"]["revision"] == revision + 2
    assert set(ours.pods) == pods
    assert ours.resource()["metadata"]["labels"] == {"look": "again"}


async def test_it_is_removed_at_its_end_while_the_spec_is_invalid(ours: Stage, clock: Clock) -> None:
    """Its values stay in the pods, as all others do, until the spec is mended."""
    end = T0 + timedelta(hours=2)
    await annotate(ours, text_of(end, idle={"offloadAfterSeconds": 30}))
    await until(lambda: runs_by(ours, 30), what="it counts")
    deep: Any = {}
    for _ in range(100):
        deep = {"a": deep}
    await ours.apply(idle={"offloadAfterSeconds": 300}, template={"spec": deep})
    await until(lambda: ours.holds("Stalled"), what="the spec is invalid")
    clock.now = end
    await ours.kube.patch(REF, [{"op": "add", "path": "/metadata/labels", "value": {"look": "again"}}])
    await until(lambda: annotation(ours) is None, what="it has ended")
    await ours.apply(idle={"offloadAfterSeconds": 300})
    await until(lambda: runs_by(ours, 300), what="the spec is mended")


async def test_its_end_causes_the_pass(ours: Stage, clock: Clock) -> None:
    """Nothing happens but the time that passes."""
    end = T0 + timedelta(seconds=0.2)
    await annotate(ours, text_of(end, idle={"offloadAfterSeconds": 30}))
    await until(lambda: runs_by(ours, 30), what="it counts")
    clock.now = end
    await until(lambda: annotation(ours) is None and runs_by(ours, 300), what="it has ended")


async def test_one_that_makes_no_sense_is_named_and_stops_nothing(ours: Stage) -> None:
    text = text_of(None, idle={"offloadAfterSeconds": 30}, quoue={"limit": 1})
    await annotate(ours, text)
    await until(lambda: told(ours), what="the status names it")
    said = "values.quoue: unknown key; did you mean 'queue'?"
    assert told(ours) == {"hash": digest(text), "rejected": said}
    assert ours.condition("ConfigApplied")["message"].endswith(f"; the override isn't used: {said}")
    await until(lambda: events(ours, "OverrideRejected") == [said], what="an Event")
    assert runs_by(ours, 300)

    await ours.apply(idle={"offloadAfterSeconds": 200})
    await until(lambda: runs_by(ours, 200), what="the spec still counts")
    await annotate(ours, None)
    await until(lambda: not told(ours), what="mended")
    assert "override" not in ours.condition("ConfigApplied")["message"]


async def test_one_that_a_manifest_brings_back_is_left_and_has_no_effect(ours: Stage, clock: Clock) -> None:
    text = text_of(T0 - timedelta(hours=1), idle={"offloadAfterSeconds": 30})
    await annotate(ours, text)
    await until(lambda: annotation(ours) is None, what="it has ended before it came")
    await annotate(ours, text)
    await ours.apply(idle={"offloadAfterSeconds": 200})
    await until(lambda: runs_by(ours, 200), what="a pass with it")
    assert annotation(ours) == text
    assert ours.source(OFFLOAD) == ("200", "spec")


async def test_operator_without_the_right_to_remove_it_goes_on(ours: Stage) -> None:
    denied: list[str] = []

    def deny(verb: str, ref: api.Ref) -> None:
        if verb == "patch" and ref == REF:
            denied.append(verb)
            raise api.Refused(ref, 403, "forbidden")

    text = text_of(T0 - timedelta(hours=1), idle={"offloadAfterSeconds": 30})
    await ours.kill()
    await annotate(ours, text)
    ours.kube.fail = deny
    await ours.start()
    await until(lambda: denied, what="it was tried")
    ours.kube.fail = lambda verb, ref: None
    await ours.apply(idle={"offloadAfterSeconds": 200})
    await until(lambda: runs_by(ours, 200), what="the rest goes on")
    assert annotation(ours) == text


async def test_nothing_is_written_while_it_lasts(ours: Stage) -> None:
    await annotate(ours, text_of(T0 + timedelta(seconds=0.5), idle={"offloadAfterSeconds": 30}))
    await until(lambda: runs_by(ours, 30), what="it counts")
    await until(lambda: events(ours, "OverrideChangedSettings"), what="an Event")
    version, writes = ours.resource()["metadata"]["resourceVersion"], ours.kube.calls["apply_status"]
    # The clock stands still, so the end stays half a second away: passes come again and again.
    before = _passes(ours)
    await until(lambda: _passes(ours) >= before + 3, what="three passes")
    assert ours.resource()["metadata"]["resourceVersion"] == version
    assert ours.kube.calls["apply_status"] == writes


def _passes(ours: Stage) -> float:
    return ours.registry.get_sample_value("ocr_operator_reconcile_seconds_count") or 0.0
