"""Models that come and go at random under load: nothing is wrong, lost or left behind.

The long storms, 10,000 transitions with the fake engine among them, are `make bench ONLY=storm`.
"""

from pathlib import Path

import pytest

from bench import serverstorm, soak, soakclients, storm, turns, vlmserver

MIB = 1 << 20


async def test_a_storm_changes_no_answer_and_leaves_nothing_behind() -> None:
    tally = await storm.storm("fake", 400, seed=4, host_bytes=262_144.0, max_batch=4.0)
    assert tally.transitions >= 400
    assert {"load", "offload", "restore", "unload", "exit"} <= set(tally.calls)
    assert {"requested", "evicted", "requested by an administrator", "idle"} <= set(tally.reasons)
    assert tally.answered > 100
    assert tally.cancelled > 0
    assert (tally.wrong, tally.lost, dict(tally.failed)) == (0, 0, {})
    assert tally.hashes_equal
    assert (tally.drift_bytes, tally.drift_descriptors, tally.over_budget) == (0, 0, 0)


async def test_workers_killed_in_a_storm_cost_errors_at_most() -> None:
    tally = await storm.storm("fake", 200, seed=5, kills=True, host_bytes=65_536.0)
    assert tally.kills > 0
    assert (tally.wrong, tally.lost) == (0, 0)
    assert set(tally.failed) <= {"worker_died", "load_failed", "page_kills_worker"}
    # How many depends on the machine: where loads take longer, more of them are killed, and more senders told to wait.
    assert tally.answered > tally.kills
    assert tally.hashes_equal
    assert (tally.drift_bytes, tally.drift_descriptors, tally.over_budget) == (0, 0, 0)


def test_a_storm_of_turns_on_shared_gpus_breaks_no_promise() -> None:
    tally = turns.storm(500, seed=7)
    assert tally.asks["offloaded"] > 10
    assert tally.lost_races > 0
    assert tally.granted > 100
    assert (tally.moved_under_lease, tally.lease_without_ready, tally.over_capacity, tally.unsound) == (
        0,
        0,
        0,
        0,
    )
    assert tally.most_asks_in_a_minute <= turns.RULES.asks_per_minute
    assert tally.granted + tally.refused.total() + tally.cancelled == tally.asked


async def test_a_storm_over_a_server_of_language_models(tmp_path: Path) -> None:
    vlmserver.make(tmp_path)
    tally = await serverstorm.run(tmp_path, 25, rounds=1, seed=8)
    assert tally.transitions >= 25
    assert tally.answered > 10
    assert (tally.wrong, tally.lost, dict(tally.failed), tally.faults) == ([], 0, {}, [])
    assert tally.hashes_equal
    before, after = tally.settled
    assert (after.host_bytes, after.device_bytes) == (before.host_bytes, before.device_bytes)
    assert after.server_descriptors <= before.server_descriptors
    assert after.processes <= before.processes


async def test_a_soak_of_all_that_can_go_wrong(tmp_path: Path) -> None:
    outcome = await soak.run(tmp_path, rounds=2, seconds=4.0, seed=9)
    tally, (before, after) = outcome.tally, outcome.settled
    assert (tally.wrong, tally.lost, outcome.faults) == ([], [], [])
    assert min(tally.read[model] for model in soakclients.MODELS) > 0
    assert min(tally.ended[cause] for cause in ("hung, by force", "killed by a page")) > 0
    assert min(tally.left, tally.refused.total(), *tally.done.values()) > 0
    assert after.descriptors <= before.descriptors
    assert after.processes <= before.processes
    assert (before.page_bytes, after.page_bytes) == (0, 0)
    # A few seconds don't show a drift, which is the bench's part: a busy machine touches its code at any time.
    assert after.server_bytes < 64 * MIB, "what a server of no models holds"


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_storm_over_real_sessions() -> None:
    tally = await storm.storm("rapidocr", 24, seed=6, models=2, threads=1)
    assert (tally.wrong, tally.lost, dict(tally.failed)) == (0, 0, {})
    assert tally.hashes_equal
    assert (tally.drift_bytes, tally.drift_descriptors, tally.over_budget) == (0, 0, 0)
