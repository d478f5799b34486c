"""One pod's entry in the status, and what is wrong with the pod: the one classifier that conditions use."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ocr_operator.decide.placement import failed, reservations, verify
from ocr_operator.decide.status.types import PodSeen
from ocr_operator.gpuload.readings import GpuNodes
from ocr_operator.pods.unreachable import Unreachable
from ocr_operator.resources import observed
from ocr_operator.resources.observed import Container, Pod
from ocr_wire import names, states
from ocr_wire.placement import UUID
from ocr_wire.state import Model, PodState
from ocr_wire.states import DeviceKind, State
from ocr_wire.text import clean

UNKNOWN: Final = "unknown"
LOCATIONS: Final = ("gpu", "cpu", "unloaded", UNKNOWN)

_CANT_START: Final = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)
"""The kubelet's waiting reasons that a person has to do something about."""
SETTLED: Final = timedelta(seconds=5)
"""So long a model must be idle before the status says since when: else each page of a busy one would be two writes."""
LONG_LEASE: Final = timedelta(minutes=5)
"""So long the oldest page of a model must be read before the status says since when: those of language models may take
a minute, and each would be two writes."""
UNBOUND: Final = timedelta(minutes=1)
"""So long a pod without a gate must be without a node, and without a word of the scheduler, before the status says so:
that nothing complains doesn't mean that all is well."""
KILLED: Final = 137
"""The exit code of SIGKILL, as shells and kubelets write it."""
_LOOPING_RESTARTS: Final = 2
"""So many restarts without getting ready are a loop, also in the seconds in which the container runs: the kubelet's
first back-off comes before the second restart, and from then on it is one story."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    reason: str
    """A reason of the condition Degraded; docs/status.md lists them."""
    pod: str
    message: str


REASONS: Final = (
    "CrashLooping",
    "ContainerCannotStart",
    "PodFailed",
    "Unschedulable",
    "Unbound",
    "WrongGpu",
    states.ENGINE_MISSING,
    "WorkerStuck",
    "ModelFailed",
    "NodeNotReady",
    "Unreachable",
)
"""The problems of pods, worst first: one pod on a lost node, which Kubernetes replaces, doesn't hide from a person what
other pods can't do without one. Which problem of one pod counts is another order: that of `problem`.
"""


def current(pods: Sequence[PodSeen]) -> list[PodSeen]:
    """The pods that the status lists, by name: neither finished nor (unless they still answer) terminating."""
    listed = [
        each
        for each in pods
        if not each.pod.finished and (not each.pod.terminating or isinstance(each.state, PodState))
    ]
    return sorted(listed, key=lambda each: (each.pod.name, each.pod.uid))


def ready(each: PodSeen) -> bool:
    return each.pod.ready and not each.pod.terminating


def awake(each: PodSeen) -> bool:
    """Return whether the Service sends requests to it: the label as it is, not as it should be."""
    return ready(each) and each.pod.labels.get(names.LABEL_AWAKE) == names.AWAKE


def placed(pod: Pod) -> bool:
    """Return whether the operator opened its gate: the patch that does so leaves a record."""
    return bool(pod.annotation(names.ANNOTATION_PLACEMENT))


def state(each: PodSeen) -> PodState | Unreachable | None:
    """The pod's state; an answer that another pod gave (addresses are reused) counts as none."""
    reported = each.state
    if (
        isinstance(reported, PodState)
        and reported.pod.uid
        and each.pod.uid
        and reported.pod.uid != each.pod.uid
    ):
        return Unreachable(reason="WrongPod", message=f"pod {reported.pod.name} answers at its address")
    return reported


def applied(each: PodSeen, revision: int, digest: str) -> bool:
    reported = state(each)
    return isinstance(reported, PodState) and (reported.settings.revision, reported.settings.hash) == (
        revision,
        digest,
    )


def problem(each: PodSeen, now: datetime) -> Problem | None:
    """Return what is wrong with the pod beyond "not ready yet"; None while it is only starting.

    1. the scheduler finds no node, or is silent  2. its node isn't ready, so what else the status says of the pod may
    be old  3. a container can't start  4. or ends again and again, or its kubelet can't prepare the pod  5. the server
    can't be asked though the pod is ready  6. another GPU than promised  7. an image without a model's engine
    8. a worker that can't be killed  9. a model gave up
    """
    pod, reported = each.pod, state(each)
    if pod.terminating:
        return None
    if not pod.node and (why := _unscheduled(pod, now)):
        return why
    if not each.node_ready:
        return Problem(reason="NodeNotReady", pod=pod.name, message=f"its node {pod.node} isn't ready")
    if failing := _failing(each):
        return failing
    if isinstance(reported, Unreachable) and pod.ready:
        return Problem(reason="Unreachable", pod=pod.name, message=clean(reported.message))
    return _reported(pod, reported, each.gpu_nodes) if isinstance(reported, PodState) else None


