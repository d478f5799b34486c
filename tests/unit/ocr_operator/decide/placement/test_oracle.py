"""Placement against a scheduler of its own reading, over clusters that hide some of what it filters by."""

import random

from hypothesis import given
from hypothesis import strategies as st

from bench import oracle


@given(st.integers(0, 2**32))
def test_a_pod_is_placed_wherever_the_scheduler_would_place_it(seed: int) -> None:
    found = oracle.play(random.Random(seed))

    assert found.right, "nor is it on a GPU that is too small, taken or full"
    assert not found.dear, "and no pod ends where it could go without"
    if found.placed:
        assert found.replaced <= (found.hidden if found.pinned else 0)
