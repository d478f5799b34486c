"""The least loaded GPU that fits: by rule, by property, against an oracle; and the patch that says so."""

import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.decide import placement
from ocr_operator.decide.placement import (
    POLICIES,
    Basis,
    Gpu,
    NoFit,
    NoFitReason,
    Placement,
    PlacementPolicy,
    Request,
    Reservation,
    predicates,
)
from ocr_operator.decide.placement.decisions import MAX_EXCLUDED
from ocr_operator.gpuload.dcgm import GpuReading
from ocr_operator.resources import affinity, observed
from ocr_operator.resources.demand import Demand
from ocr_operator.resources.observed import Node, Taint, Toleration
from ocr_operator.resources.tenant import Tenant
from ocr_operator.settings import Settings
from ocr_wire import names
from ocr_wire import state as podstate
from tests.support.observations import raw_pod, raw_state
from tests.support.paths import DOCS
from tests.support.resources import DEEPSEEK, RAPIDOCR, make_deployment

GIB = 2**30
L40S = 46068 * 2**20
NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
GPUS = "nvidia.com/gpu"


def make_node(name: str = "gpu-a", gpus: int = 2, **change: Any) -> Node:
    reported: dict[str, Any] = {"name": name, "ready": True, "allocatable": {GPUS: gpus}}
    return Node(**(reported | change))


def make_gpu(node: str = "gpu-a", uuid: str = "GPU-1", used: float | None = 0, **change: Any) -> GpuReading:
    """`used` is in GiB."""
    reported: dict[str, Any] = {
        "node": node,
        "uuid": uuid,
        "product": "NVIDIA-L40S",
        "memory_used_bytes": None if used is None else int(used * GIB),
        "memory_total_bytes": L40S,
        "utilization": 0.0,
        "read_at": NOW - timedelta(seconds=10),
    }
    return GpuReading(**(reported | change))


def make_request(sharing: str = "shared", memory: float = 12, **change: Any) -> Request:
    exclusive = sharing == "exclusive"
    reported: dict[str, Any] = {
        "pod": "default/new",
        "uid": "uid-new",
        "deployment": "default/invoices",
        "sharing": sharing,
        "memory_bytes": int(memory * GIB),
        "resource": GPUS if exclusive else "",
        "count": int(exclusive),
    }
    return Request(**(reported | change))


def make_reservation(
    pod: str, node: str = "gpu-a", uuid: str = "GPU-1", memory: float = 12, **change: Any
) -> Reservation:
    reported: dict[str, Any] = {
        "pod": f"default/{pod}",
        "uid": f"uid-{pod}",
        "deployment": "default/other",
        "node": node,
        "uuids": (uuid,) if uuid else (),
        "memory_bytes": int(memory * GIB),
        "placed": NOW - timedelta(seconds=5),
    }
    return Reservation(**(reported | change))


def choose(
    request: Request,
    nodes: Sequence[Node],
    gpus: Sequence[GpuReading] = (),
    reservations: Sequence[Reservation] = (),
    policy: PlacementPolicy = POLICIES["leastLoaded"],
) -> Placement:
    answer = placement.choose(request, nodes, gpus, reservations, NOW, policy=policy)
    assert isinstance(answer, Placement), answer
    return answer


def refuse(
    request: Request,
    nodes: Sequence[Node],
    gpus: Sequence[GpuReading] = (),
    reservations: Sequence[Reservation] = (),
) -> NoFit:
    answer = placement.choose(request, nodes, gpus, reservations, NOW)
    assert isinstance(answer, NoFit), answer
    return answer


def chosen(answer: Placement) -> str:
    return f"{answer.node}/{answer.gpus[0].uuid}" if answer.gpus else answer.node


TWO_NODES = [make_node("gpu-a"), make_node("gpu-b")]
FOUR_GPUS = [
    make_gpu("gpu-a", "GPU-1", 20),
    make_gpu("gpu-a", "GPU-2", 4),
    make_gpu("gpu-b", "GPU-3", 30),
    make_gpu("gpu-b", "GPU-4", 8),
]


BIN_PACK = POLICIES["binPack"]


class TestPolicies:
    def test_settings_offer_every_policy_under_its_name(self) -> None:
        [setting] = [each for each in fields(Settings) if each.name == "placement_policy"]
        assert setting.metadata["one_of"] == tuple(POLICIES)
        assert {name: each.name for name, each in POLICIES.items()} == {name: name for name in POLICIES}
        assert POLICIES[Settings().placement_policy].name == "leastLoaded"

    def test_every_policy_is_documented(self) -> None:
        page = (DOCS / "placement.md").read_text(encoding="utf-8")
        assert [name for name in POLICIES if f"| `{name}` |" not in page] == []

    def test_bin_pack_fills_the_fullest_gpu_that_still_fits(self) -> None:
        answer = choose(make_request(), TWO_NODES, FOUR_GPUS, policy=BIN_PACK)
        assert chosen(answer) == "gpu-b/GPU-3"
        assert answer.why.startswith("gpu-b/GPU-3 is the most loaded of 4 that fit 12Gi: ")
        assert chosen(choose(make_request(memory=20), TWO_NODES, FOUR_GPUS, policy=BIN_PACK)) == "gpu-a/GPU-1"

    def test_bin_pack_keeps_whole_nodes_free(self) -> None:
        taken = make_reservation("p", "gpu-b", "", resource=GPUS, count=1)
        request, alike = make_request("exclusive"), [replace(each, memory_used_bytes=0) for each in FOUR_GPUS]
        assert choose(request, TWO_NODES, alike, [taken], BIN_PACK).node == "gpu-b"
        assert choose(request, TWO_NODES, alike, [taken]).node == "gpu-a"

    def test_bin_pack_takes_doubtful_nodes_last(self) -> None:
        request = make_request(refused={"gpu-b": 1})
        assert chosen(choose(request, TWO_NODES, FOUR_GPUS, policy=BIN_PACK)) == "gpu-a/GPU-1"


