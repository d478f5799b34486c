import asyncio
import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from ocr_operator.controllers.election import Election, LeadershipLost
from ocr_operator.controllers.fence import Fence, NotOurs
from ocr_operator.kube import api
from ocr_operator.metrics import Metrics
from tests.support.fakekube import FakeKube

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LEASE = api.Ref(api.LEASE, "ocr-system", "ocr-operator-leader")
SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "invoices", "namespace": "default"}}


class Replica:
    """One replica's election, with a clock that tests move."""

    def __init__(self, kube: FakeKube, name: str, lease: api.Ref | None = LEASE) -> None:
        self.seconds = random.Random(name).uniform(0, 1e6)
        self.looked = False
        self.metrics = Metrics(CollectorRegistry())
        self.election = Election(
            kube,
            lease=lease,
            replica=name,
            metrics=self.metrics,
            now=lambda: NOW + timedelta(seconds=self.seconds),
            time=lambda: self.seconds,
        )

    async def look(self, after: float = 0.0) -> bool:
        """Return whether it may write then."""
        self.seconds += after
        self.looked = True
        await self.election.look(LEASE)
        return self.election.seconds_left() != 0.0

    @property
    def leading(self) -> float | None:
        return self.metrics.registry.get_sample_value("ocr_operator_leading")


async def holder(kube: FakeKube) -> str:
    return str((await kube.get(LEASE))["spec"]["holderIdentity"])


async def test_one_of_two_works_for_as_long_as_it_renews() -> None:
    kube = FakeKube()
    first, second = Replica(kube, "a"), Replica(kube, "b")
    for _ in range(20):
        assert await first.look(after=2)
        assert not await second.look(after=2)
    assert (first.leading, second.leading) == (1, 0)
    assert (first.election.note(), second.election.note()) == ("", "stands by: a works")
    assert not second.election.begun.is_set()


async def test_killed_one_is_followed_after_15_seconds() -> None:
    kube = FakeKube()
    first, second = Replica(kube, "a"), Replica(kube, "b")
    await first.look()
    await second.look()
    assert not await second.look(after=14)
    assert await second.look(after=1)
    assert (await kube.get(LEASE))["spec"]["leaseTransitions"] == 1


async def test_one_that_ends_gives_it_back() -> None:
    kube = FakeKube()
    first, second = Replica(kube, "a"), Replica(kube, "b")
    await first.look()
    await second.look()
    await first.election.give_back()
    assert await holder(kube) == ""
    assert first.election.seconds_left() == 0.0
    assert await second.look(after=0.5)
    await first.election.give_back()
    assert await holder(kube) == "b", "what another holds isn't given back"


async def test_one_that_woke_up_too_late_writes_nothing_and_begins_afresh() -> None:
    kube = FakeKube()
    first, second = Replica(kube, "a"), Replica(kube, "b")
    fenced = Fence(kube, first.election.seconds_left, "its replicas")
    await first.look()
    await fenced.create(SERVICE)
    await second.look()
    await second.look(after=15)
    first.seconds += 15
    with pytest.raises(NotOurs, match="Lease of its replicas"):
        await fenced.apply(SERVICE)
    with pytest.raises(LeadershipLost, match="b has worked"):
        await first.look()


async def test_one_that_worked_before_others_came_and_went_begins_afresh() -> None:
    kube = FakeKube()
    first, second = Replica(kube, "a"), Replica(kube, "b")
    await first.look()
    await second.look()
    await second.look(after=15)
    await second.election.give_back()
    with pytest.raises(LeadershipLost):
        await first.look(after=15)


async def test_renewals_that_are_not_answered_stop_writes_and_nothing_else() -> None:
    kube = FakeKube()
    first = Replica(kube, "a")
    await first.look()

    def away(verb: str, ref: api.Ref) -> None:
        raise api.Unavailable(ref, 0, "no route to host")

    kube.fail = away
    assert await first.look(after=9)
    assert not await first.look(after=1)
    assert not await first.look(after=600)
    kube.fail = lambda verb, ref: None
    assert await first.look(after=1)


async def test_answer_that_was_lost_costs_no_leadership() -> None:
    kube = FakeKube()
    first = Replica(kube, "a")
    await first.look()
    await kube.patch(
        LEASE, [{"op": "add", "path": "/spec/renewTime", "value": "2026-01-01T00:00:02.000000Z"}]
    )
    assert not await first.look(after=2), "the version isn't the one that was read"
    assert await first.look(after=1)