def _failing(each: PodSeen) -> Problem | None:
    """Return what keeps the pod's containers from running: numbers 3 and 4 of `problem`."""
    pod = each.pod
    for container in pod.containers:
        if container.waiting_reason in _CANT_START:
            text = f"{container.name}: {container.waiting_reason}: {clean(container.waiting_message)}"
            return Problem(reason="ContainerCannotStart", pod=pod.name, message=text.rstrip(": "))
        if _loops(container, pod_ready=pod.ready):
            return Problem(reason="CrashLooping", pod=pod.name, message=_end(container))
    if each.warning:
        return Problem(reason="ContainerCannotStart", pod=pod.name, message=each.warning)
    return None


def _unscheduled(pod: Pod, now: datetime) -> Problem | None:
    if pod.unschedulable:
        return Problem(reason="Unschedulable", pod=pod.name, message=clean(pod.unschedulable))
    since = unbound_since(pod)
    if since is None or now - since < UNBOUND:
        return None
    asked = "is there the one that its template names, and, with gpu.sharing: claim, its ResourceClaim?"
    return Problem(reason="Unbound", pod=pod.name, message=f"no scheduler takes it up: {asked}")


def unbound_since(pod: Pod) -> datetime | None:
    """Since when the pod waits for a scheduler that says nothing; None while it doesn't."""
    if pod.node or pod.gates or pod.unschedulable or pod.terminating or pod.finished:
        return None
    return reservations.record(pod).time or pod.created


def ended(pod: Pod) -> Problem:
    """Return what is wrong with a pod that ended."""
    return Problem(reason="PodFailed", pod=pod.name, message=clean(failed.sentence(pod)))


def _reported(pod: Pod, reported: PodState, gpu_nodes: GpuNodes) -> Problem | None:
    """Return what the pod itself reports: numbers 6 to 9 of `problem`."""
    if wrong := verify.mismatch(pod, reported, gpu_nodes):
        return Problem(reason="WrongGpu", pod=pod.name, message=wrong)
    for model in reported.models:
        if model.last_failure is not None and model.last_failure.reason == states.ENGINE_MISSING:
            message = f"{model.name}: {clean(model.last_failure.message)}"
            return Problem(reason=states.ENGINE_MISSING, pod=pod.name, message=message)
    for model in reported.models:
        if model.stuck_since is not None:
            what = f"its worker was killed at {_precise(model.stuck_since)} and hasn't ended"
            return Problem(reason="WorkerStuck", pod=pod.name, message=f"{model.name}: {what}")
    for model in reported.models:
        if model.state is State.FAILED:
            what = f": {model.last_failure.message}" if model.last_failure else ""
            return Problem(reason="ModelFailed", pod=pod.name, message=f"{model.name}{what}")
    return None


def entry(
    each: PodSeen,
    generation: int,
    current_settings: tuple[int, str] | None,
    models: Sequence[str],
    now: datetime,
) -> dict[str, Any]:
    """One element of `status.pods`; absent fields are left out, so that nothing is written that isn't known."""
    pod, reported = each.pod, state(each)
    found = reservations.record(pod)
    answer: dict[str, Any] = {"name": pod.name}
    if node := pod.node or found.node:
        answer["node"] = node
    if isinstance(reported, PodState):
        gpu = reported.device
        on_gpu = gpu.kind is not DeviceKind.CPU and gpu.uuid
        answer["gpus"] = [_gpu(gpu.uuid or "", gpu.product or "")] if on_gpu else []
        if gpu.kind is not DeviceKind.UNKNOWN:
            answer["device"] = gpu.kind.value
    else:
        pinned = {pin.uuid: pin.product for pin in found.gpus if UUID.fullmatch(pin.uuid)}
        answer["gpus"] = [_gpu(uuid, pinned[uuid][:128]) for uuid in sorted(pinned)]
    answer["ready"] = ready(each)
    answer["awake"] = awake(each)
    if isinstance(reported, PodState):
        same = current_settings is not None and applied(each, *current_settings)
        answer["appliedGeneration"] = generation if same else reported.settings.generation
        answer["models"] = [
            _model(model, now) for model in sorted(reported.models, key=lambda model: model.name)
        ]
    else:
        where = _unasked(each)
        answer["models"] = [{"name": name, "state": where, "location": where} for name in sorted(models)]
    if failure := _last_failure(each):
        answer["lastFailure"] = failure
    return answer


