"""`kubectl ocr top`: the GPUs by node, the pods on them and what is resident. A pure function of what was read."""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from kubectl_ocr import text
from kubectl_ocr.objects import sent
from kubectl_ocr.objects.cluster import Node
from kubectl_ocr.objects.pod import Pod
from kubectl_ocr.objects.resource import ModelSpec, PodStatus, Resource
from kubectl_ocr.text import Cell, Item
from kubectl_ocr.views.why import WHOLE
from ocr_wire import quantity
from ocr_wire.placement import Record
from ocr_wire.states import Location

HEADER: Final = ("NODE / GPU / POD", "PROMISED", "RESIDENT", "FREE", "MODELS")


class Tenant(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Pod on a GPU."""

    namespace: str
    pod: str
    deployment: str
    promised_bytes: int | None
    """None: the whole device."""
    resident_bytes: int
    """The declared `gpuMemory` of its models that are on the GPU."""
    models: dict[str, str]
    """Model → location of its weights."""


class GpuView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    uuid: str
    product: str
    total_bytes: int | None
    """None where no node label has it."""
    promised_bytes: int | None
    resident_bytes: int
    free_bytes: int | None
    """Memory that no pod is promised; 0 for a device that one pod has as a whole, None if unknown."""
    pods: tuple[Tenant, ...]


class NodeView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    name: str
    product: str
    gpus: tuple[GpuView, ...]
    others: int | None
    """GPUs of the node on which no pod of an OcrDeployment is; None if unknown."""


def view(resources: Sequence[Resource], pods: Sequence[Pod], nodes: Sequence[Node] | None) -> list[NodeView]:
    """Return the nodes with GPUs, by name. `nodes` is None where they may not be listed: sizes are unknown then."""
    known = {(each.metadata.namespace, each.metadata.name): each for each in pods}
    devices: dict[str, dict[str, list[tuple[str, Tenant]]]] = {}
    for resource in resources:
        space = resource.metadata.namespace
        for reported in resource.status.pods:
            pod = known.get((space, reported.name))
            found = sent.decision(pod) if pod is not None else None
            decision = found if isinstance(found, Record) else Record()
            node = reported.node or decision.node
            for gpu in reported.gpus or decision.gpus:
                tenant = _tenant(resource, reported, decision)
                devices.setdefault(node, {}).setdefault(gpu.uuid, []).append((gpu.product, tenant))
    by_name = {each.metadata.name: each for each in nodes or ()}
    listed = {name for name, each in by_name.items() if each.gpus} | {name for name in devices if name}
    return [_node(name, devices.get(name, {}), by_name.get(name)) for name in sorted(listed)]


def _tenant(resource: Resource, reported: PodStatus, decision: Record) -> Tenant:
    declared = {each.name: each for each in resource.spec.models}
    resident = [
        declared.get(each.name, ModelSpec(name=""))
        for each in reported.models
        if each.location == Location.GPU
    ]
    return Tenant(
        namespace=resource.metadata.namespace,
        pod=reported.name,
        deployment=resource.metadata.name,
        promised_bytes=None if decision.sharing in WHOLE else decision.memory_bytes or 0,
        resident_bytes=sum(quantity.size(each.gpu_memory) or 0 for each in resident),
        models={each.name: each.location for each in reported.models},
    )


def _node(name: str, devices: dict[str, list[tuple[str, Tenant]]], node: Node | None) -> NodeView:
    total = node.gpu_memory_bytes if node is not None else 0
    return NodeView(
        name=name,
        product=node.product if node is not None else "",
        gpus=tuple(_gpu(uuid, on, total or None) for uuid, on in sorted(devices.items())),
        others=None if node is None else max(0, node.gpus - len(devices)),
    )


def _gpu(uuid: str, on: Iterable[tuple[str, Tenant]], total: int | None) -> GpuView:
    listed = sorted(on, key=lambda each: (each[1].namespace, each[1].pod))
    tenants = tuple(tenant for _, tenant in listed)
    shares = [each.promised_bytes for each in tenants if each.promised_bytes is not None]
    whole = len(shares) < len(tenants)
    promised = None if whole else sum(shares)
    return GpuView(
        uuid=uuid,
        product=max((product for product, _ in listed), default=""),
        total_bytes=total,
        promised_bytes=promised,
        resident_bytes=sum(each.resident_bytes for each in tenants),
        free_bytes=0 if whole else None if total is None else max(0, total - (promised or 0)),
        pods=tenants,
    )


def render(nodes: Sequence[NodeView], paint: text.Paint = text.plain) -> str:
    if not nodes:
        return "no node has GPUs, and no pod of an OcrDeployment is on one"
    return text.table(HEADER, [_node_item(each) for each in nodes], paint)


def _node_item(node: NodeView) -> Item:
    children = [_gpu_item(each) for each in node.gpus]
    if node.others:
        count = f"{node.others} GPU{'' if node.others == 1 else 's'}"
        children.append(Item([Cell(f"{count} without a pod of an OcrDeployment", text.DIM)]))
    return Item([Cell(text.clean(f"{node.name}  {node.product}", 400), text.BOLD)], children)


def _gpu_item(gpu: GpuView) -> Item:
    promised = "whole" if gpu.promised_bytes is None else text.size(gpu.promised_bytes)
    total = "" if gpu.total_bytes is None else f" of {text.size(gpu.total_bytes)}"
    return Item(
        [
            text.clean(gpu.uuid, 128),
            promised + total,
            text.size(gpu.resident_bytes),
            "-" if gpu.free_bytes is None else text.size(gpu.free_bytes),
        ],
        [_tenant_item(each) for each in gpu.pods],
    )


def _tenant_item(tenant: Tenant) -> Item:
    promised = "whole" if tenant.promised_bytes is None else text.size(tenant.promised_bytes)
    models = ", ".join(f"{name} {where}" for name, where in tenant.models.items())
    resident = text.GOOD if tenant.resident_bytes else text.DIM
    return Item(
        [
            text.clean(f"{tenant.namespace}/{tenant.pod}", 512),
            promised,
            Cell(text.size(tenant.resident_bytes), resident),
            "",
            text.clean(models),
        ]
    )
