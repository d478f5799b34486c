"""Whether a pod got the GPU that it was promised, by what it says itself and by what others say of its node."""

from ocr_operator.decide.placement import devices
from ocr_operator.gpuload import dcgm
from ocr_operator.gpuload.readings import NO_GPU_NODES, GpuNodes
from ocr_operator.resources.observed import Pod
from ocr_wire import names
from ocr_wire.placement import UUID
from ocr_wire.state import PodState
from ocr_wire.states import DeviceKind
from ocr_wire.text import clean


def mismatch(pod: Pod, state: PodState, gpu_nodes: GpuNodes = NO_GPU_NODES) -> str:
    """Name what is wrong with the GPU that the pod reports; empty while nothing is. The first of:

    1. it isn't what the placement promised  2. it is another node's  3. its node doesn't have it, by the word of the
    node's exporter  4. it is of another product than wanted, as after a gate that was lifted by hand  5. the pod itself
    complains.
    """
    promised = sorted(set(pod.annotation(names.ANNOTATION_GPU_UUIDS).split(",")) - {""})
    uuid = state.device.uuid or ""
    if state.device.kind is not DeviceKind.CPU and uuid:
        if promised and uuid not in promised:
            return clean(f"got {uuid} instead of {', '.join(promised)}")
        home = gpu_nodes.nodes.get(uuid)
        if home and pod.node and home != pod.node:
            return clean(f"says that it runs on {uuid}, which is on node {home}, not on {pod.node}")
        if not home and pod.node in gpu_nodes.reported and not uuid.startswith("MIG-"):
            return clean(f"says that it runs on {uuid}, which node {pod.node} doesn't have")
        if (wanted := _products(pod)) and dcgm.product(state.device.product or "") not in {"", *wanted}:
            return clean(f"runs on {state.device.product}, which is none of {', '.join(sorted(wanted))}")
    return clean(state.device.mismatch)


def _products(pod: Pod) -> set[str]:
    """Return the products that the pod may run on; empty for any, and where drivers and labels differ in names."""
    if any(resource.startswith(devices.AMD) for resource in pod.requests):
        return set()
    return {dcgm.product(each) for each in pod.annotation(names.ANNOTATION_GPU_PRODUCTS).split(",") if each}


def actual(state: PodState | None) -> tuple[str, ...]:
    """The GPU that a pod says it runs on, if it can be one."""
    if state is None or state.device.kind is DeviceKind.CPU or not state.device.uuid:
        return ()
    return (state.device.uuid,) if UUID.fullmatch(state.device.uuid) else ()