class TestShared:
    def test_the_gpu_with_the_most_room_wins(self) -> None:
        answer = choose(make_request(), TWO_NODES, FOUR_GPUS)
        assert chosen(answer) == "gpu-a/GPU-2"
        assert answer.gpus == (Gpu(uuid="GPU-2", product="NVIDIA-L40S"),)
        assert (answer.basis, answer.data_age_seconds) == (Basis.METRICS, 10)
        assert [each.uuid for each in answer.runners_up] == ["GPU-4", "GPU-1", "GPU-3"]
        assert [each.score for each in answer.runners_up] == sorted(
            (each.score for each in answer.runners_up), reverse=True
        )
        assert answer.score > answer.runners_up[0].score
        assert answer.why == (
            "gpu-a/GPU-2 is the least loaded of 4 that fit 12Gi: 35% of its memory promised or used with this "
            "pod, 0% busy, metrics 10 s old"
        )

    def test_a_pod_that_metrics_do_not_show_yet_is_counted(self) -> None:
        reservations = [make_reservation("p", "gpu-a", "GPU-2")]
        assert chosen(choose(make_request(), TWO_NODES, FOUR_GPUS, reservations)) == "gpu-b/GPU-4"

    def test_a_pod_that_metrics_show_is_not_counted_twice(self) -> None:
        early = NOW - timedelta(minutes=1)
        reservations = [make_reservation("p", "gpu-a", "GPU-2", 4, placed=early, up=True, used_bytes=4 * GIB)]
        answer = choose(make_request(), TWO_NODES, FOUR_GPUS, reservations)
        assert chosen(answer) == "gpu-a/GPU-2"
        assert answer.score == round(1 - 16 * GIB / L40S, 4)

    def test_a_pod_that_sleeps_keeps_its_promise(self) -> None:
        early = NOW - timedelta(minutes=1)
        reservations = [make_reservation("p", "gpu-a", "GPU-2", 40, placed=early, up=True, used_bytes=0)]
        assert chosen(choose(make_request(), TWO_NODES, FOUR_GPUS, reservations)) == "gpu-b/GPU-4"

    def test_equal_memory_is_decided_by_utilisation(self) -> None:
        gpus = [make_gpu(uuid="GPU-1", utilization=0.9), make_gpu(uuid="GPU-2", utilization=0.1)]
        assert chosen(choose(make_request(), [make_node()], gpus)) == "gpu-a/GPU-2"

    def test_some_idle_mebibytes_do_not_beat_the_spread(self) -> None:
        gpus = [
            make_gpu("gpu-a", "GPU-1", 0),
            make_gpu("gpu-a", "GPU-2", 0),
            make_gpu("gpu-b", "GPU-3", 0.001),
        ]
        reservations = [make_reservation("sibling", "gpu-a", "GPU-1", deployment="default/invoices")]
        assert chosen(choose(make_request(), TWO_NODES, gpus, reservations)) == "gpu-b/GPU-3"

    def test_what_is_promised_is_never_promised_again(self) -> None:
        reservations = [make_reservation(f"p{n}") for n in range(3)]
        answer = refuse(make_request(), [make_node()], [make_gpu()], reservations)
        assert answer == NoFit(
            reason=NoFitReason.INSUFFICIENT_MEMORY,
            message="no GPU fits 12Gi: 0 of 1 have room (gpu-a/GPU-1: 8.9Gi free)",
        )

    def test_memory_of_strangers_is_not_given_away(self) -> None:
        assert "4.9Gi free" in refuse(make_request(), [make_node()], [make_gpu(used=40)]).message

    def test_a_gpu_held_as_a_whole_is_left_alone(self) -> None:
        gpus = [make_gpu(uuid="GPU-1", holders=("research/train-0",)), make_gpu(uuid="GPU-2", used=20)]
        assert chosen(choose(make_request(), [make_node()], gpus)) == "gpu-a/GPU-2"
        reservations = [make_reservation("whole", uuid="GPU-2", resource=GPUS, count=1)]
        answer = refuse(make_request(), [make_node()], gpus, reservations)
        assert "gpu-a/GPU-1: held as a whole, gpu-a/GPU-2: held as a whole" in answer.message

    def test_a_mig_instance_is_never_pinned(self) -> None:
        answer = refuse(make_request(), [make_node()], [make_gpu(mig="2/3g.40gb")])
        assert answer.reason is NoFitReason.NO_GPUS
        assert "none of 1 open node tells a GPU's UUID: does an exporter run there?" in answer.message

    def test_the_size_may_come_from_the_node(self) -> None:
        node = make_node(labels={"nvidia.com/gpu.memory": "46068"})
        gpus = [make_gpu(memory_total_bytes=None)]
        assert chosen(choose(make_request(), [node], gpus)) == "gpu-a/GPU-1"
        assert "size unknown" in refuse(make_request(), [make_node()], gpus).message

    @pytest.mark.parametrize("used", [None, 9e9])
    def test_impossible_memory_falls_back_to_allocation(self, used: float | None) -> None:
        answer = choose(make_request(), [make_node()], [make_gpu(used=used)])
        assert (answer.basis, answer.data_age_seconds) == (Basis.ALLOCATION, None)


class TestExclusive:
    def test_a_node_with_a_free_device_is_chosen_and_no_uuid(self) -> None:
        reservations = [make_reservation(f"p{n}", "gpu-a", "", resource=GPUS, count=1) for n in range(2)]
        answer = choose(make_request("exclusive"), TWO_NODES, FOUR_GPUS, reservations)
        assert (answer.node, answer.gpus, answer.resource, answer.count) == ("gpu-b", (), GPUS, 1)

    def test_the_nodes_free_gpus_count_not_the_taken_ones(self) -> None:
        gpus = [
            make_gpu("gpu-a", "GPU-1", 40, holders=("research/train-0",)),
            make_gpu("gpu-a", "GPU-2", 0),
            make_gpu("gpu-b", "GPU-3", 5),
            make_gpu("gpu-b", "GPU-4", 5),
        ]
        assert choose(make_request("exclusive"), TWO_NODES, gpus).node == "gpu-a"

    def test_a_stranger_seen_only_by_the_exporter_takes_a_device(self) -> None:
        gpus = [
            make_gpu(uuid="GPU-1", holders=("research/train-0",)),
            make_gpu(uuid="GPU-2", holders=("research/b",)),
        ]
        answer = refuse(make_request("exclusive"), [make_node()], gpus)
        assert answer.reason is NoFitReason.INSUFFICIENT_GPUS
        assert answer.message == (
            "no GPU fits 12Gi: 0 of 1 node with nvidia.com/gpu has 1 free and large enough (gpu-a: 2 of 2 taken)"
        )

    def test_replicas_spread_over_nodes(self) -> None:
        nodes = [make_node(f"gpu-{n}") for n in "abc"]
        reservations: list[Reservation] = []
        for n in range(6):
            answer = choose(
                make_request("exclusive", pod=f"default/p{n}", uid=f"uid-{n}"), nodes, (), reservations
            )
            reservations.append(answer.reservation(NOW))
        assert [entry.node for entry in reservations[:3]] == ["gpu-a", "gpu-b", "gpu-c"]
        assert Counter(entry.node for entry in reservations) == {"gpu-a": 2, "gpu-b": 2, "gpu-c": 2}

    def test_a_gpu_that_is_too_small_does_not_count(self) -> None:
        small = make_node("gpu-a", labels={"nvidia.com/gpu.memory": "8192"})
        answer = refuse(make_request("exclusive"), [small])
        assert answer.reason is NoFitReason.INSUFFICIENT_MEMORY
        assert choose(make_request("exclusive"), [small, make_node("gpu-b")]).node == "gpu-b"

    @pytest.mark.parametrize("sharing", ["exclusive", "claim"])
    @pytest.mark.parametrize(
        ("memory", "reason"), [(12, NoFitReason.INSUFFICIENT_GPUS), (64, NoFitReason.INSUFFICIENT_MEMORY)]
    )
    def test_gpus_that_others_have_are_too_few_only_if_they_were_large_enough(
        self, sharing: str, memory: int, reason: NoFitReason
    ) -> None:
        gpus = [make_gpu(uuid=f"GPU-{n}", holders=(f"research/{n}",)) for n in "12"]
        assert refuse(make_request(sharing, memory), [make_node()], gpus).reason is reason

    def test_a_node_without_the_resource_is_no_candidate(self) -> None:
        answer = refuse(make_request("exclusive"), [make_node(allocatable={})])
        assert answer == NoFit(
            reason=NoFitReason.NO_GPUS, message="no GPU fits 12Gi: none of 1 open node has nvidia.com/gpu"
        )

    def test_mig_instances_of_the_profile_count(self) -> None:
        resource = "nvidia.com/mig-3g.40gb"
        node = make_node(allocatable={resource: 1})
        mig = [
            make_gpu(mig="2/3g.40gb", used=30, memory_total_bytes=40 * GIB),
            make_gpu(mig="9/1g.10gb", used=0, memory_total_bytes=10 * GIB),
        ]
        assert choose(make_request("exclusive", 8, resource=resource), [node], mig).node == "gpu-a"
        assert (
            "10Gi free on a GPU"
            in refuse(make_request("exclusive", 12, resource=resource), [node], mig).message
        )


