"""Placement by what device plugins and node labellers say, with the readings of the dialects' own samples."""

from datetime import UTC, datetime
from typing import Any

import pytest

from ocr_operator.decide import placement
from ocr_operator.decide.placement import NoFit, NoFitReason, Placement, Request, Reservation, devices, nodes
from ocr_operator.gpuload import dcgm
from ocr_operator.gpuload.dcgm import GpuReading
from ocr_operator.resources.observed import Node, Taint, Toleration
from tests.support.paths import GOLDEN

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
GIB = 2**30
GPU = "nvidia.com/gpu"


def sample(name: str) -> list[GpuReading]:
    return dcgm.parse((GOLDEN / "dcgm" / f"{name}.txt").read_bytes(), "gpu-a", NOW)


def node(allocatable: dict[str, int], **labels: str) -> Node:
    """Build a node; `labels` without the prefix that all have, and with `_` for the dots."""
    spelled = {f"nvidia.com/{key.replace('_', '.')}": value for key, value in labels.items()}
    return Node(name="gpu-a", ready=True, allocatable=allocatable, labels=spelled)


def request(resource: str = GPU, memory: float = 4, **change: Any) -> Request:
    reported: dict[str, Any] = {
        "pod": "default/new", "uid": "uid-new", "deployment": "default/invoices", "sharing": "exclusive",
        "memory_bytes": int(memory * GIB), "resource": resource, "count": 1,
    }  # fmt: skip
    return Request(**(reported | change))


def choose(
    asked: Request, where: Node, readings: list[GpuReading], *reservations: Reservation
) -> Placement | NoFit:
    return placement.choose(asked, [where], readings, reservations, NOW)


def pinned() -> Request:
    return request("", sharing="shared", count=0)


class TestInstances:
    def test_a_cut_gpu_is_never_pinned(self) -> None:
        found = choose(pinned(), node({"nvidia.com/mig-1g.6gb": 2}), sample("mig-beside-whole"))
        assert isinstance(found, NoFit)
        assert found.reason is NoFitReason.NO_GPUS

    @pytest.mark.parametrize(
        "where",
        [
            node({GPU: 7}, gpu_product="NVIDIA-L40S-MIG-1g.6gb"),
            node({GPU: 1, "nvidia.com/mig-1g.6gb": 2}),
        ],
    )
    def test_nothing_is_pinned_where_it_is_not_known_which_gpus_are_cut(self, where: Node) -> None:
        assert isinstance(choose(pinned(), where, sample("hostname-upper")), NoFit)
        assert isinstance(choose(pinned(), node({GPU: 2}), sample("hostname-upper")), Placement)

    def test_an_instance_without_memory_metrics_is_as_large_as_its_label_says(self) -> None:
        resource, readings = "nvidia.com/mig-1g.10gb", sample("mig-without-memory")
        labelled = node({resource: 7}, gpu_memory="81559", **{"mig-1g_10gb_memory": "9728"})
        assert isinstance(choose(request(resource, 9.5), labelled, readings), Placement)
        assert isinstance(choose(request(resource, 9.6), labelled, readings), NoFit)

    def test_without_a_label_the_name_of_the_profile_says_it(self) -> None:
        resource, readings = "nvidia.com/mig-1g.10gb", sample("mig-without-memory")
        whole = node({resource: 7}, gpu_memory="81559")
        assert isinstance(choose(request(resource, 8), whole, readings), Placement)
        assert isinstance(choose(request(resource, 40), whole, readings), NoFit), (
            "the GPU has 80 GB, an instance 10"
        )

    def test_with_the_strategy_single_the_label_is_of_an_instance(self) -> None:
        where = node({GPU: 7}, gpu_memory="9728", gpu_product="NVIDIA-H100-80GB-HBM3-MIG-1g.10gb")
        assert isinstance(choose(request(GPU, 9.5), where, sample("mig-without-memory")), Placement)

    @pytest.mark.parametrize(
        ("resource", "readings", "instances"),
        [
            ("nvidia.com/mig-1g.10gb.me", "mig-media", ["7/1g.10gb+me"]),
            ("nvidia.com/mig-1g.10gb", "mig-media", ["8/1g.10gb"]),
            ("nvidia.com/mig-1g.10gb.shared", "mig-media", ["8/1g.10gb"]),
            ("nvidia.com/mig-1g.12gb", "mig-other-size", ["7/1g.11gb", "8/1g.11gb"]),
            ("nvidia.com/mig-1g.20gb", "mig-media", []),
            ("nvidia.com/mig-2g.10gb", "mig-media", []),
            ("nvidia.com/mig-odd", "mig-media", []),
        ],
    )
    def test_a_resource_hands_out_instances_of_its_profile(
        self, resource: str, readings: str, instances: list[str]
    ) -> None:
        found = devices.instances(devices.wanted_profile(resource), sample(readings))
        assert [each.mig for each in found] == instances

    @pytest.mark.parametrize(
        ("name", "gib"),
        [("1g.5gb", 4.75), ("1g.12gb", 11), ("1g.18gb", 16), ("7g.80gb", 79.25), ("1g.6gb", 5.8)],
    )
    def test_no_profile_is_taken_for_larger_than_it_is(self, name: str, gib: float) -> None:
        size = devices.instance_bytes(node({}), name)
        assert size is not None
        assert 0.8 * gib * GIB < size < gib * GIB