def _model(model: Model, now: datetime) -> dict[str, str]:
    times = {
        "since": model.since,
        "stuckSince": model.stuck_since,
        **{
            name: at for name, (at, after) in _settling(model).items() if at is not None and now - at >= after
        },
    }
    return {
        "name": model.name,
        "state": model.state.value,
        "location": model.location.value,
        **{name: _precise(at) for name, at in times.items() if at is not None},
    }


def _settling(model: Model) -> dict[str, tuple[datetime | None, timedelta]]:
    """Return the times that the status says only when they are so long ago."""
    return {
        "idleSince": (idle_since(model), SETTLED),
        "oldestLeaseSince": (model.oldest_lease_since, LONG_LEASE),
    }


def idle_since(model: Model) -> datetime | None:
    """Since when an idle timer runs for the model's weights; None while it is in use, or holds none."""
    return model.idle_since if model.state in {State.READY, State.OFFLOADED} else None


def settles(pods: Sequence[PodSeen], now: datetime) -> float | None:
    """Seconds until the status has a new time to tell, None for "when something changes"."""
    models = (
        model for each in pods if isinstance(reported := state(each), PodState) for model in reported.models
    )
    waits = [pair for model in models for pair in _settling(model).values()]
    waits += [(unbound_since(each.pod), UNBOUND) for each in pods]
    left = [(after - (now - at), after) for at, after in waits if at is not None]
    # A clock that is ahead of ours by more than that is wrong: it must not keep us looking.
    soon = (each.total_seconds() for each, after in left if timedelta() < each <= after + SETTLED)
    return min(soon, default=None)


def _unasked(each: PodSeen) -> str:
    """Return where the weights of a silent pod are: certainly nowhere while no process of it runs, else unknown."""
    server = each.pod.server
    running = server is not None and server.running
    starting = state(each) is None and not each.pod.ready
    return "unloaded" if starting or not running else UNKNOWN


def _loops(container: Container, *, pod_ready: bool) -> bool:
    if container.waiting_reason == "CrashLoopBackOff":
        return True
    return not pod_ready and not container.ready and container.restarts >= _LOOPING_RESTARTS


def _end(container: Container) -> str:
    code = "" if container.exit_code is None else f" with exit code {container.exit_code}"
    reason = f" ({clean(container.terminated_reason, 64)})" if container.terminated_reason else ""
    return f"{container.name} ends again and again{', last' + code + reason if code or reason else ''}"


def _last_failure(each: PodSeen) -> dict[str, Any] | None:
    """The newest of what the models report and how the containers ended."""
    found: list[tuple[str, dict[str, Any]]] = []
    for container in each.pod.containers:
        # With cgroup v1 the server may survive the end of a worker, and end by itself: the kernel's word counts.
        killed = container.terminated_reason == "OOMKilled"
        if container.terminated_at and ((container.exit_code or 0) != 0 or killed):
            odd = killed and container.exit_code != KILLED
            how = f" with exit code {container.exit_code} after a process of it was killed" if odd else ""
            said = clean(container.terminated_message)
            at = observed.stamp(container.terminated_at)
            found.append(
                (
                    at,
                    {
                        "reason": clean(container.terminated_reason, 64) or "Error",
                        "message": f"{container.name} ended{how}" + (f": {said}" if said else ""),
                        "time": at,
                        "exitCode": KILLED if killed else container.exit_code,
                    },
                )
            )
    reported = state(each)
    for model in reported.models if isinstance(reported, PodState) else ():
        if model.last_failure and model.last_failure.time:
            at = _precise(model.last_failure.time)
            failure: dict[str, Any] = {
                "reason": model.last_failure.reason or "Failed",
                "message": f"{model.name}: {model.last_failure.message}",
                "time": at,
            }
            if model.last_failure.exit_code is not None:
                failure["exitCode"] = model.last_failure.exit_code
            found.append((at, failure))
    return max(found, key=lambda pair: (pair[0], str(pair[1])))[1] if found else None


def _gpu(uuid: str, product: str) -> dict[str, str]:
    return {"uuid": uuid, "product": product} if product else {"uuid": uuid}


def _precise(at: datetime) -> str:
    """Milliseconds, as the server writes them."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
