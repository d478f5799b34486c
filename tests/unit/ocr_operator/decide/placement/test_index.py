"""What is kept of nodes comes to the same as what is told anew, after whatever happened; and a choice looks at what
changed only.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.decide.placement import (
    POLICIES,
    NoFit,
    Placement,
    PlacementPolicy,
    Request,
    Reservation,
    candidates,
    predicates,
)
from ocr_operator.decide.placement.candidate import Place
from ocr_operator.decide.placement.index import KINDS, MANY, OFFERS, NodeIndex
from ocr_operator.decide.placement.load import loads
from ocr_operator.decide.placement.predicates import Price, Usage
from ocr_operator.decide.placement.topology import Population
from ocr_operator.decide.placement.types import CLAIMED
from ocr_operator.gpuload.dcgm import GpuReading, Source
from ocr_operator.resources import affinity
from ocr_operator.resources.demand import Demand
from ocr_operator.resources.observed import Node, Taint
from ocr_operator.resources.tenant import NOBODY, Tenant
from tests.support import plainchoice
from tests.unit.ocr_operator.decide.placement.test_placement import (
    GPUS,
    NOW,
    make_gpu,
    make_node,
    make_request,
    make_reservation,
)
from tests.unit.ocr_operator.decide.placement.test_topology import HOST, REQUIRED, ZONE, kin, population, term

NAMES = ("node-0", "node-1", "node-2")
CPU = Demand((("cpu", 1000),), priority=0)
LARGE = Demand((("cpu", 3000),), priority=5)
KIN = (NOBODY, kin("web"), kin("ours"), kin("shy", apart=[term(ZONE)]))
AGES = (None, -90, -30, 0, 0, 30, 61, 200, 299, 301)
"""Seconds that data, promises and nodes are old."""
STEPS = (1, 2, 29, 31, 100, 300, -40)
EVENTS = 25
NODES: Mapping[str, Any] = {
    "plain": {},
    "large": {"allocatable": {GPUS: 3, "cpu": 4000}},
    "new": {"created": NOW},
    "newer": {"created": NOW + timedelta(minutes=5)},
    "cordoned": {"cordoned": True},
    "tainted": {"taints": (Taint(key="k", effect="NoSchedule"),)},
    "product": {"labels": {"nvidia.com/gpu.product": "NVIDIA-A100"}},
    "replicas": {"allocatable": {GPUS: 8}, "labels": {"nvidia.com/gpu.replicas": "4"}},
}
REQUESTS = (
    make_request(),
    make_request("exclusive", 4),
    make_request("exclusive", 4, products=("NVIDIA-A100",), kin=kin("web")),
    make_request(memory=3, on_demand=True, refused={"node-0": 1, "node-2": 2}),
    make_request("claim", 4, resource=CLAIMED, count=1),
    make_request(memory=3, demand=LARGE, deployment="default/other"),
    make_request(memory=3, demand=LARGE, kin=kin("web", apart=[term()])),
    make_request("exclusive", 4, demand=LARGE, kin=kin("web")),
    make_request(memory=3, near=affinity.near({"podAffinity": {REQUIRED: [term(ZONE)]}})),
    make_request(
        memory=3,
        kin=kin("web"),
        spread=affinity.spread(
            {"topologySpreadConstraints": [term() | {"maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}]}
        ),
    ),
    make_request(memory=1, pod="default/p0", uid="uid-p0", kin=kin("web")),
    make_request("exclusive", 30, pod="default/p1", uid="uid-p1", demand=CPU),
)


@dataclass
class Cluster:
    """What happened so far: kept by an index, and written down."""

    policy: PlacementPolicy
    many: int = MANY
    now: datetime = NOW
    nodes: dict[str, Node] = field(default_factory=dict)
    readings: dict[str, list[GpuReading]] = field(default_factory=dict)
    usage: dict[str, Usage] = field(default_factory=dict)
    pods: dict[str, tuple[list[Reservation], list[Tenant]]] = field(default_factory=dict)
    around: tuple[list[Tenant], Population] = field(default_factory=lambda: ([], population()))
    """The pods on nodes, as they were at the last choice: the same object until one comes or goes."""

    def __post_init__(self) -> None:
        self.index = NodeIndex(self.policy, many=self.many)

    def choose(self, request: Request) -> Placement | NoFit:
        there = [each for usage in self.usage.values() for each in usage.tenants]
        if there != self.around[0]:
            self.around = there, population(*there)
        return self.index.choose(request, self.now, self.around[1])

    def reserve(self, uid: str, entries: list[Reservation], coming: list[Tenant]) -> None:
        self.pods[uid] = entries, coming
        self.index.reserve(uid, entries, coming)

    def plain(self, request: Request) -> Placement | NoFit:
        coming = [each for uid, (_, more) in self.pods.items() if uid != request.uid for each in more]
        there = [each for usage in self.usage.values() for each in usage.tenants]

        def taken(node: str) -> Usage:
            return self.usage.get(node, predicates.EMPTY).plus(each for each in coming if each.node == node)

        measured = [
            replace(each, read_at=self.now) if each.source is Source.POD else each
            for here in self.readings.values()
            for each in here
        ]
        entries = [entry for each, _ in self.pods.values() for entry in each]
        nodes = list(self.nodes.values())
        around = population(*there, coming=coming)
        return plainchoice.choose(request, nodes, measured, entries, self.now, self.policy, taken, around)


def happen(cluster: Cluster, dice: random.Random) -> None:
    """Let one thing happen."""
    name = dice.choice(NAMES)
    match dice.choice(["node", "readings", "readings", "usage", "pod", "pod", "choice", "time", "time"]):
        case "node":
            set_node(cluster, name, dice.choice([None, {}, *NODES.values()]))
        case "readings":
            set_readings(cluster, name, [gpu(dice) for _ in range(dice.randint(0, 3))])
        case "usage":
            set_usage(cluster, name, predicates.usage(tenant(dice, name) for _ in range(dice.randint(0, 3))))
        case "pod":
            entries = [reservation(dice) for _ in range(dice.randint(0, 2))]
            coming = [replace(tenant(dice, name), coming=True)] if dice.random() < 0.5 else []
            set_pod(cluster, f"p{dice.randint(0, 3)}", entries, coming)
        case "choice":
            place(cluster, dice.choice(REQUESTS))
        case _:
            cluster.now += timedelta(seconds=dice.choice(STEPS))


def tenant(dice: random.Random, node: str) -> Tenant:
    change = dice.choice([{}, {}, {"kept": True}, {"leaving": True}])
    return Tenant(node, dice.choice([CPU, LARGE]), dice.choice(KIN), **change)


def gpu(dice: random.Random) -> dict[str, Any]:
    return {
        "used": dice.choice([None, 0, 0, 10, 30, 60]),
        "age": dice.choice(AGES),
        "utilization": dice.choice([None, 0.0, 0.5]),
        "source": dice.choice(list(Source)),
        "holders": dice.choice([(), (), (), ("research/train-0",), ("default/p0",)]),
    }


def reservation(dice: random.Random) -> dict[str, Any]:
    kind = dice.choice(["pinned", "pinned", "device", "claim"])
    node = dice.choice(NAMES)
    return {
        "node": node,
        "uuid": "" if kind == "device" and dice.random() < 0.5 else f"GPU-{node}-{dice.randint(0, 2)}",
        "memory": dice.choice([1, 5, 20]),
        "resource": {"device": GPUS, "claim": CLAIMED}.get(kind, ""),
        "count": int(kind != "pinned"),
        "deployment": dice.choice(["default/invoices", "default/other", ""]),
        "up": dice.random() < 0.5,
        "used_bytes": dice.choice([None, 0, 2**30]),
        "on_demand": dice.random() < 0.3,
        "age": dice.choice(AGES),
    }


def before(cluster: Cluster, seconds: int | None) -> datetime | None:
    return None if seconds is None else cluster.now - timedelta(seconds=seconds)


def set_node(cluster: Cluster, name: str, change: dict[str, Any] | None) -> None:
    labels = {HOST: name, ZONE: "a" if name == NAMES[0] else "b"}
    if change is not None:
        change = {**change, "labels": labels | change.get("labels", {})}
    node = None if change is None else make_node(name, **change)
    if node is None:
        cluster.nodes.pop(name, None)
    else:
        cluster.nodes[name] = node
    cluster.index.set_node(name, node)


def set_readings(cluster: Cluster, name: str, described: list[dict[str, Any]]) -> None:
    cluster.readings[name] = [
        make_gpu(name, f"GPU-{name}-{k}", **{key: value for key, value in each.items() if key != "age"},
                 read_at=before(cluster, each["age"]))
        for k, each in enumerate(described)
    ]  # fmt: skip
    cluster.index.set_readings(name, cluster.readings[name])


def set_usage(cluster: Cluster, name: str, usage: Usage) -> None:
    cluster.usage[name] = usage
    cluster.index.set_usage(name, usage)


def set_pod(cluster: Cluster, pod: str, described: list[dict[str, Any]], coming: list[Tenant]) -> None:
    entries = [
        make_reservation(pod, **{key: value for key, value in each.items() if key != "age"},
                         placed=before(cluster, each["age"]))
        for each in described
    ]  # fmt: skip
    cluster.reserve(f"uid-{pod}", entries, coming)


def place(cluster: Cluster, request: Request) -> None:
    answer = cluster.choose(request)
    if isinstance(answer, Placement):
        cluster.reserve(request.uid, [answer.reservation(cluster.now)], [])


@given(st.sampled_from(list(POLICIES.values())), st.sampled_from([0, MANY]), st.integers(0, 2**32))
def test_kept_or_told_anew_the_choice_is_the_plain_one(policy: PlacementPolicy, many: int, seed: int) -> None:
    cluster, dice = Cluster(policy, many), random.Random(seed)
    for name in NAMES:
        set_node(cluster, name, {})
    for _ in range(EVENTS):
        happen(cluster, dice)
        for request in dice.sample(REQUESTS, 2):
            assert cluster.choose(request) == cluster.plain(request)
            another = replace(request, pod="default/another", uid="uid-another")
            assert cluster.choose(another) == cluster.plain(another)


def agree(cluster: Cluster, request: Request) -> Placement | NoFit:
    answer = cluster.choose(request)
    assert answer == cluster.plain(request)
    return answer


def test_a_new_node_grows_old() -> None:
    """Until then a GPU that nobody tells of is idle; afterwards one that is known to be busy comes first."""
    cluster = Cluster(POLICIES["leastLoaded"])
    set_node(cluster, "node-0", {"created": NOW - timedelta(minutes=9)})
    set_node(cluster, "node-1", {})
    cluster.now += timedelta(minutes=1)
    unknown = {"used": None, "utilization": None, "source": Source.EXPORTER, "age": 0, "holders": ()}
    set_readings(cluster, "node-0", [unknown])
    set_readings(cluster, "node-1", [unknown | {"used": 10}])

    assert getattr(agree(cluster, REQUESTS[0]), "node", "") == "node-0"
    cluster.now += timedelta(seconds=1)
    assert getattr(agree(cluster, REQUESTS[0]), "node", "") == "node-1"


def test_what_a_pod_measures_shows_a_promise_once_it_is_made() -> None:
    """Clocks differ: a promise may be of the next moment."""
    cluster = Cluster(POLICIES["leastLoaded"])
    set_node(cluster, "node-0", {})
    measured = {"used": 20, "utilization": None, "source": Source.POD, "age": 0, "holders": ()}
    set_readings(cluster, "node-0", [measured])
    promise = make_reservation("p0", "node-0", "GPU-node-0-0", 20, up=True, placed=NOW + timedelta(seconds=5))
    cluster.reserve("uid-p0", [promise], [])
    request = make_request(memory=12)

    assert isinstance(agree(cluster, request), NoFit), "20 GiB in use and 20 promised"
    cluster.now += timedelta(seconds=6)
    assert isinstance(agree(cluster, request), Placement), "those are the same"


def test_a_choice_looks_at_what_changed_only() -> None:
    cluster = Cluster(POLICIES["leastLoaded"])
    for name in NAMES:
        set_node(cluster, name, {})
    index, request = cluster.index, REQUESTS[0]

    assert not index.prepare(request, NOW, 2), "there are three"
    assert index.prepare(request, NOW, 2)
    set_usage(cluster, NAMES[0], predicates.usage([Tenant(NAMES[0], CPU)]))
    assert not index.prepare(request, NOW, 0)
    agree(cluster, request)
    assert index.prepare(replace(request, pod="default/other", uid="other"), NOW, 0), "it is of the same kind"
    assert not index.prepare(replace(request, memory_bytes=1), NOW, 0)


ALONE = kin("web", apart=[term()])
"""Of a pod that wants no other like it on its node."""


def fits_nowhere(memory: float) -> Cluster:
    """Nodes with 45 GiB free on each GPU, and a pod of the kind `web` on each."""
    cluster = Cluster(POLICIES["leastLoaded"])
    for name in NAMES:
        set_node(cluster, name, {})
        set_readings(cluster, name, [{"used": 0, "age": 0}])
        set_usage(cluster, name, predicates.usage([Tenant(name, CPU, kin("web"))]))
    assert isinstance(agree(cluster, make_request(memory=memory, kin=ALONE)), NoFit)
    return cluster


@pytest.mark.parametrize("memory", [3, 60], ids=["for the pods around", "for want of room"])
def test_equal_requests_that_fit_nowhere_get_the_answer_to_the_first(memory: float) -> None:
    cluster = fits_nowhere(memory)
    asked = [make_request(memory=memory, kin=ALONE, pod=f"default/p{n}", uid=f"u{n}") for n in range(3)]

    first, *others = [agree(cluster, each) for each in asked]

    assert all(each is first for each in others), "nothing was looked at again"


def test_what_fits_nowhere_at_all_is_found_once_for_all_resources() -> None:
    """What each of them says of the pods around is no reason: nothing would fit without."""
    cluster = fits_nowhere(60)
    first, *others = [
        agree(cluster, make_request(memory=60, deployment=f"default/{name}", kin=kin(name, apart=[term()])))
        for name in ("web", "b", "c")
    ]

    assert all(each is first for each in others)
    assert "anti-affinity" not in getattr(first, "message", "")


@pytest.mark.parametrize("change", ["a pod went", "a node", "a namespace", "a pod is on its way"])
def test_what_fitted_nowhere_is_looked_at_again_after_any_change(change: str) -> None:
    cluster = fits_nowhere(3)
    request = make_request(memory=3, kin=ALONE)
    refusal = agree(cluster, request)
    match change:
        case "a pod went":
            set_usage(cluster, NAMES[0], predicates.EMPTY)
        case "a node":
            set_node(cluster, "node-3", {})
        case "a namespace":
            cluster.index.forget_refusals()
        case _:
            set_pod(cluster, "p0", [], [Tenant(NAMES[0], CPU, kin("web"), coming=True)])

    assert agree(cluster, request) is not refusal


def test_what_fitted_nowhere_is_looked_at_again_when_a_pod_elsewhere_came_or_went() -> None:
    """Its node may be another one, and none of those that are looked at has changed."""
    cluster = fits_nowhere(3)
    request = make_request(memory=3, kin=ALONE)
    there = [Tenant(name, CPU, kin("web")) for name in NAMES]
    around = population(*there)
    refusal = cluster.index.choose(request, NOW, around)
    assert cluster.index.choose(request, NOW, around) is refusal
    for each in there:
        around.present.remove(each)

    assert isinstance(cluster.index.choose(request, NOW, around), Placement)


@pytest.mark.parametrize(("nodes", "kinds"), [(1, KINDS), (OFFERS // 3, 3), (OFFERS // 2 + 1, 2)])
def test_kinds_that_nobody_asks_for_any_more_are_dropped(nodes: int, kinds: int) -> None:
    index = NodeIndex()
    for number in range(nodes):
        index.set_node(f"n{number}", make_node(f"n{number}", cordoned=True))
    asked = [replace(REQUESTS[0], memory_bytes=size) for size in range(kinds + 1)]
    for request in asked:
        index.choose(request, NOW)

    assert all(index.prepare(request, NOW, 0) for request in asked[1:])
    assert not index.prepare(asked[0], NOW, 0)


def test_nothing_is_kept_of_what_is_gone() -> None:
    cluster, empty = Cluster(POLICIES["leastLoaded"]), NodeIndex()
    set_node(cluster, NAMES[0], {})
    set_readings(cluster, NAMES[0], [gpu(random.Random(1))])
    cluster.reserve("uid-p0", [make_reservation("p0", NAMES[0])], [Tenant(NAMES[1], CPU)])
    agree(cluster, REQUESTS[0])

    set_node(cluster, NAMES[0], None)
    set_readings(cluster, NAMES[0], [])
    cluster.reserve("uid-p0", [], [])
    agree(cluster, REQUESTS[0])

    answers = ("_views", "_due", "_now", "_refusals")
    kept = {name: value for name, value in vars(cluster.index).items() if name not in answers}
    assert kept == {name: vars(empty)[name] for name in kept}


@given(st.sampled_from(list(POLICIES.values())), st.integers(0, 2**32), st.integers(0, 9), st.integers(0, 9))
def test_what_requests_of_a_kind_differ_in_makes_no_candidate_better(
    policy: PlacementPolicy, seed: int, replicas: int, refused: int
) -> None:
    """What the walk from the front builds on."""
    cluster, dice = Cluster(policy), random.Random(seed)
    set_node(cluster, NAMES[0], {})
    set_readings(cluster, NAMES[0], [gpu(dice)])
    here = loads(cluster.nodes[NAMES[0]], cluster.readings[NAMES[0]], [], NOW)
    place = Place(cluster.nodes[NAMES[0]], predicates.EMPTY, Price.NOTHING)
    for request in REQUESTS:
        for each in candidates.find(request, place, here, [], NOW):
            worse = replace(
                each,
                siblings=(replicas // 2, replicas),
                refused=each.refused + refused,
                price=dice.choice(list(Price)),
            )
            assert policy.order(each) <= policy.order(worse)
