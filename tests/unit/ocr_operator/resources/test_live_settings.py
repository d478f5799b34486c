"""Live settings: what pods are told, and how they tell new from old."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ocr_operator.resources import live_settings
from ocr_operator.resources.live_settings import MAX_BLOCK, MAX_REPORTED, Block, Issued, Revision, Step
from ocr_wire.live_settings import MAX_REVISION, MAX_STEP, digest
from tests.support import resources

SHARED_WITH_PODS = {"idle", "batching", "queue", "logLevel", "models"}


def make_values(**spec: Any) -> dict[str, Any]:
    return live_settings.values(resources.make_deployment(**spec).spec)


def test_values_of_a_resource_with_defaults() -> None:
    models = [{**resources.RAPIDOCR, "idle": {"offloadAfterSeconds": 5}, "preload": True}]
    assert make_values(models=models) == {
        "idle": {
            "offloadAfterSeconds": 60,
            "exitAfterSeconds": 300,
            "dropStandbyAfterSeconds": 900,
            "releaseAfterSeconds": 1800,
        },
        "batching": {"maxPages": 8, "maxWaitMilliseconds": 10},
        "queue": {"limit": 64, "patienceSeconds": 10, "deadlineSeconds": 300},
        "logLevel": "info",
        "models": {
            "pp-ocr": {
                "idle": {
                    "offloadAfterSeconds": 5,
                    "exitAfterSeconds": 300,
                    "dropStandbyAfterSeconds": 900,
                    "releaseAfterSeconds": 1800,
                },
                "priority": 0,
                "preload": True,
            }
        },
    }


def test_routing_is_not_for_pods() -> None:
    assert make_values(routing={"policy": "all"}).keys() == SHARED_WITH_PODS
    assert make_values(routing={"policy": "all"}) == make_values()


def test_digest_of_the_default_resource_is_known() -> None:
    """A change here means that every pod of every cluster is told its settings anew after an upgrade."""
    assert digest(make_values()) == "945b0eb0517ec2a6"


def test_first_revision_is_one() -> None:
    live = make_values()
    step = live_settings.advance(None, live)
    assert step == Step(Revision(1, digest(live)), raised=True, record_first=True)


def test_same_values_keep_their_revision() -> None:
    live = make_values()
    before = Revision(41, digest(live))
    assert live_settings.advance(before, live) == Step(before)


def test_other_values_raise_the_revision_also_when_they_were_there_before() -> None:
    first = live_settings.advance(None, make_values()).revision
    second = live_settings.advance(first, make_values(logLevel="debug")).revision
    third = live_settings.advance(second, make_values()).revision
    assert first.revision < second.revision < third.revision
    assert third.hash == first.hash


def test_a_lost_revision_goes_on_above_what_pods_run_with() -> None:
    live = make_values()
    assert live_settings.advance(None, live, reported=9).revision.revision == 10
    restored = Revision(3, digest(live))
    assert live_settings.advance(restored, live, reported=9).revision.revision == 10
    assert live_settings.advance(restored, live, reported=3) == Step(restored)


def test_a_pod_cannot_use_up_the_counter() -> None:
    for reported in (2**63 - 1, MAX_REVISION, MAX_REPORTED + 1):
        assert live_settings.advance(None, make_values(), reported=reported).revision.revision == 1
    overtaken = live_settings.advance(None, make_values(), reported=MAX_REPORTED).revision
    assert MAX_REPORTED < overtaken.revision < MAX_STEP


def test_pods_hear_of_a_reserved_revision_before_the_status_has_it() -> None:
    recorded = Revision(5, digest(make_values()), 21)
    mine = Issued(recorded, Block(6, 21))
    step = live_settings.advance(recorded, make_values(logLevel="debug"), issued=mine)
    assert (step.revision.revision, step.raised, step.record_first) == (6, True, False)
    again = live_settings.advance(
        recorded, make_values(logLevel="debug"), issued=Issued(step.revision, Block(6, 21))
    )
    assert again == Step(step.revision)


def test_another_process_goes_on_above_what_was_reserved() -> None:
    recorded = Revision(5, digest(make_values()), 21)
    step = live_settings.advance(recorded, make_values(logLevel="debug"))
    assert (step.revision.revision, step.record_first) == (22, True)


@pytest.mark.parametrize("recorded", [None, Revision(22, "0" * 16, 38), Revision(5, "0" * 16)])
def test_a_block_is_given_up_once_the_status_is_anothers(recorded: Revision | None) -> None:
    """Wiped by hand, written by another process, written by an operator of before."""
    mine = Issued(Revision(9, digest(make_values())), Block(6, 21))
    step = live_settings.advance(recorded, make_values(logLevel="debug"), issued=mine)
    assert step.record_first
    assert step.revision.revision > max(21, recorded.reserved if recorded else 0)


def test_a_block_that_is_used_up_is_waited_for() -> None:
    recorded = Revision(5, "0" * 16, 21)
    mine = Issued(Revision(21, "1" * 16, 21), Block(6, 21))
    assert live_settings.advance(recorded, make_values(), issued=mine).record_first


def test_reserving_alone_changes_nothing_while_half_is_left() -> None:
    recorded = Revision(6, "0" * 16, 21)
    mine = Issued(recorded, Block(6, 21))
    assert live_settings.reserve(recorded, 6, mine) == Block(7, 21)
    assert live_settings.reserve(recorded, 20, mine) == Block(7, 37)
    assert live_settings.reserve(recorded, 6, None) == Block(22, 37), "others may have used what is reserved"


def test_status_of_an_older_revision_frees_none_that_was_handed_out() -> None:
    recorded = Revision(5, digest(make_values()), 21)
    mine = Issued(Revision(7, "0" * 16, 21), Block(6, 21))
    block = live_settings.reserve(recorded, recorded.revision, mine)
    written = {"liveSettings": {"revision": 5, "hash": recorded.hash, "reserved": block.last}}
    step = live_settings.advance(
        live_settings.revision(written),
        make_values(logLevel="debug"),
        issued=live_settings.issued(written, block),
    )
    assert step.revision.revision > 7


def test_a_definition_of_before_keeps_no_reservation() -> None:
    assert live_settings.issued({"liveSettings": {"revision": 3, "hash": "0" * 16}}, Block(4, 19)) is None


@dataclass
class Process:
    """One operator process, as far as revisions go: acts on the status that its watch last brought."""

    seen: Revision | None = None
    version: int = 0
    issued: Issued | None = None


LEVELS = st.sampled_from(["debug", "info", "error"])
ACTIONS = st.sampled_from(["pass", "pass", "report", "watch", "restart"])


@given(st.lists(st.tuples(st.integers(0, 1), ACTIONS, LEVELS, st.booleans()), max_size=60))
@example(
    [
        (1, "pass", "error", False),
        (1, "report", "info", True),
        (1, "pass", "debug", False),
        (0, "restart", "info", True),
        (0, "pass", "info", False),
    ]
)
def test_a_revision_stands_for_one_hash_whoever_hands_it_out(
    steps: list[tuple[int, str, str, bool]],
) -> None:
    """Two processes at once, each of which may die and be late: writes are guarded, answers may be lost."""
    status: Revision | None = None
    version = 0
    processes = [Process(), Process()]
    sent: dict[int, str] = {}
    for which, action, level, lost in steps:
        process, values = processes[which], make_values(logLevel=level)
        if action == "restart":
            processes[which] = Process(status, version)
            continue
        if action == "watch":
            process.seen, process.version = status, version
            continue
        step = live_settings.advance(process.seen, values, issued=process.issued)
        if step.raised and not step.record_first and process.issued:  # before anything is sent or written
            process.issued = Issued(step.revision, process.issued.block)
        if action == "pass" and not step.record_first:
            assert sent.setdefault(step.revision.revision, step.revision.hash) == step.revision.hash
            continue
        if process.version != version:
            continue  # 409
        block = live_settings.reserve(process.seen, step.revision.revision, process.issued)
        written = Revision(step.revision.revision, step.revision.hash, block.last)
        assert status is None or written.revision >= status.revision
        status, version = written, version + 1
        if lost:
            continue
        process.seen, process.version = status, version
        process.issued = Issued(written, block)
        assert sent.setdefault(written.revision, written.hash) == written.hash


@given(st.lists(st.tuples(LEVELS, st.integers(0, 20)), max_size=20))
def test_revision_never_falls_and_stands_for_one_hash(steps: list[tuple[str, int]]) -> None:
    current: Revision | None = None
    meaning: dict[int, str] = {}
    for level, reported in steps:
        after = live_settings.advance(current, make_values(logLevel=level), reported).revision
        assert current is None or after.revision >= current.revision
        assert after.revision >= reported
        assert meaning.setdefault(after.revision, after.hash) == after.hash
        current = after


@pytest.mark.parametrize(
    "status",
    [{}, {"liveSettings": None}, {"liveSettings": {"revision": -1, "hash": "0" * 16}}, {"liveSettings":
    {"revision": 1}},
     {"liveSettings": {"revision": "1", "hash": "0" * 16}}, {"liveSettings": {"revision": 1, "hash": "XYZ"}}],
)  # fmt: skip
def test_damaged_revision_is_none(status: dict[str, Any]) -> None:
    assert live_settings.revision(status) is None


def test_revision_is_read_from_the_status() -> None:
    status = {"liveSettings": {"revision": 3, "hash": "0123456789abcdef"}}
    assert live_settings.revision(status) == Revision(3, "0123456789abcdef")


def test_a_reservation_by_hand_cannot_use_up_the_counter() -> None:
    status = {"liveSettings": {"revision": 3, "hash": "0123456789abcdef", "reserved": 2**62}}
    assert live_settings.revision(status) == Revision(3, "0123456789abcdef", 3 + MAX_BLOCK)
