"""The state of a manager, for people and their dashboards."""

from typing import NotRequired, TypedDict

from ocr_inference.library import moving
from ocr_inference.library.shared_gpu import SharedGPU
from ocr_wire.states import State


class Status(TypedDict):
    """Keys of `get_status`. Times are seconds."""

    model_location: str
    """`gpu`, `cpu` or `unloaded`. Without a GPU a loaded model is on the `cpu`."""
    idle_time: float
    """Time since the last use; 0 while the model is in use, and before it was used."""
    device: str
    timeout: float | None
    """The idle timeout; None: never."""
    gpu_memory_allocated: NotRequired[float]
    """MiB that torch has allocated on the GPU in this process, for all models; with CUDA only."""
    gpu_memory_reserved: NotRequired[float]
    gpu_memory_allocated_gb: NotRequired[float]
    """The first of these in GiB, which some programs read."""
    name: str
    state: str
    """`unloaded`, `loading`, `ready`, `offloading`, `offloaded`, `restoring` or `unloading`."""
    monitoring: bool
    release_timeout: float | None
    priority: int
    in_use: int
    """Leases, and one for `get_model` while its use lasts."""
    waiting: int
    device_bytes: int
    """Bytes that the model takes of the GPU now."""
    host_bytes: int
    size_bytes: int
    """Bytes that it takes of the GPU when it is there; 0 as long as that isn't known."""
    loads: int
    restores: int
    """How often its weights came to the GPU from host memory."""
    last_restore_seconds: float | None
    copied_to_gpu: int
    """Bytes, since the model was loaded."""
    copied_back: int
    """Bytes of weights that were changed on the GPU."""
    kept_whole: str
    """Why the model can't be moved, and is released to leave the GPU; empty where it can."""
    last_error: str


def take(gpu: SharedGPU, name: str) -> Status:
    """Return the state of a manager, also of one that is closed."""
    sharing, slot, now = gpu.state, gpu.slot(name), gpu.now()
    model, policy = sharing.scheduler.models.get(name), sharing.policies.get(name)
    resident, error = (None, None) if slot is None else (slot.resident, slot.error)
    used = model is not None and (model.loads > 0 or model.leases)
    idle = 0.0 if model is None or model.leases or not used else max(0.0, now - model.last_activity)
    use = sharing.uses.get(name)
    if model is not None and use is not None and set(model.leases) == {use.ticket}:
        idle = max(0.0, now - use.since)
    on_gpu = resident is not None and resident.on_device
    status: Status = {
        "model_location": moving.place(resident).value,
        "idle_time": idle,
        "device": gpu.device,
        "timeout": None if policy is None else policy.idle_timeout,
        "name": name,
        "state": (State.UNLOADED if model is None else model.state).value,
        "monitoring": policy is not None and policy.monitored,
        "release_timeout": None if policy is None else policy.release_timeout,
        "priority": 0 if policy is None else policy.priority,
        "in_use": 0 if model is None else len(model.leases),
        "waiting": 0 if model is None else model.waiting,
        "device_bytes": resident.size_bytes if resident is not None and on_gpu else 0,
        "host_bytes": 0 if resident is None else resident.host_bytes,
        "size_bytes": 0 if model is None else model.need_bytes,
        "loads": 0 if model is None else model.loads,
        "restores": 0 if model is None else model.wakes,
        "last_restore_seconds": None if model is None else model.last_wake_seconds,
        "copied_to_gpu": 0 if resident is None else resident.copied_bytes[0],
        "copied_back": 0 if resident is None else resident.copied_bytes[1],
        "kept_whole": "" if resident is None else resident.kept_whole,
        "last_error": "" if error is None else f"{type(error).__name__}: {error}",
    }
    memory = gpu.mover.memory()
    if memory:
        status["gpu_memory_allocated"] = memory["gpu_memory_allocated"]
        status["gpu_memory_reserved"] = memory["gpu_memory_reserved"]
        status["gpu_memory_allocated_gb"] = memory["gpu_memory_allocated"] / 1024
    return status