class TestManyDevices:
    WHERE = node({GPU: 10})

    def test_ten_devices_of_one_gpu_are_replicas_of_it(self) -> None:
        readings = sample("many-devices")  # 79 GiB, of which other pods use 15.5
        assert isinstance(choose(request(memory=60), self.WHERE, readings), Placement)
        ours = Reservation(
            pod="default/a", uid="a", deployment="default/x", node="gpu-a", resource=GPU, count=1,
            memory_bytes=40 * GIB, uuids=(readings[0].uuid,),
        )  # fmt: skip
        assert isinstance(choose(request(memory=20), self.WHERE, readings, ours), Placement)
        refused = choose(request(memory=60), self.WHERE, readings, ours)
        assert isinstance(refused, NoFit)
        assert refused.reason is NoFitReason.INSUFFICIENT_MEMORY

    def test_a_gpu_that_no_exporter_sees_makes_no_replicas(self) -> None:
        assert not devices.replicated(node({GPU: 8}), 7)
        assert not devices.replicated(node({GPU: 8}), 0)
        assert not devices.replicated(node({GPU: 7}, gpu_product="X-MIG-1g.5gb"), 1)
        assert not devices.replicated(node({"rdma/hca": 100}), 1)
        assert devices.replicated(node({GPU: 8}), 4)


class TestProducts:
    @pytest.mark.parametrize(
        ("wanted", "label", "fits"),
        [
            ("NVIDIA-A100", "NVIDIA-A100", True),
            ("NVIDIA-A100", "NVIDIA-A100-SHARED", True),
            ("NVIDIA-A100-SHARED", "NVIDIA-A100", True),
            ("NVIDIA-A100", "NVIDIA-A100-MIG-1g.5gb-SHARED", True),
            ("NVIDIA-A100", "NVIDIA-A100-MIG-1g.10gbme", True),
            ("NVIDIA-A100", "NVIDIA-A100-SXM4-80GB", False),
        ],
    )
    def test_a_product_is_the_same_however_it_is_divided(self, wanted: str, label: str, fits: bool) -> None:
        answer = nodes.obstacle(request(products=(wanted,)), node({GPU: 1}, gpu_product=label))
        assert answer == ("" if fits else "of another product")

    def test_a_node_of_which_nothing_says_the_product_is_not_taken(self) -> None:
        asked = request(products=("NVIDIA-L40S",))
        assert isinstance(choose(asked, node({GPU: 2}), []), NoFit)
        assert isinstance(choose(asked, node({GPU: 2}), sample("hostname-upper")), Placement)


class TestAmd:
    WHERE = Node(
        name="gpu-a", ready=True, allocatable={"amd.com/gpu": 1},
        labels={"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM", "amd.com/gpu.vram": "192G"},
    )  # fmt: skip

    def test_its_load_counts_for_its_own_resource(self) -> None:
        asked = request("amd.com/gpu", 20, products=("AMD_Instinct_MI300X_OAM",))
        found = choose(asked, self.WHERE, sample("amd"))
        assert isinstance(found, Placement)
        assert found.data_source == "exporter"
        assert isinstance(choose(request("amd.com/gpu", 30), self.WHERE, sample("amd")), NoFit)

    def test_without_metrics_the_label_says_its_size(self) -> None:
        assert isinstance(choose(request("amd.com/gpu", 180), self.WHERE, []), Placement)
        assert isinstance(choose(request("amd.com/gpu", 200), self.WHERE, []), NoFit)

    def test_it_is_never_pinned(self) -> None:
        assert isinstance(choose(pinned(), self.WHERE, sample("amd")), NoFit)


@pytest.mark.parametrize(
    ("operator", "value", "taint", "tolerated"),
    [
        ("Gt", "750", "950", True),
        ("Gt", "750", "750", False),
        ("Gt", "950", "750", False),
        ("Lt", "950", "800", True),
        ("Lt", "800", "950", False),
        ("Lt", "-5", "-6", True),
        ("Gt", "0750", "950", False),
        ("Gt", "+7", "950", False),
        ("Gt", "750", "many", False),
        ("Gt", "", "950", False),
        ("Gtx", "950", "950", False),
    ],
)
def test_tolerations_compare_numbers(operator: str, value: str, taint: str, tolerated: bool) -> None:
    toleration = Toleration(key="sla", operator=operator, value=value, effect="NoSchedule")
    where = Node(name="gpu-a", ready=True, taints=(Taint(key="sla", value=taint, effect="NoSchedule"),))
    assert nodes.obstacle(request(tolerations=(toleration,)), where) == ("" if tolerated else "tainted")
