"""The books of all pods, kept as they come and go, against those made anew of what is there."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.controllers.tenants import Tenants
from ocr_operator.decide.placement import predicates
from ocr_operator.resources import observed
from ocr_operator.resources.demand import PODS
from ocr_operator.resources.observed import Pod
from ocr_operator.resources.tenant import Tenant
from ocr_wire import names
from tests.support.fakekube import FakeKube

HOST = "kubernetes.io/hostname"
HERE = frozenset({"default"})
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def raw(
    name: str,
    cpu: int = 1,
    *,
    node: str = "",
    nominated: str = "",
    app: str = "web",
    apart: bool = False,
    gated: bool = False,
    leaving: bool = False,
    ours: bool = False,
    phase: str = "Running",
) -> dict[str, Any]:
    term = {"topologyKey": HOST, "labelSelector": {"matchLabels": {"app": app}}}
    spec: dict[str, Any] = {"containers": [{"name": "a", "resources": {"requests": {"cpu": str(cpu)}}}]}
    spec |= {"nodeName": node} if node else {}
    spec |= {"affinity": {"podAntiAffinity": {REQUIRED: [term]}}} if apart else {}
    spec |= {"schedulingGates": [{"name": "x"}]} if gated else {}
    meta: dict[str, Any] = {"name": name, "namespace": "default", "uid": name, "labels": {"app": app}}
    meta["labels"] |= {names.LABEL_DEPLOYMENT: "invoices"} if ours else {}
    meta |= {"deletionTimestamp": "2026-01-01T00:00:00Z"} if leaving else {}
    return {"metadata": meta, "spec": spec, "status": {"nominatedNodeName": nominated, "phase": phase}}


def made(on_change: Callable[[str], None] = lambda _: None) -> Tenants:
    return Tenants(
        FakeKube(), time=lambda: 0.0, on_loss=lambda _: None, namespaces=("",), on_change=on_change
    )


PODS_ = st.builds(
    raw,
    st.sampled_from("abcdef"),
    st.integers(1, 2),
    node=st.sampled_from(["", "n1", "n2"]),
    nominated=st.sampled_from(["", "n1", "n2"]),
    app=st.sampled_from(["web", "db"]),
    apart=st.booleans(),
    gated=st.booleans(),
    leaving=st.booleans(),
    ours=st.booleans(),
    phase=st.sampled_from(["Running", "Failed"]),
)


class Watched:
    """Tenants behind the two watches that bring pods, which are those of the operator."""

    def __init__(self) -> None:
        self.tenants = made()
        self.own: dict[str, Pod] = {}

    def take(self, name: str, pod: dict[str, Any] | None) -> None:
        """Take a pod as it is now: each watch says that one is gone which it selects no longer."""
        ours = pod is not None and names.LABEL_DEPLOYMENT in pod["metadata"]["labels"]
        before = self.own.pop(name, None)
        if pod is not None and ours:
            self.own[name] = observed.pod(pod)
        if before or ours:
            self.tenants.pod_changed(before, self.own.get(name))
        if pod is not None and not ours and pod["status"]["phase"] == "Running":
            self.tenants.informer._set(pod)
        else:
            self.tenants.informer.gone(("default", name), name)


@given(st.lists(st.tuples(st.booleans(), PODS_), max_size=25))
def test_books_are_those_of_the_pods_that_are_there(steps: list[tuple[bool, dict[str, Any]]]) -> None:
    watched, there, anew = Watched(), dict[str, dict[str, Any]](), list[Tenant]()
    tenants = watched.tenants
    for goes, pod in steps:
        name = pod["metadata"]["name"]
        there.pop(name, None)
        if not goes:
            there[name] = pod
        watched.take(name, there.get(name))
        population = tenants.population(lambda _: {})
        lives = [each for each in there.values() if each["status"]["phase"] == "Running"]
        anew = [found for each in lives if (found := tenants._reader.read(each)).node]
        for node in ("n1", "n2"):
            assert Counter(tenants.usage(node).tenants) == Counter(each for each in anew if each.node == node)
        everywhere, here = (dict(population.of(each, lambda _: True)) for each in (None, HERE))
        assert Counter(everywhere) == Counter(here) == Counter(anew)
        assert {kin for kin, _ in population.apart_from("default")} == {
            each.kin for each in anew if each.kin.apart
        }
        assert not list(population.apart_from("elsewhere"))
    assert len(tenants) == len(anew)


def test_one_watch_brings_a_pod_and_a_change_of_it_once() -> None:
    """Pods of resources are many in a cold start, and of each the API server sends 10 kB four times."""
    tenants = made()
    assert tenants.informer._selector == f"!{names.LABEL_DEPLOYMENT}"
    tenants.pod_changed(None, observed.pod(raw("a", 2, node="n1", ours=True)))
    assert tenants.usage("n1").amounts == {"cpu": 2000}
    assert tenants.known(observed.pod(raw("a", ours=True)))


def test_pods_that_are_alike_share_what_is_kept_of_them() -> None:
    tenants = made()
    for name in "ab":
        tenants.informer._set(raw(name, node="n1", apart=True))
    one, two = tenants.usage("n1").tenants
    assert one.demand is two.demand
    assert one.kin is two.kin


def test_a_node_is_promised_to_who_is_nominated_unless_a_gate_is_shut() -> None:
    tenants = made()
    for pod in (raw("a", 2, nominated="n1"), raw("b", nominated="n1", gated=True), raw("c")):
        tenants.informer._set(pod)
    there = tenants.usage("n1")
    assert (there.amounts, there.pods) == ({"cpu": 2000}, 1)
    assert [each.kept for each in there.tenants] == [True]
    assert len(tenants) == 1


def test_pods_on_their_way_count_beside_those_that_are_there() -> None:
    tenants = made()
    tenants.informer._set(raw("a", 2, node="n1"))
    coming = tenants.coming("n1", observed.pod(raw("b", 3, apart=True)))
    assert tenants.usage("n1").plus([coming]).amounts == {"cpu": 5000}
    assert tenants.usage("n2") == predicates.EMPTY
    assert PODS not in tenants.usage("n1").amounts
    [(kin, _)] = replace(tenants.population(lambda _: {}), coming=[coming]).apart_from("default")
    assert kin is coming.kin


def test_nodes_where_something_changed_are_named() -> None:
    nodes: list[str] = []
    tenants = made(nodes.append)
    tenants.informer._set(raw("a"))
    tenants.informer._set(raw("a", node="n1"))
    tenants.informer._set(raw("b", node="n1"))
    tenants.informer.gone(("default", "a"), "a")
    assert nodes == ["n1"] * 3
