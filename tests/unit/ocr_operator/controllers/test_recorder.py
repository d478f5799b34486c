from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from ocr_operator.controllers.recorder import BURST, REFILL_SECONDS, Recorder
from ocr_operator.decide.status import Event
from ocr_operator.kube import api
from ocr_operator.metrics import Metrics
from tests.support import resources
from tests.support.fakekube import FakeKube

T0 = datetime(2026, 11, 23, 8, tzinfo=UTC)
PLACED = Event(type="Normal", reason="PodPlaced", message="on gpu-a")


class Desk:
    """A recorder whose clock the test turns."""

    def __init__(self, kube: FakeKube | None = None) -> None:
        self.kube = kube or FakeKube()
        self.now = T0
        self.set_by = timedelta()
        """By how much the wall clock was set."""
        self.recorder = Recorder(
            self.kube,
            now=lambda: self.now + self.set_by,
            time=self.elapsed,
            metrics=Metrics(CollectorRegistry()),
            instance="operator-1",
        )

    def elapsed(self) -> float:
        return (self.now - T0).total_seconds()

    async def record(self, event: Event = PLACED) -> None:
        await self.recorder.record(resources.make_body(), event)

    async def events(self) -> list[dict[str, Any]]:
        return [dict(each) for each in await self.kube.find(api.EVENT)]


async def test_event_names_the_resource_and_the_operator() -> None:
    desk = Desk()
    await desk.record()

    [event] = await desk.events()
    assert event["involvedObject"]["uid"] == "uid-of-invoices"
    assert (event["type"], event["reason"], event["message"]) == ("Normal", "PodPlaced", "on gpu-a")
    assert (event["count"], event["lastTimestamp"]) == (1, "2026-11-23T08:00:00Z")
    assert event["reportingInstance"] == "operator-1"


async def test_a_wall_clock_that_is_set_back_silences_no_event() -> None:
    desk = Desk()
    await desk.record()
    desk.set_by = -timedelta(hours=1)
    desk.now += timedelta(minutes=2)
    await desk.record()
    [event] = await desk.events()
    assert (event["count"], event["lastTimestamp"]) == (2, "2026-11-23T07:02:00Z")
    for number in range(200):
        desk.now += timedelta(minutes=5)
        await desk.record(Event(type="Normal", reason="PodPlaced", message=f"on gpu-{number}"))
    assert desk.kube.calls["create"] == 201, "the budget is refilled"


async def test_repetition_raises_the_count_but_not_within_a_minute() -> None:
    desk = Desk()
    for _ in range(5):
        await desk.record()
    assert desk.kube.calls["create"] == 1
    assert not desk.kube.calls["patch"]

    desk.now += timedelta(minutes=2)
    await desk.record()

    [event] = await desk.events()
    assert (event["count"], event["lastTimestamp"]) == (2, "2026-11-23T08:02:00Z")


async def test_restarted_operator_finds_its_event() -> None:
    desk = Desk()
    await desk.record()

    await Desk(desk.kube).record()

    [event] = await desk.events()
    assert event["count"] == 2


async def test_event_that_expired_is_written_anew() -> None:
    desk = Desk()
    await desk.record()
    [event] = await desk.events()
    await desk.kube.delete(api.ref_of(event), uid=event["metadata"]["uid"])

    desk.now += timedelta(hours=2)
    await desk.record()

    assert len(await desk.events()) == 1


async def test_flood_is_cut_off_and_the_budget_comes_back() -> None:
    desk = Desk()
    for number in range(BURST * 2):
        await desk.record(Event(type="Warning", reason="PodFailure", message=str(number)))
    assert len(await desk.events()) == BURST

    desk.now += timedelta(seconds=REFILL_SECONDS)
    await desk.record()
    assert len(await desk.events()) == BURST + 1


@pytest.mark.parametrize("error", [api.Refused(api.Ref(api.EVENT, "", ""), 403, "no"), LookupError("odd")])
async def test_failure_costs_the_event_only(error: Exception) -> None:
    desk = Desk()

    def fail(verb: str, ref: api.Ref) -> None:
        raise error

    desk.kube.fail = fail
    await desk.record()


async def test_long_message_is_cut() -> None:
    desk = Desk()
    await desk.record(Event(type="Normal", reason="PodPlaced", message="x" * 5000))

    [event] = await desk.events()
    assert len(event["message"]) == 1024
