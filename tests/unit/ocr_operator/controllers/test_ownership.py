import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from ocr_operator.controllers.ownership import Ownership
from ocr_operator.controllers.recorder import Recorder
from ocr_operator.decide.ownership import LEASE_NAME, Whose
from ocr_operator.kube import api
from ocr_operator.metrics import Metrics
from tests.support.fakekube import FakeKube

FIRST, SECOND = "ocr-system/first", "team/second"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
REF = api.Ref(api.LEASE, "default", LEASE_NAME)


class Desk:
    """One operator's ownership, with a clock that tests move."""

    def __init__(self, kube: FakeKube, identity: str, namespaces: tuple[str, ...] = ("default",)) -> None:
        self.wanted = namespaces
        self.seconds = random.Random(identity).uniform(0, 1e6)
        self.changes: list[str] = []
        self.metrics = Metrics(CollectorRegistry())
        clock: dict[str, Callable[[], Any]] = {
            "now": lambda: NOW + timedelta(seconds=self.seconds),
            "time": lambda: self.seconds,
        }
        recorder = Recorder(kube, metrics=self.metrics, instance="", **clock)
        self.ownership = Ownership(
            kube,
            recorder,
            identity=identity,
            namespaces=lambda: self.wanted,
            on_change=self.changes.append,
            metrics=self.metrics,
            **clock,
        )

    async def look(self, after: float = 0.0) -> Whose:
        self.seconds += after
        await self.ownership.look()
        return self.ownership.whose("default")


def events(kube: FakeKube) -> list[dict[str, Any]]:
    return [body for ref, body in kube._objects.items() if ref.kind == api.EVENT]


def away(verb: str, ref: api.Ref) -> None:
    raise api.Unavailable(ref, 0, "no route to host")


async def test_first_one_owns_and_the_other_says_so_once() -> None:
    kube = FakeKube()
    first, second = Desk(kube, FIRST), Desk(kube, SECOND)
    assert await first.look() is Whose.OURS
    for _ in range(10):
        assert await second.look(after=20) is Whose.OTHERS
        assert await first.look(after=20) is Whose.OURS
    assert (first.changes, second.changes) == (["default"], ["default"])
    [event] = events(kube)
    assert (event["metadata"]["namespace"], event["reason"]) == ("team", "NamespaceTaken")
    assert event["involvedObject"]["kind"] == "Deployment"
    assert FIRST in event["message"]
    assert second.ownership.note() == f"namespace default belongs to the operator {FIRST}"
    assert first.ownership.note() == ""
    assert second.metrics.registry.get_sample_value("ocr_operator_namespaces", {"state": "foreign"}) == 1


async def test_lease_that_is_not_renewed_is_taken_over_and_the_one_before_respects_that() -> None:
    kube = FakeKube()
    first, second = Desk(kube, FIRST), Desk(kube, SECOND)
    await first.look()
    await second.look()
    assert await second.look(after=59) is Whose.OTHERS
    assert await second.look(after=1) is Whose.OURS
    assert first.ownership.whose("default") is Whose.OURS, "for as long as its clock says so"
    first.seconds += 60
    assert first.ownership.whose("default") is Whose.UNKNOWN
    assert await first.look() is Whose.OTHERS


async def test_restarted_operator_owns_at_once() -> None:
    kube = FakeKube()
    await Desk(kube, FIRST).look()
    assert await Desk(kube, FIRST).look() is Whose.OURS


async def test_two_that_create_at_once_get_one_owner() -> None:
    kube = FakeKube()
    first, second = Desk(kube, FIRST), Desk(kube, SECOND)
    answers = set()
    for each in (first, second, first, second):
        answers.add((each, await each.look(after=2)))
    assert {state for each, state in answers if each is first} == {Whose.OURS}
    assert {state for each, state in answers if each is second} == {Whose.OTHERS}


async def test_owner_that_cannot_renew_stops_before_another_may_begin() -> None:
    kube = FakeKube()
    first = Desk(kube, FIRST)
    await first.look()
    kube.fail = away
    assert await first.look(after=20) is Whose.OURS
    assert await first.look(after=25) is Whose.UNKNOWN
    kube.fail = lambda verb, ref: None
    assert await first.look(after=2) is Whose.OURS
    assert first.changes == ["default", "default"], "passes that were left out are caught up"


async def test_lease_deleted_by_hand_is_written_again() -> None:
    kube = FakeKube()
    first = Desk(kube, FIRST)
    await first.look()
    await kube.delete(REF, uid=(await kube.get(REF))["metadata"]["uid"])
    await first.look(after=20)
    assert await first.look(after=2) is Whose.OURS
    assert (await kube.get(REF))["spec"]["holderIdentity"] == FIRST


async def test_lease_that_another_owner_held_until_it_was_deleted_is_waited_out() -> None:
    kube = FakeKube()
    first, second = Desk(kube, FIRST), Desk(kube, SECOND)
    await first.look()
    await second.look()
    await kube.delete(REF, uid=(await kube.get(REF))["metadata"]["uid"])
    assert await second.look(after=20) is Whose.OTHERS
    assert await second.look(after=59) is Whose.OTHERS
    assert await second.look(after=20) is Whose.OURS


