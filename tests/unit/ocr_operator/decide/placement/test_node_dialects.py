"""Each dialect of nodes in docs/dialects.md has its stored Node, and is read as its row says."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from ocr_operator.decide import placement
from ocr_operator.decide.placement import NoFit, NoFitReason, Placement, Request, devices, nodes
from ocr_operator.gpuload import dcgm
from ocr_operator.gpuload.dcgm import GpuReading
from ocr_operator.resources import observed
from ocr_operator.resources.observed import Node, Toleration
from tests.support.paths import DOCS, GOLDEN

SAMPLES = GOLDEN / "nodes"
NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
GIB = 2**30
DIALECTS: dict[str, Callable[[Node], None]] = {}


def dialect(check: Callable[[Node], None]) -> Callable[[Node], None]:
    """Register the check of the sample that has the function's name."""
    DIALECTS[check.__name__.replace("_", "-")] = check
    return check


def request(resource: str = "nvidia.com/gpu", memory: float = 4, **change: Any) -> Request:
    reported: dict[str, Any] = {
        "pod": "default/new", "uid": "uid-new", "deployment": "default/invoices", "sharing": "exclusive",
        "memory_bytes": int(memory * GIB), "resource": resource, "count": 1,
    }  # fmt: skip
    return Request(**(reported | change))


def choose(asked: Request, where: Node, readings: list[GpuReading]) -> Placement | NoFit:
    return placement.choose(asked, [where], readings, [], NOW)


def fits(asked: Request, where: Node, readings: list[GpuReading] | None = None) -> bool:
    return isinstance(choose(asked, where, readings or []), Placement)


def pinned(where: Node) -> Placement | NoFit:
    reading = GpuReading(
        node="gpu-a", uuid="GPU-1", memory_used_bytes=0, memory_total_bytes=40 * GIB, read_at=NOW
    )
    return choose(request("", sharing="shared", count=0), where, [reading])


@dialect
def shared_product(where: Node) -> None:
    assert fits(request(products=("NVIDIA-A100-SXM4-40GB",)), where)
    assert fits(request(products=("NVIDIA-A100-SXM4-40GB-SHARED",)), where)
    assert not fits(request(products=("NVIDIA-A100",)), where)
    assert nodes.shares(where, "nvidia.com/gpu")


@dialect
def renamed(where: Node) -> None:
    assert nodes.shares(where, "nvidia.com/gpu.shared"), "whatever the label says"
    assert fits(request("nvidia.com/gpu.shared", products=("Tesla-T4",)), where)
    assert not fits(request("nvidia.com/gpu"), where)


@dialect
def mig_single(where: Node) -> None:
    assert fits(request(products=("NVIDIA-A100-SXM4-40GB",)), where)
    assert (devices.cut(where), devices.gpu_bytes(where, "nvidia.com/gpu")) == (True, 4864 * 2**20)
    assert isinstance(pinned(where), NoFit)


@dialect
def mig_media(where: Node) -> None:
    assert fits(request(products=("NVIDIA-A100-SXM4-80GB",)), where)


@dialect
def mig_mixed(where: Node) -> None:
    assert devices.gpu_bytes(where, "nvidia.com/mig-1g.5gb") == 4864 * 2**20, "not that of the whole GPU"
    assert fits(request("nvidia.com/mig-1g.5gb", 4), where)
    assert not fits(request("nvidia.com/mig-1g.5gb", 30), where)
    found = pinned(where)
    assert isinstance(found, NoFit), "which of the node's GPUs are cut isn't known"
    assert found.reason is NoFitReason.NO_GPUS


@dialect
def mig_shared(where: Node) -> None:
    assert devices.wanted_profile("nvidia.com/mig-1g.10gb.shared") == "1g.10gb"
    assert devices.gpu_bytes(where, "nvidia.com/mig-1g.10gb.shared") == 9728 * 2**20
    assert nodes.shares(where, "nvidia.com/mig-1g.10gb.shared")
    assert isinstance(pinned(where), NoFit)


@dialect
def many_devices(where: Node) -> None:
    readings = dcgm.parse((GOLDEN / "dcgm" / "many-devices.txt").read_bytes(), "gpu-a", NOW)
    assert not nodes.shares(where), "no label says so"
    assert devices.replicated(where, len(readings))
    assert fits(request(memory=60), where, readings)
    assert not fits(request(memory=70), where, readings), "others use 15.5 GiB of its 79"


@dialect
def amd(where: Node) -> None:
    asked = request("amd.com/gpu", 180, products=("AMD_Instinct_MI300X_OAM",))
    assert fits(asked, where)
    assert not fits(replace(asked, memory_bytes=200 * GIB), where)
    assert not fits(replace(asked, products=("AMD_Instinct_MI210",)), where)


@dialect
def number_taint(where: Node) -> None:
    [taint] = where.taints

    def tolerated(operator: str, value: str) -> bool:
        own = Toleration(key=taint.key, operator=operator, value=value, effect=taint.effect)
        return fits(request(tolerations=(own,)), where)

    assert tolerated("Gt", "900")
    assert not tolerated("Gt", "950")
    assert tolerated("Lt", "1000")
    assert not tolerated("Lt", "950")


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_dialect_of_nodes_is_read_as_its_row_says(name: str) -> None:
    DIALECTS[name](observed.node(json.loads((SAMPLES / f"{name}.json").read_text(encoding="utf-8"))))


def test_every_row_of_nodes_has_its_sample_and_every_sample_its_row_and_check() -> None:
    section = (DOCS / "dialects.md").read_text(encoding="utf-8").split("## Nodes\n", 1)[1]
    rows = [each for each in section.splitlines() if each.startswith("| ")][2:]
    named = [re.findall(r"golden/nodes/([a-z-]+)\.json", each) for each in rows]
    assert all(named)
    stored = {each.stem for each in SAMPLES.iterdir()}
    assert {name for row in named for name in row} == stored == set(DIALECTS)