def test_the_words_fit_what_is_known() -> None:
    only = choose(make_request("exclusive"), [make_node()])
    assert only.why == (
        "gpu-a is the only one that fits 12Gi: decided by allocation, since no metrics are younger than 5 minutes"
    )
    free = choose(make_request(memory=0), [make_node()], [make_gpu(utilization=0.42)])
    assert free.why == (
        "gpu-a/GPU-1 is the only one that is free: 0% of its memory promised or used with this pod, 42% busy, "
        "metrics 10 s old"
    )


class TestEligibility:
    @pytest.mark.parametrize(
        ("change", "word"),
        [
            ({"cordoned": True}, "cordoned"),
            ({"ready": False}, "not ready"),
            ({"taints": (Taint(key="k", value="v", effect="NoSchedule"),)}, "tainted"),
            ({"labels": {"zone": "x", "nvidia.com/gpu.product": "Tesla-T4"}}, "of another product"),
            ({"labels": {}}, "not selected by the pod"),
        ],
    )
    def test_a_node_that_the_scheduler_would_refuse_is_no_candidate(
        self, change: dict[str, Any], word: str
    ) -> None:
        request = make_request(node_selector={"zone": "x"}, products=("NVIDIA-L40S",))
        closed = make_node("gpu-b", **({"labels": {"zone": "x"}} | change))
        gpus = [make_gpu("gpu-a", "GPU-1", 40), make_gpu("gpu-b", "GPU-2", 0)]
        answer = refuse(request, [make_node("gpu-a", labels={"zone": "x"}), closed], gpus)
        assert (
            answer.message
            == f"no GPU fits 12Gi: 0 of 1 have room (gpu-a/GPU-1: 4.9Gi free); 1 node is {word}"
        )

    def test_all_nodes_closed(self) -> None:
        nodes = [make_node("a", cordoned=True), make_node("b", cordoned=True), make_node("c", ready=False)]
        assert refuse(make_request(), nodes) == NoFit(
            reason=NoFitReason.NO_ELIGIBLE_NODE,
            message="no GPU fits 12Gi: 2 nodes are cordoned; 1 node is not ready",
        )
        assert refuse(make_request(), []).reason is NoFitReason.NO_NODES
        other = [make_node(labels={"nvidia.com/gpu.product": "Tesla-T4"})]
        assert refuse(make_request(products=("X",)), other).reason is NoFitReason.NO_MATCHING_PRODUCT

    def test_products_are_compared_without_suffixes(self) -> None:
        node = make_node(
            labels={"nvidia.com/gpu.product": "NVIDIA-L40S-SHARED", "nvidia.com/gpu.replicas": "4"}
        )
        assert choose(make_request(products=("NVIDIA-L40S",)), [node], [make_gpu()]).node == "gpu-a"

    @pytest.mark.parametrize(
        "toleration",
        [
            Toleration(operator="Exists"),
            Toleration(key="k", operator="Exists", effect="NoSchedule"),
            Toleration(key="k", value="v"),
        ],
    )
    def test_a_toleration_opens_the_node(self, toleration: Toleration) -> None:
        node = make_node(taints=(Taint(key="k", value="v", effect="NoSchedule"),))
        assert choose(make_request(tolerations=(toleration,)), [node], [make_gpu()]).node == "gpu-a"
        wrong = replace(toleration, key="other", operator="Equal")
        assert "1 node is tainted" in refuse(make_request(tolerations=(wrong,)), [node], [make_gpu()]).message

    @pytest.mark.parametrize(
        ("term", "open_"),
        [
            ({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["x", "y"]}]}, True),
            ({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["x"]}]}, False),
            ({"matchExpressions": [{"key": "zone", "operator": "Exists"}]}, True),
            ({"matchExpressions": [{"key": "zone", "operator": "DoesNotExist"}]}, False),
            ({"matchExpressions": [{"key": "size", "operator": "Gt", "values": ["8"]}]}, True),
            ({"matchExpressions": [{"key": "size", "operator": "Gt", "values": ["+8"]}]}, True),
            ({"matchExpressions": [{"key": "size", "operator": "Gt", "values": ["-8"]}]}, True),
            ({"matchExpressions": [{"key": "size", "operator": "Gt", "values": ["0_8"]}]}, False),
            ({"matchExpressions": [{"key": "size", "operator": "Gt", "values": ["٨"]}]}, False),
            ({"matchExpressions": [{"key": "size", "operator": "Gt", "values": [" 8"]}]}, False),
            ({"matchExpressions": [{"key": "zone", "operator": "Lt", "values": ["8"]}]}, False),
            ({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["gpu-a"]}]}, True),
            ({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["gpu-b"]}]}, False),
            ({"matchExpressions": [{"key": "zone", "operator": "Near"}]}, False),
            ({}, False),
            ("odd", False),
        ],
    )
    def test_the_pods_own_affinity_is_respected(self, term: object, open_: bool) -> None:
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
        node = make_node(labels={"zone": "x", "size": "16"})
        answer = placement.choose(
            make_request(affinity={"nodeAffinity": required}), [node], [make_gpu()], [], NOW
        )
        assert isinstance(answer, Placement) is open_


