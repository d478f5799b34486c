"""Each condition as a pure function of what was seen. docs/status.md is the table of it, tested against this."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Literal

from ocr_operator.decide.placement import NoFit
from ocr_operator.decide.status import pods as podviews
from ocr_operator.decide.status.types import PodSeen, Seen
from ocr_operator.pods.unreachable import Unreachable
from ocr_operator.resources.observed import Pod, Rollout
from ocr_operator.resources.spec import OcrDeployment
from ocr_wire.state import PodState
from ocr_wire.states import Location, State

NAMED: Final = 3
"""Pods that a message names; the rest is a number."""
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Verdict:
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Facts that the verdicts rest on: collected once, so that they can't contradict each other."""

    wanted: int
    sharing: str
    pods: tuple[PodSeen, ...]
    """Neither finished nor terminating, by name."""
    ready: tuple[PodSeen, ...]
    gated: tuple[str, ...]
    nofit: NoFit | None
    """Of the first gated pod that has one."""
    problems: tuple[podviews.Problem, ...]
    """Worst first."""
    rollout: Rollout | None
    seen: Seen

    @property
    def complete(self) -> bool:
        """Every wanted replica is ready and made from the newest template, and nothing older is left."""
        now = self.rollout
        return (
            now is not None
            and now.observed
            and now.wanted == now.updated == now.replicas == self.wanted
            and len(self.ready) >= self.wanted
        )


def view(resource: OcrDeployment, seen: Seen, at: datetime) -> View:
    alive = tuple(each for each in podviews.current(seen.pods) if not each.pod.terminating)
    gated = tuple(each.pod.name for each in alive if each.pod.gated)
    problems = [found for each in alive if (found := podviews.problem(each, at))]
    now = View(
        wanted=resource.spec.replicas,
        sharing=resource.spec.gpu.sharing,
        pods=alive,
        ready=tuple(each for each in alive if podviews.ready(each)),
        gated=gated,
        nofit=next((seen.nofits[name] for name in gated if name in seen.nofits), None),
        problems=(),
        rollout=seen.rollout,
        seen=seen,
    )
    if not now.complete:  # what ended has been made up for otherwise
        problems += [podviews.ended(each) for each in _same_template(seen.ended, alive)]
    ordered = sorted(problems, key=lambda each: podviews.REASONS.index(each.reason))
    return replace(now, problems=tuple(ordered))


def _same_template(ended: Sequence[Pod], alive: Sequence[PodSeen]) -> list[Pod]:
    """List those that ended of the template that pods are made from now: a change of the resource may be the cure."""
    newest = max(
        (each.pod for each in alive), key=lambda pod: (pod.created or _LONG_AGO, pod.name), default=None
    )
    return [pod for pod in ended if newest is None or pod.owner == newest.owner]


def ready(now: View) -> Verdict:
    """True only if every wanted replica of the newest template is ready: `helm --wait` and `kubectl wait` end when
    the work is done, and no crash-looping, gated or unschedulable replica hides behind a healthy one.
    """
    if now.seen.refusal:
        return Verdict("False", now.seen.refusal.reason, now.seen.refusal.message)
    if late := now.seen.removal or now.seen.unwritten or now.seen.fault:
        return Verdict("False", late.reason, late.message)
    if now.wanted == 0:
        return Verdict("True", "ScaledToZero", "no replicas are wanted")
    if now.complete:
        return _serving(now)
    count = f"{len(now.ready)} of {now.wanted} replicas are ready"
    if blocked := _blocked(now):
        return Verdict("False", blocked.reason, f"{count}; {blocked.message}")
    return Verdict("False", _stage(now), count)


def progressing(now: View) -> Verdict:
    """True while the operator or Kubernetes still works towards the spec; not kstatus' `Reconciling`."""
    if now.seen.refusal:
        return Verdict("False", now.seen.refusal.reason, "waits for a change of the resource")
    if late := now.seen.removal or now.seen.unwritten or now.seen.fault:
        return Verdict("True", late.reason, late.message)
    if now.wanted == 0:
        left = Verdict("True", "ScalingDown", f"{_pods(len(now.pods))} left")
        return left if now.pods else Verdict("False", "Complete", "no replicas are wanted")
    if now.complete:
        return _rolled_out(now)
    if now.rollout and now.rollout.failed:
        return Verdict("False", now.rollout.failed_reason, now.rollout.failed)
    return Verdict("True", _stage(now), f"{len(now.ready)} of {now.wanted} replicas are ready")


def _rolled_out(now: View) -> Verdict:
    edited = f"; {now.seen.edited.message}" if now.seen.edited and now.seen.edited.message else ""
    if now.seen.waits:
        return Verdict("False", "WaitingForTurn", f"{_replicas(now.wanted)} ready; {now.seen.waits}{edited}")
    return Verdict("False", "Complete", f"{_replicas(now.wanted)} up to date{edited}")


def degraded(now: View) -> Verdict:
    """True while something is wrong that doesn't pass by waiting a moment."""
    if failure := now.seen.refusal or now.seen.unwritten or now.seen.fault:
        return Verdict("True", failure.reason, failure.message)
    if blocked := _blocked(now):
        return Verdict("True", blocked.reason, blocked.message)
    return Verdict("False", "AsExpected")


def placed(now: View) -> Verdict:
    """False with the placement's own reason and words while a pod finds no GPU."""
    if now.gated:
        return _gated(now)
    if now.wanted == 0:
        return Verdict("True", "NotNeeded", "no replicas are wanted")
    if not now.pods:
        return Verdict("Unknown", "NoPods", "no pods yet")
    if now.sharing == "none":
        return Verdict("True", "NotNeeded", "no GPU is asked for")
    opened = [each.pod.name for each in now.pods if not (each.pod.node or podviews.placed(each.pod))]
    if opened:
        why = "not placed by the operator, its gate was opened by somebody else, and not bound to a node"
        return Verdict("False", "Unbound", f"{why}: {_some(opened)}")
    return Verdict("True", "Placed", f"{_pods(len(now.pods))} placed")


