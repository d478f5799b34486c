"""Devices that are replicas of a GPU (time slicing, MPS): memory counts against the real GPUs; and what becomes of
pods that fit nowhere or whose node is refused.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.decide import placement
from ocr_operator.decide.placement import Basis, NoFit, NoFitReason, Placement, Request, Reservation, patience
from ocr_operator.gpuload.dcgm import GpuReading
from ocr_operator.resources import observed
from ocr_operator.resources.observed import Node
from tests.support.observations import raw_pod
from tests.support.resources import make_deployment

GIB = 2**30
NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
REPLICA = "nvidia.com/gpu.shared"


def make_node(name: str = "gpu-a", replicas: int = 8, **change: Any) -> Node:
    reported: dict[str, Any] = {"name": name, "ready": True, "allocatable": {REPLICA: replicas}}
    return Node(**(reported | change))


def make_gpu(node: str = "gpu-a", uuid: str = "GPU-1", used: float = 0, **change: Any) -> GpuReading:
    reported: dict[str, Any] = {
        "node": node,
        "uuid": uuid,
        "memory_used_bytes": int(used * GIB),
        "memory_total_bytes": 40 * GIB,
        "utilization": 0.0,
        "read_at": NOW - timedelta(seconds=10),
    }
    return GpuReading(**(reported | change))


def make_request(memory: float = 12, uid: str = "uid-new", **change: Any) -> Request:
    reported: dict[str, Any] = {
        "pod": f"default/{uid}",
        "uid": uid,
        "deployment": "default/invoices",
        "sharing": "exclusive",
        "memory_bytes": int(memory * GIB),
        "resource": REPLICA,
    }
    return Request(**(reported | change))


def tenant(name: str, memory: float = 12, uuid: str = "", **change: Any) -> Reservation:
    """A pod that has a replica; `uuid` once it has told on which GPU."""
    reported: dict[str, Any] = {
        "pod": f"default/{name}",
        "uid": f"uid-{name}",
        "deployment": "default/other",
        "node": "gpu-a",
        "uuids": (uuid,) if uuid else (),
        "memory_bytes": int(memory * GIB),
        "resource": REPLICA,
        "count": 1,
    }
    return Reservation(**(reported | change))


TWO = [make_gpu(uuid="GPU-1"), make_gpu(uuid="GPU-2")]


class TestReplicas:
    def test_a_node_is_chosen_and_the_plugin_picks_the_gpu(self) -> None:
        answer = placement.choose(make_request(), [make_node()], TWO, [], NOW)
        assert isinstance(answer, Placement)
        assert (answer.node, answer.gpus, answer.count, answer.basis) == ("gpu-a", (), 1, Basis.METRICS)
        assert answer.score == round(1 - 12 / 80, 4)

    def test_memory_runs_out_before_the_replicas_do(self) -> None:
        reservations = [tenant(f"p{n}", uuid=f"GPU-{1 + n % 2}") for n in range(6)]
        answer = placement.choose(make_request(), [make_node()], TWO, reservations, NOW)
        assert answer == NoFit(
            reason=NoFitReason.INSUFFICIENT_MEMORY,
            message="no GPU fits 12Gi: 0 of 1 node with nvidia.com/gpu.shared has 1 free and large enough "
            "(gpu-a: 4Gi free on a GPU)",
            excluded=("gpu-a",),
        )

    def test_pods_that_have_not_told_their_gpu_yet_count_too(self) -> None:
        reservations = [tenant(f"p{n}") for n in range(6)]
        assert isinstance(placement.choose(make_request(), [make_node()], TWO, reservations, NOW), NoFit)
        assert isinstance(
            placement.choose(make_request(), [make_node()], TWO, reservations[:5], NOW), Placement
        )

    def test_replicas_run_out_before_memory_does(self) -> None:
        reservations = [tenant("a", 1, "GPU-1"), tenant("b", 1)]
        answer = placement.choose(make_request(1), [make_node(replicas=2)], TWO, reservations, NOW)
        assert isinstance(answer, NoFit)
        assert answer.reason is NoFitReason.INSUFFICIENT_GPUS

    def test_what_strangers_use_is_not_given_away(self) -> None:
        full = [make_gpu(uuid="GPU-1", used=30), make_gpu(uuid="GPU-2", used=30)]
        assert isinstance(placement.choose(make_request(), [make_node()], full, [], NOW), NoFit)
        theirs = [replace(each, holders=("research/train",)) for each in TWO]
        answer = placement.choose(make_request(), [make_node(replicas=1)], theirs, [], NOW)
        assert isinstance(answer, NoFit), "the only replica is a stranger's"

    def test_the_emptier_node_wins(self) -> None:
        nodes = [make_node("gpu-a"), make_node("gpu-b")]
        gpus = [*TWO, make_gpu("gpu-b", "GPU-3"), make_gpu("gpu-b", "GPU-4")]
        answer = placement.choose(make_request(), nodes, gpus, [tenant("a")], NOW)
        assert isinstance(answer, Placement)
        assert answer.node == "gpu-b"

    def test_a_label_says_the_same_as_the_suffix(self) -> None:
        node = Node(
            name="gpu-a",
            ready=True,
            allocatable={"nvidia.com/gpu": 8},
            labels={"nvidia.com/gpu.replicas": "4"},
        )
        reservations = [tenant(f"p{n}", resource="nvidia.com/gpu") for n in range(6)]
        request = make_request(resource="nvidia.com/gpu")
        assert isinstance(placement.choose(request, [node], TWO, reservations[:5], NOW), Placement)
        assert isinstance(placement.choose(request, [node], TWO, reservations, NOW), NoFit)

    def test_all_models_of_a_pod_count_as_on_any_shared_gpu(self) -> None:
        models = [{"name": name, "engine": "rapidocr", "gpuMemory": "4Gi"} for name in ("a", "b")]
        pod = observed.pod(raw_pod(gated=True))
        for resource, memory in ((REPLICA, 8), ("nvidia.com/gpu", 4)):
            spec = make_deployment(models=models, gpu={"sharing": "exclusive", "resourceName": resource})
            assert placement.request(spec, pod).memory_bytes == memory * GIB

    @given(
        st.lists(st.tuples(st.floats(0, 30), st.sampled_from(["", "GPU-1", "GPU-2"])), max_size=8),
        st.lists(st.floats(0, 45), max_size=10),
        st.integers(0, 10),
    )
    def test_never_over_capacity(
        self, before: list[tuple[float, str]], needs: list[float], replicas: int
    ) -> None:
        """However the pods are dealt to the GPUs: never more replicas than there are, never more bytes in all."""
        reservations = [tenant(f"p{n}", memory, uuid) for n, (memory, uuid) in enumerate(before)]
        for n, need in enumerate(needs):
            answer = placement.choose(
                make_request(need, f"uid-new-{n}"), [make_node(replicas=replicas)], TWO, reservations, NOW
            )
            if isinstance(answer, Placement):
                reservations.append(answer.reservation(NOW))
                assert len(reservations) <= replicas
                assert need * GIB <= 40 * GIB
                mine = [each for each in reservations if each.uid.startswith("uid-new")]
                assert sum(each.memory_bytes for each in mine) <= 80 * GIB


class TestRefusedNodes:
    GPUS = (make_gpu("gpu-a", "GPU-1"), make_gpu("gpu-b", "GPU-2", 20))
    NODES = (make_node("gpu-a"), make_node("gpu-b"))

    def choose(self, *refused: str) -> Placement:
        request = make_request(sharing="shared", resource="", refused=dict.fromkeys(refused, 1))
        answer = placement.choose(request, self.NODES, self.GPUS, [], NOW)
        assert isinstance(answer, Placement)
        return answer

    def test_a_node_that_the_scheduler_refused_comes_last(self) -> None:
        assert self.choose().node == "gpu-a"
        assert self.choose("gpu-a").node == "gpu-b"

    def test_and_is_better_than_none(self) -> None:
        answer = self.choose("gpu-a", "gpu-b")
        assert answer.node == "gpu-a"
        assert "though a pod was turned away from there before" in answer.why


class TestPatience:
    NOFIT = NoFit(reason=NoFitReason.INSUFFICIENT_GPUS, message="no GPU is free: all taken")

    def give_up(
        self, age: timedelta, nofit: NoFit = NOFIT, after: int = 120, **change: Any
    ) -> Placement | None:
        raw = raw_pod(gated=True)
        raw["metadata"]["creationTimestamp"] = observed.stamp(NOW - age)
        return placement.give_up(make_request(**change), observed.pod(raw), nofit, NOW, after_seconds=after)

    def test_after_two_minutes_the_scheduler_gets_the_pod(self) -> None:
        assert self.give_up(timedelta(seconds=119)) is None
        answer = self.give_up(timedelta(seconds=120))
        assert answer is not None
        assert (answer.node, answer.basis) == ("", Basis.SCHEDULER)
        assert answer.why == (
            "no GPU is free: all taken; left to the scheduler after 120 s, so that a cluster autoscaler sees "
            "the pod"
        )

    def test_or_at_once_or_never(self) -> None:
        answer = self.give_up(timedelta(0), after=0)
        assert answer is not None
        assert "left to the scheduler at once, so" in answer.why
        assert self.give_up(timedelta(days=1), after=patience.NEVER) is None

    def test_the_patch_opens_the_gate_and_pins_nothing(self) -> None:
        pod = observed.pod(raw_pod(gated=True))
        answer = self.give_up(timedelta(hours=1))
        assert answer is not None
        operations = placement.patch(pod, answer, "{}", NOW)
        assert not any("affinity" in each["path"] for each in operations)
        assert operations[-1] == {"op": "remove", "path": "/spec/schedulingGates/0"}

    def test_the_scheduler_gets_the_products_however_their_gpus_are_shared(self) -> None:
        raw = raw_pod(gated=True)
        zone = {"key": "zone", "operator": "In", "values": ["a"]}
        required = {"nodeSelectorTerms": [{"matchExpressions": [zone]}, {}]}
        kind = "requiredDuringSchedulingIgnoredDuringExecution"
        raw["spec"]["affinity"] = {"nodeAffinity": {kind: required}}
        answer = self.give_up(timedelta(hours=1), products=("NVIDIA-L40S", "NVIDIA-A100-SHARED"))
        assert answer is not None
        operations = placement.patch(observed.pod(raw), answer, "{}", NOW)
        added = [each for each in operations if each["path"] == "/spec/affinity/nodeAffinity"]
        values = ["NVIDIA-A100", "NVIDIA-A100-SHARED", "NVIDIA-L40S", "NVIDIA-L40S-SHARED"]
        product = {"key": "nvidia.com/gpu.product", "operator": "In", "values": values}
        terms = [{"matchExpressions": [zone, product]}, {}]
        assert [each["value"] for each in added] == [{kind: {"nodeSelectorTerms": terms}}]

    @pytest.mark.parametrize("reason", [NoFitReason.INSUFFICIENT_MEMORY])
    def test_too_little_memory_is_nothing_that_the_scheduler_knows_of(self, reason: NoFitReason) -> None:
        assert self.give_up(timedelta(hours=1), replace(self.NOFIT, reason=reason)) is None

    def test_shared_memory_stays_with_the_books(self) -> None:
        assert self.give_up(timedelta(hours=1), sharing="shared") is None

    def test_a_pod_of_unknown_age_waits(self) -> None:
        raw = raw_pod(gated=True)
        del raw["metadata"]["creationTimestamp"]
        assert placement.give_up(make_request(), observed.pod(raw), self.NOFIT, NOW, after_seconds=0) is None


class TestWithoutNodes:
    """The operator may not read nodes."""

    @pytest.mark.parametrize("sharing", ["exclusive", "claim", "none"])
    def test_whole_devices_are_the_schedulers(self, sharing: str) -> None:
        pod = observed.pod(raw_pod(gated=True))
        answer = placement.without_nodes(make_request(sharing=sharing))
        assert isinstance(answer, Placement)
        operations = placement.patch(pod, answer, "{}", NOW)
        assert not any("affinity" in each["path"] for each in operations)
        assert operations[-1] == {"op": "remove", "path": "/spec/schedulingGates/0"}

    def test_products_are_asked_for_by_their_label(self) -> None:
        answer = placement.without_nodes(make_request(products=frozenset({"NVIDIA-L40S"})))
        assert isinstance(answer, Placement)
        operations = placement.patch(observed.pod(raw_pod(gated=True)), answer, "{}", NOW)
        [affinity] = [each["value"] for each in operations if "affinity" in each["path"]]
        assert "NVIDIA-L40S" in str(affinity)

    def test_shared_is_refused_by_name(self) -> None:
        answer = placement.without_nodes(make_request(sharing="shared"))
        assert isinstance(answer, NoFit)
        assert answer.reason is NoFitReason.NODES_NOT_READ
        assert "rbac.clusterWide" in answer.message