class TestData:
    def test_older_than_a_minute_says_so(self) -> None:
        answer = choose(make_request(), [make_node()], [make_gpu(read_at=NOW - timedelta(seconds=200))])
        assert (answer.basis, answer.data_age_seconds) == (Basis.RECENT_METRICS, 200)

    @pytest.mark.parametrize("age", [301, 10**6, -3600])
    def test_older_than_five_minutes_is_decided_by_allocation(self, age: int) -> None:
        stale = [replace(gpu, read_at=NOW - timedelta(seconds=age)) for gpu in FOUR_GPUS]
        answer = choose(make_request(), TWO_NODES, stale, [make_reservation("p")])
        assert (answer.basis, answer.data_age_seconds) == (Basis.ALLOCATION, None)
        assert chosen(answer) == "gpu-a/GPU-2"
        assert "decided by allocation, since no metrics are younger than 5 minutes" in answer.why

    def test_known_comes_before_unknown(self) -> None:
        gpus = [make_gpu("gpu-a", "GPU-1", 30), make_gpu("gpu-b", "GPU-2", 0, read_at=None)]
        assert chosen(choose(make_request(), TWO_NODES, gpus)) == "gpu-a/GPU-1"

    def test_an_empty_new_node_counts_as_idle(self) -> None:
        nodes = [make_node("gpu-a"), make_node("gpu-b", created=NOW - timedelta(minutes=2))]
        gpus = [make_gpu("gpu-a", "GPU-1", 5), make_gpu("gpu-a", "GPU-2", 5)]
        assert choose(make_request("exclusive"), nodes, gpus).node == "gpu-b"
        old = [nodes[0], replace(nodes[1], created=NOW - timedelta(hours=2))]
        assert choose(make_request("exclusive"), old, gpus).node == "gpu-a"

    def test_the_newest_reading_counts(self) -> None:
        old = make_gpu(used=44, read_at=NOW - timedelta(seconds=40))
        assert choose(make_request(), [make_node()], [make_gpu(used=1), old]).data_age_seconds == 10


def test_no_gpu_leaves_the_node_to_the_scheduler() -> None:
    answer = choose(make_request("none"), [])
    assert (answer.node, answer.gpus, answer.basis) == ("", (), Basis.NONE)


def test_a_pod_that_was_promised_a_gpu_keeps_it_while_it_fits() -> None:
    mine = make_reservation("new", "gpu-b", "GPU-3")
    answer = choose(make_request(), TWO_NODES, FOUR_GPUS, [mine])
    assert chosen(answer) == "gpu-b/GPU-3"
    assert "was promised before and still fits" in answer.why
    closed = [make_node("gpu-a"), make_node("gpu-b", cordoned=True)]
    assert chosen(choose(make_request(), closed, FOUR_GPUS, [mine])) == "gpu-a/GPU-2"


def test_what_a_pod_needs_depends_on_sharing() -> None:
    models = [{**DEEPSEEK, "name": "a"}, {**DEEPSEEK, "name": "b", "gpuMemory": "20Gi"}, dict(RAPIDOCR)]
    pod = observed.pod(raw_pod(gated=True, containers=[{"resources": {"limits": {GPUS: "2"}}}]))
    whole = placement.request(make_deployment(models=models), pod)
    assert (whole.memory_bytes, whole.resource, whole.count) == (20 * GIB, GPUS, 2)
    shared = placement.request(make_deployment(models=models[:2], gpu={"sharing": "shared"}), pod)
    assert (shared.memory_bytes, shared.resource, shared.count) == (32 * GIB, "", 0)


class TestBooks:
    def placed(self, name: str, sharing: str = "shared", **spec: Any) -> dict[str, Any]:
        """A raw pod after its placement patch, as a restarted operator finds it."""
        request = make_request(sharing, pod=f"default/{name}", uid=f"uid-{name}")
        spot = choose(request, [make_node()], [make_gpu()])
        annotations = {names.ANNOTATION_PLACEMENT: spot.to_json(NOW)}
        if spot.gpus:
            annotations[names.ANNOTATION_GPU_UUIDS] = spot.gpus[0].uuid
        return raw_pod(name, annotations=annotations, **spec)

    def test_a_restarted_operator_finds_what_it_promised(self) -> None:
        spot = choose(make_request(pod="default/p", uid="uid-p"), [make_node()], [make_gpu()])
        (entry,) = placement.reserved([observed.pod(self.placed("p"))])
        assert entry == replace(spot.reservation(NOW), up=True)

    def test_a_pod_not_bound_yet_counts_on_its_promised_node(self) -> None:
        raw = self.placed("p")
        del raw["spec"]["nodeName"]
        assert [entry.node for entry in placement.reserved([observed.pod(raw)])] == ["gpu-a"]

    def test_gated_and_finished_pods_hold_nothing(self) -> None:
        done = self.placed("b")
        done["status"]["phase"] = "Failed"
        assert placement.reserved([observed.pod(raw_pod("a", gated=True)), observed.pod(done)]) == ()

    def test_strangers_count_for_their_devices(self) -> None:
        containers = [{"resources": {"requests": {GPUS: "2"}}}]
        (entry,) = placement.reserved([observed.pod(raw_pod("train", deployment="", containers=containers))])
        assert (entry.deployment, entry.resource, entry.count, entry.memory_bytes) == ("", GPUS, 2, 0)

    def test_the_state_tells_use_and_device(self) -> None:
        raw = self.placed("p", "exclusive", containers=[{"resources": {"limits": {GPUS: "1"}}}])
        state = podstate.parse(raw_state("p", uuid="GPU-2"))
        assert isinstance(state, podstate.PodState)
        (entry,) = placement.reserved([observed.pod(raw)], states={"uid-p": state})
        assert (entry.uuids, entry.count, entry.used_bytes) == (("GPU-2",), 1, GIB)

    @pytest.mark.parametrize(
        "damage",
        ["", "{", "[]", '{"memoryBytes":-1}', '{"memoryBytes":"12Gi"}', '{"gpus":[1]}', "[" * 99_999],
    )
    def test_a_damaged_annotation_falls_back_to_the_need(self, damage: str) -> None:
        annotations = {names.ANNOTATION_PLACEMENT: damage, names.ANNOTATION_GPU_UUIDS: "GPU-1,all, ,GPU-1"}
        pod = observed.pod(raw_pod("p", annotations=annotations))
        (entry,) = placement.reserved([pod], {"default/invoices": 12 * GIB})
        assert (entry.uuids, entry.memory_bytes, entry.placed) == (("GPU-1",), 12 * GIB, None)


