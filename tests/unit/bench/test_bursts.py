"""Simulated bursts: each request is answered once, the same seed gives the same times, and handing over is worth it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import bursts
from bench.replicas import HANDS_OVER, Variant
from ocr_operator.resources.spec import Routing

WARM = Routing(max_queue_per_pod=4, stabilization_seconds=8)


def test_the_same_seed_gives_the_same_times_and_another_one_others() -> None:
    once, again, other = (bursts.replay(bursts.bursts(1, 1), 10, WARM, seed) for seed in (1, 1, 2))
    assert once == again
    assert once != other


def test_a_lone_page_takes_the_wake_of_one_pod() -> None:
    outcome = bursts.replay([0.0], 10, WARM, 1)
    assert outcome.latencies == [pytest.approx(bursts.COSTS.restore + bursts.COSTS.page)]
    assert outcome.held == pytest.approx(10)


def test_a_burst_is_read_sooner_where_pages_are_handed_over() -> None:
    arrivals = bursts.bursts(3, 5)
    stays = bursts.replay(arrivals, 30, WARM, 5, Variant("stays"))
    handed = bursts.replay(arrivals, 30, WARM, 5, HANDS_OVER)
    assert handed.p99 < 0.8 * stays.p99
    assert handed.held < 1.1 * stays.held


@given(
    st.lists(st.floats(0, 20), min_size=1, max_size=40).map(sorted),
    st.integers(1, 9),
    st.sampled_from(["all", "warmFirst"]),
    st.sampled_from(bursts.VARIANTS),
)
def test_each_request_is_answered_once_whatever_comes(
    arrivals: list[float], bar: int, policy: str, variant: Variant
) -> None:
    routing = Routing(
        policy="all" if policy == "all" else "warmFirst", max_queue_per_pod=bar, stabilization_seconds=8
    )
    outcome = bursts.replay(arrivals, 30, routing, 1, variant)
    assert len(outcome.latencies) == len(arrivals)
    assert all(each > bursts.COSTS.page - 1e-6 for each in outcome.latencies)
    assert 0 < outcome.held <= 30 * bursts.PODS
