"""The status of a pod, from what its containers do. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devcluster.kube.model import Condition, Container, Pod, Terminated

Json = dict[str, Any]


@dataclass(frozen=True)
class Waiting:
    reason: str
    message: str = ""


@dataclass(frozen=True)
class Running:
    started_at: str


State = Waiting | Running | Terminated


@dataclass(frozen=True)
class View:
    """State of one container, from its owner."""

    container: Container
    state: State
    last: Terminated | None = None
    restarts: int = 0
    started: bool = False
    ready: bool = False
    running_id: str = ""
    over: bool = False
    """Ended, and never to run again."""

    @property
    def sidecar(self) -> bool:
        return self.container.restart_policy == "Always"


@dataclass(frozen=True)
class Verdict:
    """Refusal of a pod: it is Failed without any container having run."""

    reason: str
    message: str


@dataclass(frozen=True)
class PodSnapshot:
    """Snapshot that a status is made from."""

    pod: Pod
    init: Sequence[View]
    main: Sequence[View]
    pod_ip: str
    host_ip: str
    start_time: str
    sandboxed: bool
    """Whether address and volumes are there."""
    before: Sequence[Condition] = ()
    """The conditions written last: one whose status is the same keeps its time."""
    verdict: Verdict | None = None


def phase(seen: PodSnapshot) -> str:
    """Return Pending until a main container has run, Running until all and then the sidecars have ended for good."""
    if seen.verdict is not None:
        return "Failed"
    broken = [view for view in seen.init if view.over and not view.sidecar and _code(view) != 0]
    if broken:
        return "Failed"
    if all(view.over for view in seen.main) and not any(
        isinstance(view.state, Running) for view in seen.init
    ):
        return "Failed" if any(_code(view) for view in seen.main) else "Succeeded"
    if all(isinstance(view.state, Waiting) and view.last is None for view in seen.main):
        return "Pending"
    return "Running"


def _code(view: View) -> int:
    return view.state.exit_code if isinstance(view.state, Terminated) else 0


def initialized(views: Sequence[View]) -> bool:
    """Return whether the main containers may start: init containers have succeeded, sidecars have started."""
    return all(view.started if view.sidecar else view.over and _code(view) == 0 for view in views)


def build(seen: PodSnapshot, now: str) -> Json:
    """Return the complete `status` as a strategic merge patch; equal inputs (but for `now`) give an equal one."""
    name = phase(seen)
    status: Json = {
        "observedGeneration": seen.pod.metadata.generation,
        "phase": name,
        "hostIP": seen.host_ip,
        "hostIPs": _only(seen.host_ip),
        "startTime": seen.start_time,
        "conditions": _conditions(seen, name, now),
    }
    if seen.verdict is not None:
        return status | {"reason": seen.verdict.reason, "message": seen.verdict.message}
    if seen.pod_ip:
        status |= {"podIP": seen.pod_ip, "podIPs": _only(seen.pod_ip)}
    status["containerStatuses"] = [_container(view) for view in seen.main]
    if seen.init:
        status["initContainerStatuses"] = [_container(view) for view in seen.init]
    return status


def _only(address: str) -> list[Json]:
    """Return a list that replaces the old one: strategic merge would add to it."""
    return [{"$patch": "replace"}, {"ip": address}]


def _container(view: View) -> Json:
    # As a kubelet has it: by the runtime's word, so only once there was a container of the image.
    made = view.last is not None or not isinstance(view.state, Waiting)
    result: Json = {
        "name": view.container.name,
        "image": view.container.image,
        "imageID": view.container.image if made else "",
        "restartCount": view.restarts,
        "ready": view.ready,
        "started": view.started,
        "state": _state(view.state),
    }
    if view.running_id:
        result["containerID"] = view.running_id
    if view.last is not None:
        result["lastState"] = _state(view.last)
    return result


def _state(state: State) -> Json:
    match state:
        case Waiting():
            return {"waiting": _filled({"reason": state.reason, "message": state.message})}
        case Running():
            return {"running": {"startedAt": state.started_at}}
        case Terminated():
            fields = {
                "signal": state.signal,
                "reason": state.reason,
                "message": state.message,
                "startedAt": state.started_at,
                "finishedAt": state.finished_at,
                "containerID": state.container_id,
            }
            return {"terminated": {"exitCode": state.exit_code} | _filled(fields)}


def _filled(fields: Mapping[str, object]) -> Json:
    return {key: value for key, value in fields.items() if value}


def _conditions(seen: PodSnapshot, phase_name: str, now: str) -> list[Json]:
    ended = phase_name in {"Succeeded", "Failed"}
    why_ended = "PodCompleted" if phase_name == "Succeeded" else "PodFailed"
    unready = [view.container.name for view in seen.main if not view.ready]
    lazy = [view.container.name for view in seen.init if not initialized([view])]
    gates = {condition.type: condition.status for condition in seen.pod.status.conditions}
    closed = [
        gate.condition_type
        for gate in seen.pod.spec.readiness_gates
        if gates.get(gate.condition_type) != "True"
    ]

    if lazy:
        init = (False, "ContainersNotInitialized", f"containers with incomplete status: [{' '.join(lazy)}]")
    else:
        init = (True, "PodCompleted" if phase_name == "Succeeded" else "", "")
    if seen.verdict is not None or ended:
        containers = (False, why_ended, "")
    elif unready:
        containers = (False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
    else:
        containers = (True, "", "")
    if containers[0] and closed:
        pod = (
            False,
            "ReadinessGatesNotReady",
            f"corresponding condition of gates isn't True: {' '.join(closed)}",
        )
    else:
        pod = containers
    facts = {
        "PodScheduled": (True, "", ""),
        "PodReadyToStartContainers": (seen.sandboxed and not ended, "", ""),
        "Initialized": init,
        "ContainersReady": containers,
        "Ready": pod,
    }
    before = {condition.type: condition for condition in seen.before}
    result = []
    for kind, (value, reason, message) in facts.items():
        old, text = before.get(kind), "True" if value else "False"
        since = old.last_transition_time if old is not None and old.status == text else None
        # null takes an earlier reason away in a merge patch
        result.append(
            {
                "type": kind,
                "status": text,
                "reason": reason or None,
                "message": message or None,
                "lastTransitionTime": since or now,
                "observedGeneration": seen.pod.metadata.generation,
            }
        )
    return result


def exited(
    code: int, *, started_at: str, finished_at: str, container_id: str, message: str = ""
) -> Terminated:
    """Return the record of a process's end; `code` is negative for a signal, as Python reports it."""
    return Terminated(
        exit_code=128 - code if code < 0 else code,
        signal=-code if code < 0 else 0,
        reason="Completed" if code == 0 else "Error",
        message=message,
        started_at=started_at,
        finished_at=finished_at,
        container_id=container_id,
    )