async def test_lease_without_a_holder_is_taken_at_the_next_look() -> None:
    kube = FakeKube()
    first, second = Desk(kube, FIRST), Desk(kube, SECOND)
    await first.look()
    await second.look()
    await kube.patch(REF, [{"op": "replace", "path": "/spec/holderIdentity", "value": ""}])
    assert await second.look(after=20) is Whose.OURS


async def test_owner_that_could_not_renew_waits_out_a_lease_that_was_deleted_meanwhile() -> None:
    kube = FakeKube()
    first, second = Desk(kube, FIRST), Desk(kube, SECOND)
    await first.look()
    await second.look()
    assert await second.look(after=60) is Whose.OURS
    await kube.delete(REF, uid=(await kube.get(REF))["metadata"]["uid"])
    assert await first.look(after=60) is Whose.UNKNOWN
    assert first.ownership.foreign() == {}
    await second.look(after=20)
    assert await second.look(after=2) is Whose.OURS
    assert await first.look(after=20) is Whose.OTHERS


async def test_owner_writes_a_lease_that_was_deleted_meanwhile_at_once_while_no_other_can_have_taken_it() -> (
    None
):
    kube = FakeKube()
    first, second = Desk(kube, FIRST), Desk(kube, SECOND)
    await first.look()
    await second.look()
    kube.fail = away
    assert await first.look(after=50) is Whose.UNKNOWN
    await second.look(after=50)
    kube.fail = lambda verb, ref: None
    await kube.delete(REF, uid=(await kube.get(REF))["metadata"]["uid"])
    assert await first.look(after=9) is Whose.OURS
    assert await second.look(after=9) is Whose.OTHERS


async def test_operator_without_permission_goes_on_and_is_guarded_once_it_has_it() -> None:
    kube = FakeKube()
    first = Desk(kube, FIRST)

    def forbid(verb: str, ref: api.Ref) -> None:
        raise api.Refused(ref, 403, "forbidden")

    kube.fail = forbid
    assert await first.look() is Whose.UNGUARDED
    assert await first.look(after=20) is Whose.UNGUARDED
    kube.fail = lambda verb, ref: None
    assert await first.look(after=20) is Whose.OURS


async def test_operator_without_an_identity_takes_no_lease() -> None:
    kube = FakeKube()
    desk = Desk(kube, "")
    await desk.ownership.run()
    assert desk.ownership.whose("default") is Whose.UNGUARDED
    assert not kube.calls


async def test_namespace_that_nobody_asked_for_yet_is_unknown_until_it_was_looked_at() -> None:
    desk = Desk(FakeKube(), FIRST)
    assert desk.ownership.whose("default") is Whose.UNKNOWN
    assert await desk.look() is Whose.OURS


async def test_a_write_may_take_as_long_as_nobody_else_may_begin() -> None:
    desk = Desk(FakeKube(), FIRST)
    assert desk.ownership.seconds_left("default") == 0
    await desk.look()
    for later, left in ((0, 60), (44, 16), (0.9, 15.1), (0.1, 0), (100, 0)):
        desk.seconds += later
        assert desk.ownership.seconds_left("default") == pytest.approx(left)
    assert Desk(FakeKube(), "").ownership.seconds_left("default") is None


@given(
    st.lists(
        st.tuples(st.sampled_from([0, 1]), st.sampled_from([0.5, 2.0, 15.0, 20.0, 44.0, 60.0])), max_size=40
    ),
    st.integers(0, 10),
)
def test_writes_of_two_operators_never_overlap(steps: list[tuple[int, float]], deleted: int) -> None:
    """Whichever of them looks when, and whenever the Lease is deleted, each write that may begin ends before one of the
    other may. Both have seen an owner before: one that starts just when there is no Lease can't know of one.
    """

    async def play() -> None:
        kube = FakeKube()
        desks = (Desk(kube, FIRST), Desk(kube, SECOND))
        busy_until = [0.0, 0.0]
        now = 0.0
        for each in desks:
            await each.look()
        busy_until[0] = 60.0
        for number, (who, seconds) in enumerate(steps):
            now += seconds
            for each in desks:
                each.seconds += seconds
            await desks[who].look()
            for mine, desk in enumerate(desks):
                left = desk.ownership.seconds_left("default") or 0.0
                if left > 0:
                    assert busy_until[1 - mine] <= now + 1e-6
                    busy_until[mine] = now + left
            if number == deleted:
                await kube.delete(REF, uid=kube._objects[REF]["metadata"]["uid"])

    asyncio.run(play())


async def test_two_that_watch_everything_may_each_own_a_part_until_one_ends() -> None:
    """Each namespace has one owner; who it is, is a matter of who was faster there."""
    kube = FakeKube()
    first, second = Desk(kube, FIRST, ("a",)), Desk(kube, SECOND, ("b",))
    await first.look()
    await second.look()
    first.wanted = second.wanted = ("a", "b")
    for _ in range(5):
        for desk in (first, second):
            await desk.look(after=20)
    assert (first.ownership.foreign(), second.ownership.foreign()) == ({"b": SECOND}, {"a": FIRST})
    assert [desk.ownership.whose(name) for desk, name in ((first, "a"), (second, "b"))] == [Whose.OURS] * 2
    for _ in range(5):
        await second.look(after=20)
    assert second.ownership.foreign() == {}
    assert second.ownership.whose("a") is Whose.OURS
