"""Members of the awake set that read pages which wait in others."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.decide import routing
from ocr_operator.decide.routing import Candidate, Eligibility, Help, RoutingState, Warmth, helping
from ocr_operator.resources.spec import Routing
from ocr_wire import names

PAGES = 2
BAR = 4


def pod(name: str, warmth: Warmth = Warmth.READY, waiting: int = 0, in_flight: int = 0) -> Candidate:
    return Candidate(
        uid=name,
        name=name,
        label=names.AWAKE,
        eligibility=Eligibility.USABLE,
        warmth=warmth,
        waiting=waiting,
        in_flight=in_flight,
    )


def named(
    *pods: Candidate, woken: str = "", before: Mapping[Help, float] | None = None, now: float = 0.0
) -> str:
    """The helps, such as "a<b" for b that helps a."""
    helps, _ = helping.decide(pods, woken=woken.split(), pages=PAGES, bar=BAR, named=before or {}, now=now)
    return " ".join(f"{each.helped}<{each.helper}" for each in helps)


def test_those_that_are_free_help_one_in_which_more_than_the_next_pages_wait() -> None:
    assert named(pod("a", waiting=PAGES + 1), pod("b"), pod("c", in_flight=PAGES - 1)) == "a<b a<c"
    assert named(pod("a", waiting=PAGES), pod("b")) == ""
    assert named(pod("a", waiting=9), pod("b", in_flight=PAGES), pod("c", waiting=1)) == ""


def test_who_joins_for_a_queue_helps_although_the_pages_would_be_read_together() -> None:
    helped, free = pod("a", waiting=BAR + 1), pod("b")
    assert helping.decide((helped, free), woken=(), pages=8, bar=BAR, named={}, now=0.0)[0] == (
        Help("a", "b"),
    )
    assert helping.decide((helped, free), woken=(), pages=8, bar=BAR + 1, named={}, now=0.0)[0] == ()


def test_a_sleeper_is_not_woken_for_this_alone() -> None:
    asleep = pod("b", Warmth.CPU)
    assert named(pod("a", waiting=9), asleep) == ""
    assert named(pod("a", waiting=9), asleep, woken="b") == "a<b"
    assert named(pod("a", waiting=9), pod("b", Warmth.RESTORING)) == "a<b"


def test_a_helper_is_named_once_and_again_where_it_has_nothing_to_do() -> None:
    helped, idle = pod("a", waiting=9), pod("b")
    helps, known = helping.decide((helped, idle), woken=(), pages=PAGES, bar=BAR, named={}, now=0.0)
    assert helps == (Help("a", "b"),)
    assert named(helped, idle, before=known, now=0.5) == ""
    assert named(helped, pod("b", in_flight=1), before=known, now=9.0) == ""
    assert named(helped, idle, before=known, now=helping.AGAIN_SECONDS) == "a<b"


def test_who_has_not_been_named_comes_before_those_that_are_named_again_in_vain() -> None:
    pods = [*(pod(f"a{n}", waiting=9) for n in range(4)), *(pod(f"b{n}") for n in range(12))]
    known: Mapping[Help, float] = {}
    for now in (0.0, 2 * helping.AGAIN_SECONDS):
        _, known = helping.decide(pods, woken=(), pages=PAGES, bar=BAR, named=known, now=now)
    assert len(known) == 4 * 12


def test_what_was_named_is_forgotten_when_nothing_waits_any_more() -> None:
    _, known = helping.decide(
        (pod("a", waiting=9), pod("b")), woken=(), pages=PAGES, bar=BAR, named={}, now=0.0
    )
    assert (
        helping.decide((pod("a", waiting=1), pod("b")), woken=(), pages=PAGES, bar=BAR, named=known, now=1.0)[
            1
        ]
        == known
    )
    assert helping.decide((pod("a"), pod("b")), woken=(), pages=PAGES, bar=BAR, named=known, now=1.0)[1] == {}
    assert (
        helping.decide((pod("a", waiting=9),), woken=(), pages=PAGES, bar=BAR, named=known, now=1.0)[1] == {}
    )


def test_who_joins_for_a_queue_helps_at_once_and_under_the_policy_all_nobody_does() -> None:
    pods = [pod("a", waiting=9), pod("b", Warmth.CPU)]
    warm = routing.decide(pods, Routing(), PAGES, RoutingState({"a": "a"}), 0.0)
    assert warm.wakes == ("b",)
    assert warm.helps == (Help("a", "b"),)
    assert routing.decide(pods, Routing(policy="all"), PAGES, RoutingState(), 0.0).helps == ()


@given(
    st.lists(
        st.builds(
            Candidate,
            uid=st.sampled_from("abcdef"),
            name=st.just("x"),
            label=st.just(None),
            eligibility=st.sampled_from(Eligibility),
            warmth=st.sampled_from(Warmth),
            waiting=st.integers(0, 6),
            in_flight=st.integers(0, 3),
        ),
        unique_by=lambda each: each.uid,
    ),
    st.dictionaries(st.builds(Help, st.sampled_from("abcdef"), st.sampled_from("abcdef")), st.floats(0, 9)),
    st.integers(1, 3),
)
def test_nobody_helps_who_waits_himself_sleeps_or_cannot_be_trusted(
    members: list[Candidate], before: dict[Help, float], pages: int
) -> None:
    helps, known = helping.decide(members, woken=(), pages=pages, bar=BAR, named=before, now=9.0)
    found = {each.uid: each for each in members}
    for each in helps:
        helped, helper = found[each.helped], found[each.helper]
        assert helped.waiting > min(pages, BAR)
        assert helper.waiting == 0
        assert helper.in_flight < pages
        assert helper.warmth in (Warmth.READY, Warmth.RESTORING, Warmth.LOADING)
        assert {helped.eligibility, helper.eligibility} == {Eligibility.USABLE}
    assert len(helps) <= helping.MAX_HELPS
    assert set(known) >= set(helps)
    assert {each.helped for each in known} | {each.helper for each in known} <= found.keys()
    assert helping.decide(members, woken=(), pages=pages, bar=BAR, named=known, now=9.0)[0] == (), (
        "a helper is named once"
    )
