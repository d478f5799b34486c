"""What the pods around forbid: pod affinity and anti-affinity of both sides, topology spread."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from ocr_operator.decide.placement import topology
from ocr_operator.decide.placement.census import Census
from ocr_operator.decide.placement.topology import AFFINITY, ANTI_AFFINITY, OTHERS, SPREAD, Population
from ocr_operator.resources import affinity
from ocr_operator.resources.demand import Demand
from ocr_operator.resources.observed import Node, Taint
from ocr_operator.resources.tenant import Kin, Tenant, TenantReader
from tests.unit.ocr_operator.decide.placement.test_placement import make_node, make_request

HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
WEB = {"matchLabels": {"app": "web"}}
NODES = {
    name: make_node(name, labels={HOST: name, ZONE: zone})
    for name, zone in (("a1", "a"), ("a2", "a"), ("b1", "b"))
}


def term(key: str = HOST, selector: Mapping[str, Any] | None = WEB, **more: Any) -> dict[str, Any]:
    return {"topologyKey": key, "labelSelector": selector, **more}


def kin(app: str, namespace: str = "default", apart: Sequence[Mapping[str, Any]] = ()) -> Kin:
    wants = {"podAntiAffinity": {REQUIRED: [*apart]}}
    return TenantReader().kin(namespace, {"app": app}, wants)


def pod(node: str, app: str = "web", *, priority: int = 0, **change: Any) -> Tenant:
    of = {key: change.pop(key) for key in ("namespace", "apart") if key in change}
    return Tenant(node, Demand(priority=priority), kin(app, **of), **change)


def population(*pods: Tenant, **change: Any) -> Population:
    census = Census()
    for each in pods:
        census.add(each)
    return Population(census, **change)


def barred(
    *pods: Tenant,
    near: Sequence[Mapping[str, Any]] = (),
    apart: Sequence[Mapping[str, Any]] = (),
    spread: Sequence[Mapping[str, Any]] = (),
    nodes: Mapping[str, Node] = NODES,
    gone: Any = None,
    there: Population | None = None,
    **request: Any,
) -> dict[str, str]:
    """Node → why the pod `ours` may not go there."""
    constraints = [{"whenUnsatisfiable": "DoNotSchedule", "maxSkew": 1, **each} for each in spread]
    asking = make_request(
        kin=kin("ours", apart=apart),
        near=affinity.near({"podAffinity": {REQUIRED: [*near]}}),
        spread=affinity.spread({"topologySpreadConstraints": constraints}),
        **request,
    )
    found = topology.rules(asking, list(nodes.values()), there or population(*pods))
    if found is None:
        return {}
    return {name: why for name, node in nodes.items() if (why := found.bars(node, gone))}


def test_nothing_is_barred_for_who_asks_for_nothing() -> None:
    nodes = iter(NODES.values())

    assert topology.rules(make_request(), nodes, population(pod("a1"))) is None
    assert len(list(nodes)) == len(NODES), "no node was looked at, of a thousand for each choice"


@pytest.mark.parametrize(
    ("asked", "nodes"),
    [
        (term(), ["a1"]),
        (term(ZONE), ["a1", "a2"]),
        (term("rack"), []),
        (term(selector={"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}), ["a1"]),
        (term(selector={}), ["a1"]),
        (term(selector=None), []),
        (term(namespaces=["other"]), []),
        (term(namespaces=["other", "default"]), ["a1"]),
        (term(namespaceSelector={"matchLabels": {"team": "x"}}), ["a1"]),
        (term(namespaceSelector={"matchLabels": {"team": "y"}}), []),
        (term(namespaceSelector={}), ["a1"]),
    ],
)
def test_anti_affinity_of_the_pod_and_of_others(asked: dict[str, Any], nodes: list[str]) -> None:
    teams = {"default": {"team": "x"}}.__getitem__
    mine = population(pod("a1"), namespace_labels=teams)
    assert barred(there=mine, apart=[asked]) == dict.fromkeys(nodes, ANTI_AFFINITY)
    turned = {"labelSelector": {"matchLabels": {"app": "ours"}}} if asked["labelSelector"] else {}
    theirs = population(pod("a1", apart=[{**asked, **turned}]), namespace_labels=teams)
    assert barred(there=theirs) == dict.fromkeys(nodes, OTHERS)


def test_pods_on_their_way_keep_others_away_too() -> None:
    coming = population(coming=[pod("a1"), pod("b1", "x", apart=[term(selector={})])])
    assert barred(there=coming, apart=[term()]) == {"a1": ANTI_AFFINITY, "b1": OTHERS}


def test_a_node_that_is_kept_for_a_pod_is_its_place_and_nothing_else_of_its_domain() -> None:
    """As for the scheduler, which counts such pods on the node that it looks at."""
    kept = pod("a1", kept=True)
    assert barred(kept, apart=[term(ZONE)]) == {"a1": ANTI_AFFINITY}
    assert barred(kept, apart=[term(ZONE)], gone=lambda each: each.kept) == {}
    assert set(barred(kept, near=[term(ZONE)])) == set(NODES), "it isn't there"


def test_pods_on_unknown_nodes_are_nowhere() -> None:
    assert barred(
        pod("z9", apart=[term(selector={})]), apart=[term(ZONE)], near=[term(ZONE)]
    ) == dict.fromkeys(NODES, AFFINITY)


class TestAffinity:
    def test_the_pod_stays_near(self) -> None:
        assert barred(pod("a1"), near=[term(ZONE)]) == {"b1": AFFINITY}
        assert barred(pod("a1"), near=[term()]) == {"a2": AFFINITY, "b1": AFFINITY}

    def test_near_one_pod_that_all_terms_mean(self) -> None:
        both = [term(ZONE), term(selector={"matchLabels": {"app": "db"}})]
        assert set(barred(pod("a1"), pod("a1", "db"), near=both)) == set(NODES)

    def test_the_first_of_a_group_begins_anywhere_that_has_the_key(self) -> None:
        itself = [term(ZONE, {"matchLabels": {"app": "ours"}})]
        nodes = {**NODES, "c1": make_node("c1")}
        assert barred(pod("a1"), near=itself, nodes=nodes) == {"c1": AFFINITY}
        assert barred(pod("a1", "ours"), near=itself, nodes=nodes) == {"b1": AFFINITY, "c1": AFFINITY}

    def test_and_who_waits_for_others_does_not(self) -> None:
        assert set(barred(near=[term()])) == set(NODES)


def test_pods_that_are_thought_away_bar_nothing_on_their_node() -> None:
    def lower(tenant: Tenant) -> bool:
        return tenant.demand.priority < 10

    low = pod("a1", priority=1)
    assert barred(low, apart=[term(ZONE)], gone=lower) == {"a2": ANTI_AFFINITY}, "no node for another's pods"
    assert barred(low, pod("a1", priority=20), apart=[term()], gone=lower) == {"a1": ANTI_AFFINITY}
    assert barred(pod("a1", priority=1, apart=[term(selector={})]), gone=lower) == {}
    assert "a1" in barred(low, near=[term(ZONE)], gone=lower), "nor may it be near them"


OUR_APP = {"matchLabels": {"app": "ours"}}


class TestSpread:
    def spread(self, *pods: Tenant, key: str = ZONE, **more: Any) -> dict[str, str]:
        request = {each: more.pop(each) for each in ("nodes", "gone", "node_selector") if each in more}
        return barred(*pods, spread=[{"topologyKey": key, "labelSelector": OUR_APP, **more}], **request)

    def test_over_domains(self) -> None:
        one = pod("a1", "ours")
        assert self.spread(one) == {"a1": SPREAD, "a2": SPREAD}
        assert self.spread(one, key=HOST) == {"a1": SPREAD}
        assert self.spread(one, maxSkew=2) == {}
        assert self.spread(one, pod("b1", "ours")) == {}
        assert self.spread(pod("a1", "web")) == {}
        assert self.spread(pod("a1", "ours", namespace="other")) == {}
        assert self.spread(pod("a1", "ours", leaving=True)) == {}, "it is as good as gone"

    def test_nodes_without_the_key_are_barred_and_no_domain(self) -> None:
        nodes = {**NODES, "c1": make_node("c1", labels={HOST: "c1"})}
        assert self.spread(pod("a1", "ours"), pod("b1", "ours"), nodes=nodes) == {"c1": SPREAD}

    def test_too_few_domains_count_as_an_empty_one(self) -> None:
        each = [pod("a1", "ours"), pod("b1", "ours")]
        assert self.spread(*each, minDomains=2) == {}
        assert set(self.spread(*each, minDomains=3)) == set(NODES)

    def test_nodes_that_the_pod_does_not_choose_are_no_domains(self) -> None:
        in_a: dict[str, Any] = {"node_selector": {ZONE: "a"}}
        assert "a1" not in self.spread(pod("a1", "ours"), **in_a)
        assert "a1" in self.spread(pod("a1", "ours"), nodeAffinityPolicy="Ignore", **in_a)

    def test_tainted_nodes_are_domains_unless_it_is_said(self) -> None:
        tainted = {
            **NODES,
            "b1": make_node("b1", labels={ZONE: "b"}, taints=(Taint(key="x", effect="NoSchedule"),)),
        }
        assert "a1" in self.spread(pod("a1", "ours"), nodes=tainted)
        assert "a1" not in self.spread(pod("a1", "ours"), nodes=tainted, nodeTaintsPolicy="Honor")

    def test_only_pods_of_the_same_roll_out(self) -> None:
        assert set(self.spread(pod("a1", "ours"), matchLabelKeys=["app"])) == {"a1", "a2"}
        kept = OUR_APP | {"matchLabels": {}}
        assert self.spread(pod("a1", "web"), matchLabelKeys=["app"], labelSelector=kept) == {}

    def test_an_empty_selector_counts_nobody(self) -> None:
        assert self.spread(pod("a1", "ours"), labelSelector={}) == {}

    def test_pods_that_are_thought_away(self) -> None:
        assert self.spread(pod("a1", "ours"), gone=lambda _: True) == {"a2": SPREAD}


@pytest.mark.parametrize(
    "odd",
    [
        {"topologyKey": 5},
        {"labelSelector": WEB},
        term(selector={"matchExpressions": [{"key": "app", "operator": "Like", "values": ["w"]}]}),
        term(selector={"matchLabels": {"app": 1}}),
    ],
)
def test_what_can_not_be_read_is_left_to_the_scheduler(odd: dict[str, Any]) -> None:
    assert barred(pod("a1"), apart=[odd], near=[odd], spread=[odd]) == {}
    assert barred(pod("a1", apart=[odd])) == {}
