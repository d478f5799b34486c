"""The awake set: small, never empty, as large as the queue needs at once, and quiet while nothing changes."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.decide import routing
from ocr_operator.decide.routing import Candidate, Decision, Eligibility, RoutingState, Warmth
from ocr_operator.decide.routing.policies.warm_first import MIN_CALM_SECONDS
from ocr_operator.resources import observed
from ocr_operator.resources.spec import Routing
from ocr_wire import routing as wire_routing
from ocr_wire import state as podstate
from ocr_wire.checked import Invalid
from ocr_wire.settings import RoutingPolicy
from tests.support import observations

NOW = datetime(2026, 11, 25, 8, tzinfo=UTC)
PAGES = 2
CALM = 30.0


def pod(name: str, warmth: Warmth = Warmth.UNLOADED, **values: Any) -> Candidate:
    eligibility = values.pop("eligibility", Eligibility.USABLE)
    label = values.pop("label", None)
    return Candidate(
        uid=f"uid-{name}", name=name, label=label, eligibility=eligibility, warmth=warmth, **values
    )


def spec_with(**values: Any) -> Routing:
    return Routing(**({"max_queue_per_pod": 4, "stabilization_seconds": 30} | values))


def labelled(pods: list[Candidate], decision: Decision) -> list[Candidate]:
    """The pods once the decision's patches are through."""
    changed = dict.fromkeys(decision.joins, "true") | dict.fromkeys(decision.leaves, "false")
    return [replace(each, label=changed.get(each.uid, each.label)) for each in pods]


class Story:
    """Decisions one after the other, each carried out."""

    def __init__(self, *pods: Candidate, **values: Any) -> None:
        self.pods = list(pods)
        self.routing = spec_with(**values)
        self.state = RoutingState()
        self.now = 0.0
        self.last: Decision | None = None

    def decide(self, after: float = 0.0) -> str:
        """The names of the set, such as "a b"."""
        self.now += after
        self.last = routing.decide(self.pods, self.routing, PAGES, self.state, self.now)
        self.state = self.last.state
        self.pods = labelled(self.pods, self.last)
        return " ".join(each.name for each in self.pods if each.label == "true")

    def set(self, name: str, **values: Any) -> None:
        self.pods = [replace(each, **values) if each.name == name else each for each in self.pods]

    @property
    def woken(self) -> list[str]:
        assert self.last is not None
        return list(self.last.wakes)

    @property
    def why(self) -> str:
        assert self.last is not None
        return "; ".join(self.last.why)


def four() -> tuple[Candidate, ...]:
    return tuple(pod(name) for name in "abcd")


# --- who wakes ----------------------------------------------------------------------------------------------------


def test_the_first_one_is_the_fastest_to_wake() -> None:
    story = Story(
        pod("a", Warmth.UNLOADED),
        pod("b", Warmth.EXITED),
        pod("c", Warmth.CPU, wake_seconds=0.9),
        pod("d", Warmth.CPU, wake_seconds=0.4),
    )
    assert story.decide() == "d"
    assert story.why == (
        "d joins, the fastest to wake (its weights are in host memory, which took 0.4 s last time)"
    )


def test_sparse_traffic_stays_on_one_pod() -> None:
    story = Story(*four())
    story.decide()
    for _ in range(100):
        story.set("a", in_flight=1, warmth=Warmth.READY)
        assert story.decide(1.0) == "a"
        story.set("a", in_flight=0)
        assert story.decide(1.0) == "a"


def test_a_queue_up_to_the_bar_wakes_nobody() -> None:
    story = Story(*four())
    story.decide()
    story.set("a", waiting=4)
    assert story.decide() == "a"
    story.set("a", waiting=5)
    assert story.decide() == "a b"
    assert story.why == (
        "5 requests wait for 1 awake pod, more than 4 each: "
        "b joins, the fastest to wake (its model is unloaded)"
    )


def test_a_burst_wakes_as_many_as_it_needs_at_once_and_no_more_than_there_are() -> None:
    story = Story(*four())
    story.decide()
    story.set("a", waiting=12)
    assert story.decide() == "a b c"
    story.set("a", waiting=400)
    assert story.decide() == "a b c d"


def test_those_who_join_for_a_queue_are_woken_if_they_sleep() -> None:
    story = Story(pod("a", Warmth.READY), pod("b", Warmth.READY), pod("c", Warmth.LOADING), pod("d"))
    story.decide()
    assert story.woken == [], "the first one waits for a request"
    story.set("a", waiting=400)
    assert story.decide() == "a b c d"
    assert story.woken == ["uid-d"]
    story.decide()
    assert story.woken == []