async def delete(kube: FakeKube) -> None:
    """Delete the Lease by hand."""
    await kube.delete(LEASE, uid=(await kube.get(LEASE))["metadata"]["uid"])


async def test_deleted_lease_is_written_again_by_the_one_that_held_it() -> None:
    kube = FakeKube()
    first, second = Replica(kube, "a"), Replica(kube, "b")
    await first.look()
    await second.look()
    await delete(kube)
    assert not await second.look(after=0.5)
    await first.look(after=2)
    assert await first.look(after=0.5)
    assert await holder(kube) == "a"
    assert not await second.look(after=2)


async def test_deleted_lease_is_written_again_while_no_other_can_have_taken_it() -> None:
    kube = FakeKube()
    first = Replica(kube, "a")
    await first.look()
    await delete(kube)
    assert await first.look(after=14)
    assert await holder(kube) == "a"


async def test_deleted_lease_of_one_that_is_gone_is_waited_out() -> None:
    kube = FakeKube()
    first, second = Replica(kube, "a"), Replica(kube, "b")
    await first.look()
    await second.look()
    await delete(kube)
    assert not await second.look(after=14)
    assert second.election.note() == "stands by: a works"
    assert not await second.look(after=14.5), "since it was missed first"
    assert await second.look(after=0.5)
    assert (await kube.get(LEASE))["spec"]["leaseTransitions"] == 1


async def test_lease_that_was_given_back_and_deleted_is_written_at_once() -> None:
    kube = FakeKube()
    first, second = Replica(kube, "a"), Replica(kube, "b")
    await first.look()
    await first.election.give_back()
    await second.election._read(LEASE)
    await delete(kube)
    assert await second.look()


async def test_one_that_woke_up_to_a_deleted_lease_waits_and_begins_afresh() -> None:
    """Another may have worked meanwhile, and does as long as nobody says otherwise."""
    kube = FakeKube()
    first, second = Replica(kube, "a"), Replica(kube, "b")
    await first.look()
    await second.look()
    assert await second.look(after=15)
    await delete(kube)
    first.seconds += 15
    for _ in range(14):
        assert not await first.look(after=1)
    with pytest.raises(LeadershipLost):
        await first.look(after=2)


async def test_without_a_lease_it_works_at_once() -> None:
    kube = FakeKube()
    alone = Replica(kube, "a", lease=None)
    await alone.election.run()
    assert alone.election.begun.is_set()
    assert alone.election.seconds_left() is None
    await alone.election.give_back()
    assert not kube.calls


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from([0.1, 1.0, 4.9, 5.0, 10.0, 15.0]), st.booleans()),
        max_size=40,
    ),
    st.integers(0, 20),
)
def test_writes_of_two_replicas_never_overlap(steps: list[tuple[int, float, bool]], deleted: int) -> None:
    """Whoever looks, ends or stands still when, and whenever the Lease is deleted, each write that may begin ends
    before one of another may. One that has never seen the Lease knows of no holder, and begins where there is none.
    """

    async def play() -> None:
        kube = FakeKube()
        names = iter("abcdefghijklmnopqrstuvwxyz" * 4)
        replicas = [Replica(kube, next(names)) for _ in range(3)]
        busy_until = [0.0] * 3
        now = 0.0
        for number, (who, seconds, ends) in enumerate(steps):
            now += seconds
            for each in replicas:
                each.seconds += seconds
            if number > deleted and LEASE not in kube._objects and not replicas[who].looked:
                continue
            try:
                await replicas[who].look()
            except LeadershipLost:
                replicas[who] = Replica(kube, next(names))
            for mine, each in enumerate(replicas):
                left = each.election.seconds_left() or 0.0
                if left > 0:
                    assert all(busy_until[other] <= now + 1e-6 for other in range(3) if other != mine)
                    busy_until[mine] = now + left
            if number == deleted and LEASE in kube._objects:
                await delete(kube)
            if ends:
                await replicas[who].election.give_back()  # its writes have ended by then
                busy_until[who] = now
                replicas[who] = Replica(kube, next(names))

    asyncio.run(play())