def apply(document: dict[str, Any], operations: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """RFC 6902 as the API server does it, for the operations in use. AssertionError for a test that fails."""
    document = json.loads(json.dumps(document))
    for operation in operations:
        *parents, last = [
            step.replace("~1", "/").replace("~0", "~") for step in operation["path"].split("/")[1:]
        ]
        place: Any = document
        for step in parents:
            place = place[int(step)] if isinstance(place, list) else place[step]
        key: Any = int(last) if isinstance(place, list) else last
        match operation["op"]:
            case "test":
                assert place[key] == operation["value"], operation
            case "add":
                assert isinstance(place, dict)
                place[key] = operation["value"]
            case "remove":
                del place[key]
            case other:
                raise AssertionError(other)
    return document


PINNED = {"key": "metadata.name", "operator": "In", "values": ["gpu-a"]}
NOT_SMALL = {"key": "metadata.name", "operator": "NotIn", "values": ["gpu-s"]}
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


class TestPatch:
    spot = choose(make_request(), [make_node()], [make_gpu()])

    def patched(self, raw: dict[str, Any]) -> dict[str, Any]:
        return apply(raw, placement.patch(observed.pod(raw), self.spot, '{"revision":7}', NOW))

    def terms(self, raw: dict[str, Any]) -> Any:
        node = self.patched(raw)["spec"]["affinity"]["nodeAffinity"]
        return node["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]

    def test_all_goes_in_one_patch(self) -> None:
        after = self.patched(raw_pod(gated=True))
        assert after["spec"]["schedulingGates"] == []
        annotations = after["metadata"]["annotations"]
        assert annotations[names.ANNOTATION_CONFIG] == "{}"
        assert annotations[names.ANNOTATION_LIVE_SETTINGS] == '{"revision":7}'
        assert annotations[names.ANNOTATION_GPU_UUIDS] == "GPU-1"
        record = json.loads(annotations[names.ANNOTATION_PLACEMENT])
        assert record["node"] == "gpu-a"
        assert record["gpus"] == [{"uuid": "GPU-1", "product": "NVIDIA-L40S"}]
        assert (record["basis"], record["dataAgeSeconds"], record["runnersUp"]) == ("metrics", 10, [])
        assert record["placedAt"] == "2026-11-23T08:00:00Z"
        assert (record["score"], record["why"]) == (self.spot.score, self.spot.why)

    def test_a_pod_without_annotations_gets_the_map_guarded_by_its_version(self) -> None:
        raw = raw_pod(gated=True)
        del raw["metadata"]["annotations"]
        assert len(self.patched(raw)["metadata"]["annotations"]) == 3
        operations = placement.patch(observed.pod(raw), self.spot, "{}", NOW)
        raw["metadata"]["resourceVersion"] = "8"
        with pytest.raises(AssertionError, match="resourceVersion"):
            apply(raw, operations)

    def test_only_our_gate_is_removed(self) -> None:
        raw = raw_pod(gated=True)
        raw["spec"]["schedulingGates"].insert(0, {"name": "example.com/quota"})
        assert self.patched(raw)["spec"]["schedulingGates"] == [{"name": "example.com/quota"}]

    def test_a_gate_that_moved_refuses_the_patch(self) -> None:
        raw = raw_pod(gated=True)
        operations = placement.patch(observed.pod(raw), self.spot, "{}", NOW)
        raw["spec"]["schedulingGates"] = [{"name": "example.com/quota"}]
        with pytest.raises(AssertionError, match="schedulingGates"):
            apply(raw, operations)

    def test_another_pod_of_the_same_name_refuses_the_patch(self) -> None:
        raw = raw_pod(gated=True)
        operations = placement.patch(observed.pod(raw), self.spot, "{}", NOW)
        raw["metadata"]["uid"] = "someone-else"
        with pytest.raises(AssertionError, match="uid"):
            apply(raw, operations)

    def test_a_pod_without_the_gate_is_a_mistake(self) -> None:
        with pytest.raises(ValueError, match="not in tuple"):
            placement.patch(observed.pod(raw_pod()), self.spot, "{}", NOW)

    @pytest.mark.parametrize(
        "affinity", [None, {}, {"podAffinity": {"x": 1}}, {"nodeAffinity": {"preferred": [1]}}]
    )
    def test_the_node_is_required_by_name(self, affinity: dict[str, Any] | None) -> None:
        raw = raw_pod(gated=True, affinity=affinity)
        assert self.terms(raw) == [{"matchFields": [PINNED]}]
        after = self.patched(raw)["spec"]["affinity"]
        for key, value in (affinity or {}).items():
            assert after[key].items() >= value.items()

    def test_every_term_that_is_there_gets_the_requirement(self) -> None:
        other = {"key": "metadata.name", "operator": "NotIn", "values": ["gpu-z"]}
        zone = {"key": "zone", "operator": "Exists"}
        terms = [{"matchExpressions": [zone]}, {"matchFields": [other]}, {}]
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
        assert self.terms(raw_pod(gated=True, affinity={"nodeAffinity": required})) == [
            {"matchExpressions": [zone], "matchFields": [PINNED]},
            {"matchFields": [other, PINNED]},
            {},
        ]

    def test_no_gpu_only_stamps_and_opens_the_gate(self) -> None:
        raw = raw_pod(gated=True)
        after = apply(raw, placement.patch(observed.pod(raw), choose(make_request("none"), []), "{}", NOW))
        assert after["spec"] == {"schedulingGates": []}
        assert names.ANNOTATION_GPU_UUIDS not in after["metadata"]["annotations"]

    def test_a_stamp_changes_what_differs_and_nothing_else(self) -> None:
        raw = raw_pod()
        operations = placement.stamp(observed.pod(raw), {"example.com/a~b": "1"})
        after = apply(raw, operations)
        assert after["metadata"]["annotations"]["example.com/a~b"] == "1"
        assert placement.stamp(observed.pod(after), {"example.com/a~b": "1"}) == []


class TestPreferring:
    """`exclusive`: the scheduler may take any node but those that can't work."""

    SMALL = make_node("gpu-s", labels={"nvidia.com/gpu.memory": "8000"})
    NODES = (*TWO_NODES, SMALL)
    GPUS = (make_gpu("gpu-a", "GPU-1", 4), make_gpu("gpu-b", "GPU-3", 8))

    def placed(self, **change: Any) -> Placement:
        return choose(make_request("exclusive", **change), self.NODES, self.GPUS)

    def patched(self, affinity: dict[str, Any] | None) -> dict[str, Any]:
        raw = raw_pod(gated=True, affinity=affinity)
        after: dict[str, Any] = apply(raw, placement.patch(observed.pod(raw), self.placed(), "{}", NOW))
        assert json.loads(after["metadata"]["annotations"][names.ANNOTATION_PLACEMENT])["excluded"] == 1
        found: dict[str, Any] = after["spec"]["affinity"]
        return found

    def test_too_small_a_node_is_excluded(self) -> None:
        answer = self.placed()
        assert (answer.node, answer.excluded) == ("gpu-a", ("gpu-s",))

    def test_taken_devices_that_the_scheduler_knows_of_exclude_nothing(self) -> None:
        """It sees for itself, and the devices may be free again by then. One held past its books it doesn't see."""
        held = make_gpu("gpu-s", "GPU-9", holders=("default/foreign",))
        one = make_node("gpu-s", 1)
        nodes = (*TWO_NODES, one)

        def excluded(used: int) -> tuple[str, ...] | None:
            books = predicates.usage([Tenant("", Demand((("nvidia.com/gpu", used),)))])
            answer = placement.choose(
                make_request("exclusive"), nodes, [*self.GPUS, held], [], NOW, usage=lambda _: books
            )
            assert isinstance(answer, Placement)
            return answer.excluded

        assert excluded(1) == ()
        assert excluded(0) == ("gpu-s",)

    @pytest.mark.parametrize("affinity", [None, {}, {"podAffinity": {"x": 1}}])
    def test_the_best_are_preferred_in_their_order(self, affinity: dict[str, Any] | None) -> None:
        after = self.patched(affinity)
        assert after["nodeAffinity"] == {
            PREFERRED: [
                {"weight": 100, "preference": {"matchFields": [PINNED]}},
                {"weight": 60, "preference": {"matchFields": [{**PINNED, "values": ["gpu-b"]}]}},
            ],
            REQUIRED: {"nodeSelectorTerms": [{"matchFields": [NOT_SMALL]}]},
        }
        assert {**after, **(affinity or {})} == after

    def test_what_the_template_requires_and_prefers_stays(self) -> None:
        zone = {"matchExpressions": [{"key": "zone", "operator": "DoesNotExist"}]}
        mine = {"weight": 7, "preference": zone}
        given = {REQUIRED: {"nodeSelectorTerms": [zone, {}]}, PREFERRED: [mine]}
        after = self.patched({"nodeAffinity": given})["nodeAffinity"]
        assert after[PREFERRED][0] == mine
        assert after[REQUIRED]["nodeSelectorTerms"] == [{**zone, "matchFields": [NOT_SMALL]}, {}]

    def test_a_pod_that_would_have_to_name_too_many_goes_to_one_of_a_few(self) -> None:
        small = [replace(self.SMALL, name=f"small-{n}") for n in range(MAX_EXCLUDED + 1)]
        answer = choose(make_request("exclusive"), [*TWO_NODES, *small], self.GPUS)
        assert answer.excluded is None
        raw = raw_pod(gated=True)
        after = apply(raw, placement.patch(observed.pod(raw), answer, "{}", NOW))
        terms = [{"matchFields": [PINNED]}, {"matchFields": [{**PINNED, "values": ["gpu-b"]}]}]
        assert after["spec"]["affinity"]["nodeAffinity"][REQUIRED] == {"nodeSelectorTerms": terms}

    def test_one_of_a_few_beside_what_the_template_requires(self) -> None:
        """Its terms are ORed, and so are the nodes: each with each, as far as one pod may bear them."""
        nodes = [make_node(f"gpu-{n}") for n in range(12)]
        answer = choose(make_request("exclusive", products=("NVIDIA-L40S",)), nodes, self.gpus(nodes))
        zones = [{"matchExpressions": [{"key": "zone", "operator": "In", "values": [z]}]} for z in "abc"]

        def terms(of: list[dict[str, Any]]) -> list[dict[str, Any]]:
            raw = raw_pod(gated=True, affinity={"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": of}}})
            after = apply(raw, placement.patch(observed.pod(raw), answer, "{}", NOW))
            found: list[dict[str, Any]] = after["spec"]["affinity"]["nodeAffinity"][REQUIRED][
                "nodeSelectorTerms"
            ]
            return found

        assert len(terms([])) == 8
        assert len(terms([*zones, {}])) == 3 * 8 + 1
        assert len({json.dumps(each) for each in terms(zones)}) == 24
        assert len(terms(zones * 11)) == 33, "the node that was chosen"

    @staticmethod
    def gpus(nodes: Sequence[Node], each: int = 1) -> list[GpuReading]:
        return [make_gpu(node.name, f"GPU-{node.name}-{k}") for node in nodes for k in range(each)]

    def test_a_shared_pod_is_pinned(self) -> None:
        answer = choose(make_request(), TWO_NODES, FOUR_GPUS)
        assert (answer.excluded, answer.alternatives, answer.free) == (None, (), False)

    def test_a_pod_that_is_spread_over_nodes_is_pinned(self) -> None:
        """Domains count by the nodes that a pod may go to: kept from some, it could be refused by the one that fits."""
        spread = affinity.spread(
            {"topologySpreadConstraints": [{"topologyKey": "x", "whenUnsatisfiable": "DoNotSchedule"}]}
        )
        answer = self.placed(spread=spread)
        assert (answer.excluded, answer.alternatives, answer.free) == (None, (), False)
        free = choose(make_request("exclusive", spread=spread), TWO_NODES, self.GPUS)
        assert free.excluded == (), "kept from none, it may go anywhere"

    def test_of_wanted_products_it_may_go_to_the_other_node(self) -> None:
        answer = self.placed(products=("NVIDIA-L40S",))
        assert (answer.node, answer.excluded, answer.free) == ("gpu-a", None, True)
        assert [each.node for each in answer.alternatives] == ["gpu-b"]

    @pytest.mark.parametrize("products", [(), ("NVIDIA-L40S",)])
    def test_in_a_hurry_it_goes_to_the_chosen_node_and_nowhere_else(self, products: tuple[str, ...]) -> None:
        request = make_request("exclusive", products=products)
        placed = choose(request, [*TWO_NODES, self.SMALL], self.GPUS)
        assert placed.free
        soon = placement.in_a_hurry(placed, request)
        raw = raw_pod(gated=True)
        after = apply(raw, placement.patch(observed.pod(raw), soon, "{}", NOW))
        required = {"nodeSelectorTerms": [{"matchFields": [PINNED]}]}
        assert after["spec"]["affinity"] == {"nodeAffinity": {REQUIRED: required}}
        assert not soon.free
        assert soon.reservation(NOW) == placed.reservation(NOW)

    def test_where_others_would_end_for_it_it_has_the_choice_in_a_hurry_too(self) -> None:
        taken = predicates.usage([Tenant("", Demand((("nvidia.com/gpu", 1),)))])
        nodes = [replace(each, allocatable={**each.allocatable, "nvidia.com/gpu": 1}) for each in TWO_NODES]
        request = make_request("exclusive", demand=Demand((("nvidia.com/gpu", 1),), priority=10))
        placed = placement.choose(request, nodes, self.GPUS, [], NOW, usage=lambda _: taken)
        assert isinstance(placed, Placement)
        assert placement.in_a_hurry(placed, request) == placed

    def test_after_a_refusal_the_scheduler_has_the_choice_in_a_hurry_too(self) -> None:
        request = make_request("exclusive", refused={"gpu-b": 1})
        placed = choose(request, TWO_NODES, self.GPUS)
        assert placement.in_a_hurry(placed, request) == placed

    def test_what_the_scheduler_picks_it_picks_in_a_hurry_too(self) -> None:
        claim = make_request("claim", resource="claim", count=1)
        several = choose(claim, TWO_NODES, self.gpus(TWO_NODES))
        assert several.alternatives
        assert placement.in_a_hurry(several, claim) == several, "its claim lists the GPUs"
        anywhere = placement.without_nodes(make_request("exclusive"))
        assert isinstance(anywhere, Placement)
        assert placement.in_a_hurry(anywhere, make_request("exclusive")) == anywhere

    @given(st.permutations(range(9)), st.integers(1, 9), st.integers(1, 10))
    def test_alternatives_are_the_best_of_other_nodes_and_then_other_gpus(
        self, order: list[int], count: int, gpus: int
    ) -> None:
        nodes = [make_node(f"gpu-{n}") for n in order[:count]]
        request = make_request("claim", resource="claim", count=1)
        answer = choose(request, nodes, self.gpus(nodes, gpus))
        found = [
            (answer.node, answer.gpus[0].uuid),
            *((each.node, each.uuid) for each in answer.alternatives),
        ]
        assert len(found) == min(8, count * gpus)
        assert len({node for node, _ in found}) == min(8, count), "as many nodes as there are"
        assert len(set(found)) == len(found)
        names_ = sorted(node.name for node in nodes)
        assert [node for node, _ in found[:count]] == names_[:8], "all alike: by name"
        assert all(uuid.endswith("-0") for _, uuid in found[:count])

    def test_a_pod_left_to_the_scheduler_is_kept_from_what_is_too_small(self) -> None:
        raw = raw_pod(gated=True)
        pod = replace(observed.pod(raw), created=NOW - timedelta(hours=1))
        refusal = refuse(make_request("exclusive"), [self.SMALL, make_node("gpu-a", 0)])
        given_up = placement.give_up(
            make_request("exclusive"),
            pod,
            replace(refusal, reason=NoFitReason.INSUFFICIENT_GPUS),
            NOW,
            after_seconds=0,
        )
        assert given_up is not None
        after = apply(raw, placement.patch(pod, given_up, "{}", NOW))
        assert after["spec"]["affinity"]["nodeAffinity"] == {
            REQUIRED: {"nodeSelectorTerms": [{"matchFields": [NOT_SMALL]}]}
        }