def test_ready_pods_join_before_those_in_host_memory_and_those_before_unloaded_ones() -> None:
    story = Story(pod("a"), pod("b"), pod("c", Warmth.EXITED), pod("d", Warmth.READY))
    assert story.decide() == "d"
    story.set("d", waiting=8 + 1)
    assert story.decide() == "a c d"


# --- who leaves ---------------------------------------------------------------------------------------------------


def test_the_set_shrinks_one_by_one_after_a_calm_time() -> None:
    story = Story(*four())
    story.decide()
    story.set("a", waiting=16)
    assert story.decide() == "a b c d"
    story.set("a", waiting=0, warmth=Warmth.READY)
    assert story.decide() == "a b c d"
    assert story.decide(CALM - 1) == "a b c d"
    assert story.decide(1) == "a b c"
    assert "one pod fewer had room for all requests for 30 s: d leaves (its model is unloaded)" in story.why
    assert story.decide(CALM - 1) == "a b c"
    assert story.decide(1) == "a b"
    assert story.decide(CALM) == "a"
    assert story.decide(10 * CALM) == "a"


def test_a_moment_of_need_starts_the_calm_time_anew() -> None:
    story = Story(*four(), min_awake=0)
    story.decide()
    story.set("a", waiting=5)
    story.decide()
    story.set("a", waiting=0)
    story.decide()
    story.decide(CALM - 1)
    story.set("b", in_flight=PAGES + 1)
    assert story.decide(0.5) == "a b"
    story.set("b", in_flight=0)
    assert story.decide(0.5) == "a b"
    assert story.decide(CALM - 1) == "a b"
    assert story.decide(1) == "a"


def test_the_coldest_leaves_and_among_equals_the_emptiest() -> None:
    story = Story(
        pod("a", Warmth.READY, label="true", in_flight=1),
        pod("b", Warmth.READY, label="true"),
        pod("c", Warmth.CPU, label="true"),
    )
    story.decide()
    assert story.decide(CALM) == "a b"
    assert story.decide(CALM) == "a"


def test_a_long_wake_is_no_reason_to_leave() -> None:
    """Requests that wait for a load keep the pods that they woke."""
    story = Story(*four())
    story.decide()
    story.set("a", waiting=5, warmth=Warmth.LOADING)
    assert story.decide() == "a b"
    for _ in range(20):
        assert story.decide(10.0) == "a b"


def test_min_awake_is_kept_and_followed_live() -> None:
    story = Story(*four(), min_awake=2)
    assert story.decide() == "a b"
    assert story.decide(10 * CALM) == "a b"
    story.routing = spec_with(min_awake=9)
    assert story.decide() == "a b c d"
    story.routing = spec_with(min_awake=0)
    for _ in range(4):
        story.decide(CALM)
    assert story.decide() == "a"


def test_an_idle_sleeper_changes_places_with_one_that_wakes_faster() -> None:
    story = Story(*four())
    story.decide()
    story.set("c", warmth=Warmth.CPU)
    assert story.decide() == "a"
    assert story.decide(CALM) == "c"
    assert story.why.startswith("c (its weights are in host memory) takes the place of a")
    assert story.decide(CALM) == "c"


# --- trouble ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", [Eligibility.DOUBTFUL, Eligibility.OUT])
def test_a_pod_in_trouble_is_replaced_at_once_and_comes_back_as_a_sleeper(trouble: Eligibility) -> None:
    story = Story(*four())
    story.decide()
    story.set("a", eligibility=trouble)
    assert story.decide() == "b"
    assert (
        "b joins, the fastest to wake (its model is unloaded) in place of a, which can't serve" in story.why
    )
    story.set("a", eligibility=Eligibility.USABLE)
    assert story.decide() == "b"


def test_a_deleted_pod_is_replaced_at_once() -> None:
    story = Story(*four())
    story.decide()
    story.pods = story.pods[1:]
    assert story.decide() == "b"


def test_the_last_pod_stays_even_in_trouble() -> None:
    """An operator that is cut off from the pods must not cut everybody else off from them."""
    story = Story(*four())
    story.decide()
    for name in "abcd":
        story.set(name, eligibility=Eligibility.DOUBTFUL)
    assert story.decide() == "a"
    for name in "abcd":
        story.set(name, eligibility=Eligibility.OUT)
    assert story.decide() == "a"
    story.set("c", eligibility=Eligibility.DOUBTFUL)
    assert story.decide() == "c", "ready is better than not"


