import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.api import upload_budget
from ocr_inference.api.upload_budget import Budget, Claim, TooManyWait

LIMIT = 100


def claimed(budget: Budget, *sizes: int) -> tuple[Budget, list[int]]:
    """The budget after claims of these sizes, and the sizes that were admitted at once."""
    admitted: list[int] = []
    for ticket, size in enumerate(sizes):
        budget, now = upload_budget.claim(budget, Claim(ticket, size))
        admitted += [each.size for each in now]
    return budget, admitted


def test_what_fits_is_admitted_at_once() -> None:
    budget, admitted = claimed(Budget(LIMIT, 10), 60, 40)
    assert (admitted, budget.admitted_bytes, budget.waiting) == ([60, 40], 100, ())


def test_a_small_body_does_not_overtake_a_large_one() -> None:
    budget, admitted = claimed(Budget(LIMIT, 10), 60, 50, 1)
    assert admitted == [60]
    budget, now = upload_budget.give_back(budget, 10)
    assert [each.size for each in now] == [50]
    assert [each.size for each in budget.waiting] == [1]


def test_who_gives_up_makes_way() -> None:
    budget, _ = claimed(Budget(LIMIT, 10), 60, 50, 40)
    budget, now = upload_budget.withdraw(budget, 1)
    assert [each.size for each in now] == [40]


def test_one_too_many_is_refused_and_takes_nothing() -> None:
    budget, _ = claimed(Budget(LIMIT, 2), 100, 1, 1)
    with pytest.raises(TooManyWait):
        upload_budget.claim(budget, Claim(9, 1))
    assert len(budget.waiting) == 2


def test_slow_is_what_brings_less_than_its_rate_after_a_while() -> None:
    rate, grace = upload_budget.SLOW_BYTES_PER_SECOND, upload_budget.GRACE_SECONDS
    assert not upload_budget.is_slow(0, grace)
    assert upload_budget.is_slow(0, grace + 0.1)
    assert not upload_budget.is_slow(10 * rate, grace + 9)
    assert upload_budget.is_slow(10 * rate, grace + 11)


class Step:
    """What happens in a property: a claim, or one of those before ends, shrinks or gives up."""

    claims = st.tuples(st.just("claim"), st.integers(0, LIMIT))
    others = st.tuples(st.sampled_from(["end", "shrink", "withdraw"]), st.integers(0, 1000))


@given(st.lists(Step.claims | Step.others, max_size=40))
def test_the_budget_is_kept_in_order_and_nobody_is_forgotten(steps: list[tuple[str, int]]) -> None:
    budget = Budget(LIMIT, 1000)
    held: dict[int, int] = {}
    waiting: list[Claim] = []
    for ticket, (what, number) in enumerate(steps):
        now: tuple[Claim, ...] = ()
        if what == "claim":
            waiting.append(Claim(ticket, number))
            budget, now = upload_budget.claim(budget, waiting[-1])
        elif what == "withdraw" and waiting:
            gone = waiting.pop(number % len(waiting))
            budget, now = upload_budget.withdraw(budget, gone.ticket)
        elif held and what != "withdraw":
            which = sorted(held)[number % len(held)]
            kept = 0 if what == "end" else held[which] // 2
            budget, now = upload_budget.give_back(budget, held[which] - kept)
            held[which] = kept
        assert list(now) == waiting[: len(now)]
        del waiting[: len(now)]
        held |= {each.ticket: each.size for each in now}
        assert budget.admitted_bytes == sum(held.values()) <= LIMIT
        assert list(budget.waiting) == waiting
        assert not waiting or budget.admitted_bytes + waiting[0].size > LIMIT