AGES = st.integers(-100, 600).map(lambda age: NOW - timedelta(seconds=age))


@st.composite
def clusters(draw: st.DrawFn) -> tuple[list[Node], list[GpuReading], list[Reservation]]:
    """Clusters in any condition, with lying metrics and reservations that may be full."""
    nodes: list[Node] = []
    gpus: list[GpuReading] = []
    for n in range(draw(st.integers(0, 4))):
        name = f"node-{n}"
        nodes.append(
            make_node(
                name,
                draw(st.integers(0, 4)),
                cordoned=draw(st.integers(0, 5)) == 0,
                ready=draw(st.integers(0, 5)) != 0,
                created=draw(st.sampled_from([None, NOW, NOW - timedelta(days=1)])),
            )
        )
        gpus.extend(
            make_gpu(
                name,
                f"GPU-{n}{k}",
                draw(st.none() | st.floats(0, 60)),
                utilization=draw(st.none() | st.floats(0, 1)),
                memory_total_bytes=draw(st.sampled_from([None, L40S, 24 * GIB])),
                read_at=draw(st.none() | AGES),
                holders=draw(st.sampled_from([(), (), (), ("research/train-0",)])),
            )
            for k in range(draw(st.integers(0, 3)))
        )
    reservations = []
    for p in range(draw(st.integers(0, 8))):
        on = draw(st.sampled_from(gpus)) if gpus else None
        whole = draw(st.booleans())
        reservations.append(
            make_reservation(
                f"p{p}",
                on.node if on else "node-0",
                on.uuid if on and not whole else "",
                draw(st.floats(0, 30)),
                resource=GPUS if whole else "",
                count=int(whole),
                deployment=draw(st.sampled_from(["default/invoices", "default/other", ""])),
                up=draw(st.booleans()),
                used_bytes=draw(st.none() | st.integers(0, 30 * GIB)),
                placed=draw(st.none() | AGES),
            )
        )
    return nodes, gpus, reservations