def test_a_pod_whose_model_fails_to_load_is_replaced_unless_all_do() -> None:
    story = Story(*four())
    story.decide()
    story.set("a", warmth=Warmth.FAILED)
    assert story.decide() == "b"
    for name in "bcd":
        story.set(name, warmth=Warmth.FAILED)
        story.decide()
    assert story.decide() == story.decide()
    assert story.decide() in ["a", "b", "c", "d"]


def test_labels_edited_by_hand_are_mended() -> None:
    story = Story(*four())
    story.decide()
    story.set("a", label="false")
    story.set("b", label="true")
    story.set("c", label="maybe")
    assert story.decide() == "a"
    assert [each.label for each in story.pods] == ["true", "false", "false", "false"]
    assert story.why == ""


def test_a_fresh_operator_keeps_the_set_before_it_has_heard_of_anybody() -> None:
    story = Story(*four())
    story.set("c", label="true")
    for name in "abcd":
        story.set(name, eligibility=Eligibility.UNHEARD, warmth=Warmth.UNKNOWN)
    assert story.decide() == "c"
    assert story.decide(CALM) == "c"
    for name in "abcd":
        story.set(name, eligibility=Eligibility.USABLE, warmth=Warmth.UNLOADED)
    assert story.decide(CALM) == "c"


# --- the policy is live -------------------------------------------------------------------------------------------


def test_policy_all_wakes_everybody_and_back_again_they_leave_one_by_one() -> None:
    story = Story(*four())
    story.decide()
    story.routing = spec_with(policy="all")
    assert story.decide() == "a b c d"
    assert story.why == "policy all: every pod is awake"
    story.routing = spec_with()
    assert story.decide() == "a b c d"
    assert story.decide(CALM) == "a b c"


def test_the_first_pod_of_a_resource_is_placed_awake_and_the_others_asleep() -> None:
    """So somebody takes requests even if the operator dies before the pods are ready."""
    read = [observed.pod(observations.raw_pod(name)) for name in "ab"]
    state, first = routing.place(read[0], spec_with(), RoutingState(), NOW)
    assert first[0]["value"] == "true"
    assert explained(first) == (True, "it was placed while no other pod was awake")
    state, second = routing.place(read[1], spec_with(), state, NOW)
    assert second[0]["value"] == "false"
    assert explained(second)[0] is False
    assert "it was placed while 1 other pod was awake" in explained(second)[1]
    assert state.members == {"uid-a": "a"}
    always = routing.place(read[1], spec_with(policy="all"), state, NOW)[1]
    assert always[0]["value"] == "true"
    assert explained(always) == (True, "each pod is awake at once")


def explained(patch: list[dict[str, Any]]) -> tuple[bool | None, str]:
    """What the patch writes for people, and of which time."""
    [text] = [
        each["value"] for each in patch if each["path"] == "/metadata/annotations/ocr-operator.io~1routing"
    ]
    found = wire_routing.read(text)
    assert isinstance(found, wire_routing.Record)
    assert found.time == NOW
    return found.awake, found.why


def test_a_label_goes_with_the_reason_of_the_change() -> None:
    pod = replace(observed.pod(observations.raw_pod("a")), annotations={"of": "a placed pod"})
    patch = routing.patch(pod, ("11 requests wait", "a joins\x1b[2J"), NOW, awake=True)
    assert [each["op"] for each in patch] == ["test", "add", "add"]
    assert explained(patch) == (True, "11 requests wait; a joins [2J")


def test_a_label_that_is_mended_keeps_the_reason_that_was_given() -> None:
    pod = replace(observed.pod(observations.raw_pod("a")), annotations={"of": "a placed pod"})
    assert len(routing.patch(pod, (), NOW, awake=True)) == 2


def test_the_reason_is_left_out_of_a_patch_that_could_not_add_it() -> None:
    """Adding the whole map of annotations would erase what another program adds at the same time."""
    pod = replace(observed.pod(observations.raw_pod("a")), annotations={})
    assert len(routing.patch(pod, ("a joins",), NOW, awake=True)) == 2


# --- the example of docs/awake-set.md -----------------------------------------------------------------------------