def _gated(now: View) -> Verdict:
    if now.nofit:
        return Verdict("False", now.nofit.reason.value, now.nofit.message)
    return Verdict("False", "Pending", f"not placed yet: {_some(now.gated)}")


def config_applied(now: View) -> Verdict:
    """True only when every ready pod has echoed the current live settings; names what older pods ignored of them, and
    an override that isn't used.
    """
    verdict, override = _config_applied(now), now.seen.override
    if override is None or not override.rejection:
        return verdict
    return replace(verdict, message=f"{verdict.message}; the override isn't used: {override.rejection}")


def _config_applied(now: View) -> Verdict:
    live = now.seen.live
    if live is None or not now.ready:
        return Verdict("Unknown", "NoReadyPods", "no ready pod to ask")
    lagging = [
        f"{each.pod.name} ({_lag(each, live.revision)})"
        for each in now.ready
        if not podviews.applied(each, live.revision, live.hash)
    ]
    if not lagging:
        done = f"{_pods(len(now.ready))} on revision {live.revision}"
        ignoring = [
            f"{each.pod.name} ({', '.join(fields)})" for each in now.ready if (fields := _ignored(each))
        ]
        more = f"; ignored by servers that don't know it: {_some(ignoring)}" if ignoring else ""
        return Verdict("True", "Applied", done + more)
    of_ready = f"{len(lagging)} of {_pods(len(now.ready))}"
    return Verdict("False", "PodsLag", f"{of_ready} lag behind revision {live.revision}: {_some(lagging)}")


def stalled(now: View) -> Verdict:
    """True when nothing happens any more until the resource is changed; abnormal-true, as kstatus reads it."""
    if now.seen.refusal:
        return Verdict("True", now.seen.refusal.reason, now.seen.refusal.message)
    return Verdict("False", "AsExpected")


CONDITIONS: Final[dict[str, Callable[[View], Verdict]]] = {
    "Ready": ready,
    "Progressing": progressing,
    "Degraded": degraded,
    "Placed": placed,
    "ConfigApplied": config_applied,
    "Stalled": stalled,
}


def phase(now: View, verdicts: dict[str, Verdict]) -> str:
    """The conditions in one word, for printing: the first that holds."""
    if verdicts["Stalled"].status == "True":
        return "Stalled"
    if verdicts["Degraded"].status == "True":
        return "Degraded"
    if verdicts["Ready"].status == "True":
        return {"Standby": "Standby", "ScaledToZero": "ScaledToZero"}.get(verdicts["Ready"].reason, "Ready")
    return "Progressing" if now.ready else "Pending"


def _serving(now: View) -> Verdict:
    """`Standby`: nothing is resident, and the next request loads or restores a model."""
    count = f"{_replicas(now.wanted)} ready"
    reported = [podviews.state(each) for each in now.ready]
    models = [model for each in reported if isinstance(each, PodState) for model in each.models]
    if any(model.state is State.READY or model.location is Location.GPU for model in models):
        return Verdict("True", "Serving", count)
    if not any(isinstance(each, PodState) for each in reported):
        return Verdict("True", "StateUnknown", f"{count}; where their models are is unknown")
    return Verdict("True", "Standby", f"{count}; models load on use")


def _blocked(now: View) -> Verdict | None:
    """Return the worst problem of the pods, else of the placement, else of the Deployment."""
    if now.problems:
        worst = now.problems[0].reason
        texts = [f"{each.pod}: {each.message}" for each in now.problems if each.reason == worst]
        return Verdict("True", worst, _some(texts, "; "))
    if now.nofit:
        return Verdict("True", now.nofit.reason.value, now.nofit.message)
    if now.rollout and now.rollout.failed and not now.complete:
        return Verdict("True", now.rollout.failed_reason, now.rollout.failed)
    return None


def _stage(now: View) -> str:
    """Name how far a rollout is: 1. no Deployment  2. pods wait for a placement  3. pods are replaced  4. pods start"""
    if now.rollout is None:
        return "Creating"
    if now.gated:
        return "WaitingForPlacement"
    outdated = now.rollout.replicas > now.rollout.updated
    if not now.rollout.observed or now.rollout.updated < now.wanted or outdated:
        return "RollingOut"
    return "WaitingForPods"


def _ignored(each: PodSeen) -> tuple[str, ...]:
    """List the settings that the pod echoed but doesn't know: its server is older than the operator."""
    state = podviews.state(each)
    return (state.settings.ignored or ()) if isinstance(state, PodState) else ()


def _lag(each: PodSeen, revision: int) -> str:
    reported = podviews.state(each)
    if isinstance(reported, Unreachable):
        why = f"can't be asked ({reported.message})"
    elif reported is None:
        why = "hasn't answered yet"
    elif reported.settings.revision == revision:
        why = f"has other values under revision {revision}"
    else:
        why = f"runs revision {reported.settings.revision}"
    return f"{why}; {each.push_error}" if each.push_error else why


def _some(texts: Sequence[str], joint: str = ", ") -> str:
    more = len(texts) - NAMED
    return joint.join(texts[:NAMED]) + (f"{joint}and {more} more" if more > 0 else "")


def _pods(count: int) -> str:
    return f"{count} pod{'' if count == 1 else 's'}"


def _replicas(count: int) -> str:
    return "the replica is" if count == 1 else f"all {count} replicas are"