REQUESTS = st.builds(make_request, st.sampled_from(["shared", "exclusive"]), st.floats(0, 50))
EACH_POLICY = st.sampled_from(list(POLICIES.values()))


@given(clusters(), REQUESTS, EACH_POLICY, st.randoms(use_true_random=False))
def test_the_order_of_inputs_is_irrelevant(
    cluster: Any, request: Request, policy: PlacementPolicy, shuffler: random.Random
) -> None:
    nodes, gpus, reservations = cluster
    before = placement.choose(request, nodes, gpus, reservations, NOW, policy=policy)
    for part in cluster:
        shuffler.shuffle(part)
    assert placement.choose(request, nodes, gpus, reservations, NOW, policy=policy) == before


@given(clusters(), REQUESTS)
def test_policies_agree_on_what_fits(cluster: Any, request: Request) -> None:
    nodes, gpus, reservations = cluster
    first, *others = (
        placement.choose(request, nodes, gpus, reservations, NOW, policy=policy)
        for policy in POLICIES.values()
    )
    for other in others:
        if isinstance(first, NoFit) or isinstance(other, NoFit):
            assert first == other
        else:
            assert fitting(first) == fitting(other)


@given(clusters(), REQUESTS)
def test_a_policy_takes_what_its_sentence_says(cluster: Any, request: Request) -> None:
    """Where nothing else decides: all data is known, no device is taken, no pod was refused."""
    nodes, gpus, _ = cluster
    # More in use than there is makes a reading doubtful.
    gpus = [
        replace(
            each,
            read_at=NOW,
            memory_used_bytes=min(each.memory_used_bytes or 0, each.memory_total_bytes or 0),
            holders=(),
        )
        for each in gpus
    ]
    packed = placement.choose(request, nodes, gpus, [], NOW, policy=BIN_PACK)
    if isinstance(packed, Placement) and not packed.why.count("only one"):
        assert "most loaded" in packed.why
        assert all(packed.score <= each.score for each in packed.runners_up if request.sharing == "shared")