def test_the_worked_example() -> None:
    host = {"warmth": Warmth.CPU}
    story = Story(pod("a", **host, wake_seconds=0.4), pod("b", **host, wake_seconds=0.9), pod("c"), pod("d"))

    def at(seconds: float, **requests: tuple[int, int]) -> str:
        """What waits and what is read from then on."""
        for name in "abcd":
            waiting, in_flight = requests.get(name, (0, 0))
            story.set(name, waiting=waiting, in_flight=in_flight)
        return story.decide(seconds - story.now)

    assert at(0) == "a"
    story.set("a", warmth=Warmth.READY, wake_seconds=None)
    assert at(5, a=(0, 1)) == "a"
    assert at(60, a=(11, 0)) == "a b c"
    assert "11 requests wait for 1 awake pod, more than 4 each: b, c join" in story.why
    assert at(61, a=(9, 2), b=(3, 0), c=(4, 0)) == "a b c d"
    for name in "bcd":
        story.set(name, warmth=Warmth.READY, wake_seconds=None)
    assert at(65, a=(0, 1), b=(0, 1)) == "a b c d"
    assert at(95, a=(0, 1), b=(0, 1)) == "a b c"
    assert "d leaves (its model is ready)" in story.why
    assert at(105, a=(0, 2), b=(0, 2), c=(0, 2)) == "a b c"
    assert at(110) == "a b c"
    assert at(140) == "a b"
    assert at(170) == "a"
    for name in "bcd":
        story.set(name, warmth=Warmth.CPU, wake_seconds=0.9 if name == "b" else None)
    story.set("a", eligibility=Eligibility.DOUBTFUL)
    assert at(192) == "b"


# --- properties ---------------------------------------------------------------------------------------------------

candidates = st.lists(
    st.builds(
        Candidate,
        uid=st.text("0123456789", min_size=1, max_size=3),
        name=st.sampled_from("abcdefgh"),
        label=st.sampled_from([None, "true", "false", "True", ""]),
        eligibility=st.sampled_from(Eligibility),
        warmth=st.sampled_from(Warmth),
        wake_seconds=st.none() | st.floats(0, 1e9),
        waiting=st.integers(0, 100) | st.just(2**62),
        in_flight=st.integers(0, 20),
    ),
    max_size=8,
    unique_by=lambda each: each.uid,
)
routings = st.builds(
    Routing,
    policy=st.sampled_from(["warmFirst", "all"]),
    max_queue_per_pod=st.integers(1, 20),
    min_awake=st.integers(0, 10),
    stabilization_seconds=st.integers(0, 60),
)
memories = st.builds(
    RoutingState,
    members=st.none()
    | st.dictionaries(st.text("0123456789", min_size=1, max_size=3), st.just("x"), max_size=4),
    calm_since=st.none() | st.floats(0, 100),
)


@given(candidates, routings, memories, st.randoms(use_true_random=False))
def test_order_is_irrelevant(pods: list[Candidate], rules: Routing, state: RoutingState, random: Any) -> None:
    shuffled = list(pods)
    random.shuffle(shuffled)
    assert routing.decide(shuffled, rules, 8, state, 100.0) == routing.decide(pods, rules, 8, state, 100.0)


@given(candidates, routings, memories)
def test_never_empty_and_never_in_trouble_while_somebody_is_not(
    pods: list[Candidate], rules: Routing, state: RoutingState
) -> None:
    decision = routing.decide(pods, rules, 8, state, 100.0)
    members = [each for each in pods if each.uid in (decision.state.members or {})]
    assert bool(members) == bool(pods)
    if rules.policy == "warmFirst" and any(each.eligibility is Eligibility.USABLE for each in pods):
        assert all(each.eligibility <= Eligibility.UNHEARD for each in members)
        trusted = [each for each in pods if each.eligibility <= Eligibility.UNHEARD]
        assert len(members) >= min(len(trusted), max(1, rules.min_awake))


@given(candidates, routings, memories)
def test_once_carried_out_nothing_is_left_to_do(
    pods: list[Candidate], rules: Routing, state: RoutingState
) -> None:
    first = routing.decide(pods, rules, 8, state, 100.0)
    after = labelled(pods, first)
    assert {each.uid for each in after if each.label == "true"} == set(first.state.members or {})
    second = routing.decide(after, rules, 8, first.state, 100.0)
    assert (second.joins, second.leaves, second.why) == ((), (), ())
    assert second.state == first.state


@given(candidates, routings, memories, st.integers(1, 100), st.data())
def test_a_longer_queue_never_makes_the_set_smaller(
    pods: list[Candidate], rules: Routing, state: RoutingState, more: int, data: st.DataObject
) -> None:
    if not pods:
        return
    longer = data.draw(st.sampled_from(pods))
    fuller = [replace(each, waiting=each.waiting + more) if each is longer else each for each in pods]
    size = len(routing.decide(pods, rules, 8, state, 100.0).state.members or {})
    assert len(routing.decide(fuller, rules, 8, state, 100.0).state.members or {}) >= size


