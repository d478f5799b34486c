"""What is tried for a page for which memory ran out."""

from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.families import deepseek_ocr, page_size
from ocr_inference.scheduling import memory_ladder
from ocr_inference.scheduling.memory_ladder import MAX_SMALLER, Rung, Step, next_rung

ORDER = list(Step)
GUNDAM = page_size.smaller_resolutions(deepseek_ocr.RESOLUTIONS, "gundam")
sizes = st.lists(
    st.sampled_from(["gundam", "large", "base", "small", "tiny", "1536px", "1024px"]), max_size=9
)


def climb(smaller: list[str], *, fixed: bool = False, evictable: bool = True) -> list[Rung]:
    """All rungs, where none of them helps and the sizes below are those that follow in the list."""
    climbed: list[Rung] = []
    while (rung := next_rung(climbed, smaller, fixed=fixed, evictable=evictable)) is not None:
        climbed.append(rung)
        if rung.read_at is not None:
            smaller = smaller[smaller.index(rung.read_at) + 1 :]
    return climbed


def test_the_whole_ladder() -> None:
    assert climb(list(GUNDAM)) == [
        Rung(Step.ALONE),
        Rung(Step.EVICTED),
        Rung(Step.SMALLER, "base"),
        Rung(Step.SMALLER, "small"),
        Rung(Step.SMALLER, "tiny"),
    ]


def test_what_frees_a_device_is_not_tried_for_host_memory() -> None:
    assert next_rung([], GUNDAM, fixed=False, evictable=True, of_host=True) == Rung(Step.ALONE)
    assert next_rung([Rung(Step.ALONE)], GUNDAM, fixed=False, evictable=True, of_host=True) is None
    advice = str(memory_ladder.suggestions(GUNDAM, named=True, of_host=True))
    assert "memory limit" in advice
    assert "GPU" not in advice


def test_a_named_resolution_is_never_made_smaller() -> None:
    assert climb(list(GUNDAM), fixed=True) == [Rung(Step.ALONE), Rung(Step.EVICTED)]
    assert memory_ladder.suggestions(GUNDAM, named=True)[0].endswith("at base, small, tiny")
    assert "leave resolution out" not in str(memory_ladder.suggestions(GUNDAM, named=False))


def test_without_idle_models_nothing_is_evicted() -> None:
    assert climb(["base"], evictable=False) == [Rung(Step.ALONE), Rung(Step.SMALLER, "base")]


@given(st.lists(st.tuples(sizes, st.booleans()), min_size=20, max_size=20), st.booleans())
def test_it_ends_in_order_and_tries_nothing_twice(tries: list[tuple[list[str], bool]], fixed: bool) -> None:
    climbed: list[Rung] = []
    for smaller, evictable in tries:  # whatever an engine says from try to try
        rung = next_rung(climbed, smaller, fixed=fixed, evictable=evictable)
        if rung is None:
            break
        assert rung not in climbed
        assert (rung.read_at is not None) == (rung.step is Step.SMALLER)
        assert rung.read_at is None or (rung.read_at in smaller and not fixed)
        assert rung.step is not Step.EVICTED or evictable
        climbed.append(rung)
    assert len(climbed) <= 2 + MAX_SMALLER
    assert [each.step for each in climbed] == sorted((each.step for each in climbed), key=ORDER.index)
    assert next_rung(climbed, [], fixed=fixed, evictable=False) in (None, Rung(Step.ALONE))


def test_each_step_is_explained() -> None:
    assert set(memory_ladder.WHY) == set(Step)