def fitting(answer: Placement) -> int:
    """How many candidates the sentence says there were."""
    counted = re.search(r" of (\d+) that", answer.why)
    return int(counted[1]) if counted else 1


@given(clusters(), REQUESTS, EACH_POLICY)
def test_an_answer_is_sticky(cluster: Any, request: Request, policy: PlacementPolicy) -> None:
    nodes, gpus, reservations = cluster
    first = placement.choose(request, nodes, gpus, reservations, NOW, policy=policy)
    if isinstance(first, Placement):
        again = choose(request, nodes, gpus, [*reservations, first.reservation(NOW)], policy)
        assert (again.node, again.gpus, again.score) == (first.node, first.gpus, first.score)


@given(clusters(), st.lists(REQUESTS, max_size=12), EACH_POLICY)
def test_never_over_capacity(cluster: Any, requests: list[Request], policy: PlacementPolicy) -> None:
    nodes, gpus, reservations = cluster
    sizes = {gpu.uuid: gpu.memory_total_bytes for gpu in gpus}
    open_ = {node.name: node for node in nodes if node.ready and not node.cordoned}
    for n, request in enumerate(requests):
        answer = placement.choose(
            replace(request, uid=f"new-{n}"), nodes, gpus, reservations, NOW, policy=policy
        )
        if not isinstance(answer, Placement):
            assert answer.message
            continue
        assert answer.node in open_
        reservations = [*reservations, answer.reservation(NOW)]
        for gpu in answer.gpus:
            promised = sum(entry.memory_bytes for entry in reservations if gpu.uuid in entry.uuids)
            assert promised <= (sizes[gpu.uuid] or 0)
        if answer.count:
            taken = sum(entry.count for entry in reservations if entry.node == answer.node)
            assert taken <= open_[answer.node].allocatable[GPUS]


@pytest.mark.parametrize("memory", [0.1, 12, 40])
def test_a_hundred_pods_at_once_spread_evenly_over_a_hundred_gpus(memory: float) -> None:
    nodes = [make_node(f"node-{n:02}", 4) for n in range(25)]
    gpus = [make_gpu(node.name, f"GPU-{node.name}-{k}", 0.004 * k) for node in nodes for k in range(4)]
    reservations: list[Reservation] = []
    for n in range(100):
        request = make_request(
            memory=memory, pod=f"default/p{n}", uid=f"uid-{n}", deployment=f"default/d{n % 3}"
        )
        reservations.append(choose(request, nodes, gpus, reservations).reservation(NOW))
    assert Counter(entry.uuids[0] for entry in reservations) == {gpu.uuid: 1 for gpu in gpus}


@given(st.integers(1, 60), st.integers(2, 9), st.floats(0.01, 4))
def test_equal_gpus_never_differ_by_more_than_one_pod(pods: int, count: int, memory: float) -> None:
    gpus = [make_gpu(f"node-{k % 2}", f"GPU-{k}") for k in range(count)]
    nodes = [make_node("node-0"), make_node("node-1")]
    reservations: list[Reservation] = []
    for n in range(pods):
        answer = placement.choose(make_request(memory=memory, uid=f"uid-{n}"), nodes, gpus, reservations, NOW)
        if isinstance(answer, NoFit):
            break
        reservations.append(answer.reservation(NOW))
    load = Counter(entry.uuids[0] for entry in reservations)
    assert max(load[gpu.uuid] for gpu in gpus) - min(load[gpu.uuid] for gpu in gpus) <= 1


def test_against_an_oracle_that_knows_the_true_load() -> None:
    """300 clusters, 10 placements each, 7 s apart: the oracle knows the real bytes on every GPU, the operator
    its own books and readings of every 30 s. A choice is right when no GPU with room has less on it, by more
    than the noise that is cut off.
    """
    dice = random.Random(20261123)
    right = total = 0
    for _ in range(300):
        nodes = [make_node(f"node-{n}") for n in range(dice.randint(1, 5))]
        uuids = {f"GPU-{node.name}-{k}": node.name for node in nodes for k in range(dice.randint(1, 4))}
        truth = {uuid: dice.choice([0, dice.randrange(44 * GIB)]) for uuid in uuids}
        gpus: list[GpuReading] = []
        reservations: list[Reservation] = []
        for n in range(10):
            now = NOW + timedelta(seconds=7 * n)
            if n % 4 == 0:
                reported = [(uuid, node, truth[uuid] / GIB) for uuid, node in uuids.items()]
                gpus = [make_gpu(node, uuid, used, read_at=now) for uuid, node, used in reported]
                reservations = [
                    replace(entry, up=True, used_bytes=entry.memory_bytes) for entry in reservations
                ]
            dice.shuffle(gpus)
            request = make_request(
                memory=dice.choice([1, 2.5, 7, 12]), uid=f"uid-{n}", deployment=f"default/d{n}"
            )
            answer = placement.choose(request, nodes, gpus, reservations, now)
            room = {uuid for uuid, used in truth.items() if used + request.memory_bytes <= L40S}
            if isinstance(answer, NoFit):
                assert not room
                continue
            picked = answer.gpus[0].uuid
            assert picked in room
            total += 1
            right += truth[picked] - min(truth[uuid] for uuid in room) <= L40S // 100
            truth[picked] += request.memory_bytes
            reservations.append(answer.reservation(now))
    assert total > 1500
    assert right / total >= 0.99


def test_the_worked_example_of_the_page_is_what_happens() -> None:
    page = (DOCS / "placement.md").read_text(encoding="utf-8")
    gpus = [
        make_gpu("gpu-a", "GPU-1", 20),
        make_gpu("gpu-a", "GPU-2", 4),
        make_gpu("gpu-b", "GPU-3", 36),
        make_gpu("gpu-b", "GPU-4", 8),
    ]
    reservations = [make_reservation("p", "gpu-a", "GPU-2")]
    answer = choose(make_request(), TWO_NODES, gpus, reservations)
    shown = page.split("```json\n", 1)[1].split("```", 1)[0]
    assert json.loads(shown) == json.loads(answer.to_json(NOW))
    assert refuse(make_request(memory=40), TWO_NODES, gpus, reservations).message in page