@given(
    st.lists(st.lists(st.integers(0, 12), min_size=4, max_size=4), min_size=60, max_size=60),
    st.integers(0, 20),
)
def test_moves_per_minute_are_bounded(queues: list[list[int]], stabilization: int) -> None:
    """Whatever the queues do for a minute, seen every second."""
    story = Story(*four(), stabilization_seconds=stabilization)
    left = 0
    for queue in queues:
        for each, waiting in zip("abcd", queue, strict=True):
            story.set(each, waiting=waiting)
        story.decide(1.0)
        assert story.last is not None
        left += len(story.last.leaves)
    assert left - 4 <= 60 / max(stabilization, MIN_CALM_SECONDS)


# --- what is seen -------------------------------------------------------------------------------------------------


def seen(**changes: Any) -> Candidate:
    raw = observations.raw_state("a", models={"x": ("unloaded", "unloaded"), "y": ("ready", "gpu")})
    raw["draining"] = changes.pop("draining", False)
    raw["models"][0] |= changes.pop("model", {})
    state = podstate.parse(raw)
    assert isinstance(state, podstate.PodState), state
    read = observed.pod(observations.raw_pod("a", ready=changes.pop("ready", True)))
    states = {} if changes.pop("unheard", False) else {read.uid: state}
    [found] = routing.candidates([read], states, {read.uid} if changes.pop("lost", False) else (), ["x", "y"])
    return found


def test_what_a_pod_can_be_trusted_with() -> None:
    assert seen().eligibility is Eligibility.USABLE
    assert seen(unheard=True).eligibility is Eligibility.UNHEARD
    assert seen(unheard=True, lost=True).eligibility is Eligibility.DOUBTFUL
    assert seen(draining=True).eligibility is Eligibility.DOUBTFUL
    assert seen(ready=False).eligibility is Eligibility.OUT


@pytest.mark.parametrize(
    ("model", "warmth", "seconds"),
    [
        ({"last_load_seconds": 7.0, "last_wake_seconds": 1.0}, Warmth.UNLOADED, 7.0),
        ({"state": "offloaded", "location": "cpu", "last_wake_seconds": 1.0}, Warmth.CPU, 1.0),
        ({"state": "offloaded", "location": "cpu", "worker": "exited"}, Warmth.EXITED, None),
        ({"state": "ready", "location": "gpu", "last_wake_seconds": 1.0}, Warmth.READY, None),
        ({"state": "loading"}, Warmth.LOADING, None),
        ({"failures": 1}, Warmth.FAILED, None),
        ({"name": "z"}, Warmth.UNKNOWN, None),
        ({"state": "hibernating", "location": "cpu"}, Warmth.UNKNOWN, None),
    ],
)
def test_how_fast_a_pod_wakes(model: dict[str, Any], warmth: Warmth, seconds: float | None) -> None:
    found = seen(model=model)
    assert (found.warmth, found.wake_seconds) == (warmth, seconds)


@pytest.mark.parametrize("lie", [-1.0, 1e300, "fast", True])
def test_a_pod_that_lies_about_its_wakes_is_not_believed(lie: object) -> None:
    raw = observations.raw_state("a", models={"x": ("unloaded", "unloaded")})
    raw["models"][0]["last_wake_seconds"] = lie
    assert isinstance(podstate.parse(msgspec.json.encode(raw)), Invalid)


def test_the_model_that_most_wait_for_counts_else_the_default() -> None:
    raw = observations.raw_state("a", models={"x": ("unloaded", "unloaded"), "y": ("ready", "gpu")})
    idle = podstate.parse(raw)
    raw["models"][1]["waiting"] = 3
    busy = podstate.parse(raw)
    assert isinstance(idle, podstate.PodState)
    assert isinstance(busy, podstate.PodState)
    assert routing.asked_for([idle], ["x", "y"]) == "x"
    assert routing.asked_for([idle, busy], ["x", "y"]) == "y"
    assert routing.asked_for([busy], ["x"]) == "x", "a model that isn't in the spec is nobody's"


def test_there_is_a_policy_for_each_that_a_resource_may_name() -> None:
    assert set(routing.POLICIES) == set(get_args(RoutingPolicy))
    assert {name: each.name for name, each in routing.POLICIES.items()} == {
        name: name for name in routing.POLICIES
    }
