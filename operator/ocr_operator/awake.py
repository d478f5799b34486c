"""The awake set: the pods that a resource's Service sends requests to, as a pure decision.

    decision = awake.decide(candidates, routing, pages, memory, now)
    decision.labels → patches, joins before leaves;  decision.memory → the next call

Requests spread over sleeping replicas would wake them all, and no GPU would ever be free. So as few pods as the
queue allows get all of them: a growing queue wakes as many more as it needs at once, and after a calm time they
leave one by one. docs/awake-set.md has the rules with an example, ADR 12 the reasons.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import ceil, inf
from typing import Any, Final

from ocr_operator import names
from ocr_operator.observed import Pod
from ocr_operator.podstate import Location, ModelState, PodState, State
from ocr_operator.spec import Routing

MIN_CALM_SECONDS: Final = 1.0
"""Between two pods that leave, also with `stabilizationSeconds: 0`: at most 60 a minute."""
NAMED: Final = 3
"""Pods that a sentence names."""


class Standing(IntEnum):
    """What a pod can be trusted with; a higher one only serves while there is no lower one."""

    USABLE = 0
    UNHEARD = 1
    """Ready, and not asked yet: the operator has just started, or the pod has."""
    DOUBTFUL = 2
    """Ready for Kubernetes, but it can't be asked, or it drains: it may hang."""
    OUT = 3
    """Not ready."""


class Warmth(IntEnum):
    """How fast a pod can serve the model: fastest first."""

    READY = 0
    RESTORING = 1
    CPU = 2
    EXITED = 3
    LOADING = 4
    UNLOADED = 5
    FAILED = 6
    """The last load or restore failed, so the next request may fail, too."""
    UNKNOWN = 7


_WORDS: Final = {
    Warmth.READY: "its model is ready",
    Warmth.RESTORING: "its model is being restored",
    Warmth.CPU: "its weights are in host memory",
    Warmth.EXITED: "its weights are in host memory, its worker has exited",
    Warmth.LOADING: "its model is being loaded",
    Warmth.UNLOADED: "its model is unloaded",
    Warmth.FAILED: "its model failed to load",
    Warmth.UNKNOWN: "where its model is isn't known",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A pod that is placed and not about to go."""

    uid: str
    name: str
    label: str | None
    """Of `ocr-operator.io/awake`, as it is now; None: absent."""
    standing: Standing
    warmth: Warmth = Warmth.UNKNOWN
    wake_seconds: float | None = None
    """What the last wake of this kind took, if there was one."""
    waiting: int = 0
    """Requests that wait in the pod, for their turn or for the model to wake."""
    in_flight: int = 0

    @property
    def load(self) -> int:
        return self.waiting + self.in_flight

    @property
    def speed(self) -> tuple[int, int, float, str]:
        """Sorts the fastest to answer first."""
        seconds = inf if self.wake_seconds is None else self.wake_seconds
        return self.standing, self.warmth, seconds, self.name


@dataclass(frozen=True, slots=True)
class Memory:
    """What one decision tells the next. All of it can be lost: the labels say the rest."""

    members: Mapping[str, str] | None = None
    """The set, uid → name. None: a fresh operator believes the labels."""
    calm_since: float | None = None
    """Since when one pod fewer would do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    memory: Memory
    joins: tuple[str, ...]
    """UIDs to label awake, before any other loses its label: the Service never selects nobody."""
    leaves: tuple[str, ...]
    """UIDs to label asleep."""
    why: tuple[str, ...]
    """A sentence for each change of the set; empty while it stays, also when labels are only mended."""
    again: float | None
    """Seconds until time alone may change the answer."""


def candidate(pod: Pod, state: PodState | None, *, reachable: bool, model: str) -> Candidate:
    """A pod as the decision sees it; `reachable` is False once it can't be asked, `model` is who is asked for."""
    label = pod.labels.get(names.LABEL_AWAKE)
    if not pod.ready:
        standing = Standing.OUT
    elif not reachable or (state is not None and state.draining):
        standing = Standing.DOUBTFUL
    else:
        standing = Standing.UNHEARD if state is None else Standing.USABLE
    if state is None:
        return Candidate(uid=pod.uid, name=pod.name, label=label, standing=standing)
    found = next((each for each in state.models if each.name == model), None)
    warmth = Warmth.UNKNOWN if found is None else _warmth(found)
    seconds = None
    if found is not None and warmth is not Warmth.READY:
        seconds = found.last_wake_seconds if found.location is Location.CPU else found.last_load_seconds
    return Candidate(
        uid=pod.uid,
        name=pod.name,
        label=label,
        standing=standing,
        warmth=warmth,
        wake_seconds=seconds,
        waiting=state.queue.waiting,
        in_flight=state.queue.in_flight,
    )


def asked_for(states: Iterable[PodState], models: Sequence[str]) -> str:
    """The model whose wake matters now: the one that most requests wait for, else the default model."""
    waiting = dict.fromkeys(models, 0)
    for state in states:
        for each in state.models:
            if each.name in waiting:
                waiting[each.name] += each.waiting
    return max(models, key=lambda name: waiting[name])


def decide(
    candidates: Iterable[Candidate], routing: Routing, pages: int, memory: Memory, now: float
) -> Decision:
    """The set from now on. `pages` is how many requests a pod serves at once (`batching.maxPages`), `now` any
    clock in seconds that doesn't go back. The order of candidates is irrelevant.

    1. who can't serve leaves and is replaced  2. a queue longer than `maxQueuePerPod` per pod wakes as many as it
    needs  3. after a calm time one leaves, or changes places with a sleeper that wakes faster
    """
    pods = sorted(candidates, key=lambda each: (each.name, each.uid))
    before = memory.members
    if before is None:
        before = {each.uid: each.name for each in pods if each.label == names.AWAKE}
    if routing.policy == "all":
        why = () if all(each.uid in before for each in pods) else ("policy all: every pod is awake",)
        return _decision(pods, {each.uid for each in pods}, why, None, None)
    draft = _Draft(pods, before, routing, pages)
    draft.keep_and_replace()
    draft.grow()
    calm, again = draft.calm_down(memory.calm_since, now)
    return _decision(pods, draft.chosen, tuple(draft.why), calm, again)


class _Draft:
    """One decision in the making."""

    def __init__(
        self, pods: Sequence[Candidate], before: Mapping[str, str], routing: Routing, pages: int
    ) -> None:
        hopeful = [each for each in pods if each.standing <= Standing.UNHEARD]
        best = min((each.standing for each in pods), default=Standing.OUT)
        self.pool = hopeful or [each for each in pods if each.standing is best]
        """Whom requests may go to. With nobody to trust, those whom Kubernetes does, else those to come."""
        self.before = before
        self.routing = routing
        self.pages = pages
        self.floor = max(1, routing.min_awake)
        self.chosen = {
            each.uid for each in self.pool if each.uid in before and each.warmth is not Warmth.FAILED
        }
        self.why: list[str] = []

    @property
    def members(self) -> list[Candidate]:
        return [each for each in self.pool if each.uid in self.chosen]

    @property
    def sleepers(self) -> list[Candidate]:
        """Fastest to wake first."""
        return sorted(
            (each for each in self.pool if each.uid not in self.chosen), key=lambda each: each.speed
        )

    def add(self, wanted: int) -> list[Candidate]:
        """The fastest, up to that many members in all."""
        added = self.sleepers[: max(0, wanted - len(self.chosen))]
        self.chosen |= {each.uid for each in added}
        return added

    def keep_and_replace(self) -> None:
        added = self.add(max(self.floor, len(self.before)))
        if added := [each for each in added if each.uid not in self.before]:
            lost = sorted(name for uid, name in self.before.items() if uid not in self.chosen)
            instead = f" in place of {_some(lost)}, which can't serve" if lost else ""
            self.why.append(_joining(added) + instead)

    def grow(self) -> None:
        """Until the queue is short enough for all: who joins may bring a queue of its own."""
        bar, count, added = self.routing.max_queue_per_pod, len(self.chosen), list[Candidate]()
        while (waiting := sum(each.waiting for each in self.members)) > bar * len(self.chosen):
            if not (joining := self.add(ceil(waiting / bar))):
                break
            added += joining
        if added:
            self.why.append(
                f"{waiting} requests wait for {_pods(count)}, more than {bar} each: {_joining(added)}"
            )

    def calm_down(self, since: float | None, now: float) -> tuple[float | None, float | None]:
        """Since when one pod fewer would do, and in how many seconds one may leave."""
        if not self.fewer_would_do():
            return None, None
        if since is None or self.why:
            return now, self.patience()
        left = since + self.stabilization - now
        if left > 0:
            return since, left if self.patience() is not None else None
        self.change_one()
        return now, self.patience()

    @property
    def stabilization(self) -> float:
        return max(self.routing.stabilization_seconds, MIN_CALM_SECONDS)

    def patience(self) -> float | None:
        """The whole time to wait for a change, None if none would come of it."""
        return self.stabilization if len(self.chosen) > self.floor or self.faster() else None

    def fewer_would_do(self) -> bool:
        """All requests would be served at once by one pod fewer, and half of what wakes a pod doesn't wait."""
        members = self.members
        if any(each.standing is not Standing.USABLE for each in members):
            return False
        rest = len(members) - 1
        waiting, load = sum(each.waiting for each in members), sum(each.load for each in members)
        return load <= self.pages * rest and 2 * waiting <= self.routing.max_queue_per_pod * rest

    def change_one(self) -> None:
        calm = f"one pod fewer had room for all requests for {self.stabilization:g} s"
        if len(self.chosen) > self.floor:
            out = max(self.members, key=lambda each: (each.warmth, -each.load, each.name))
            self.chosen.discard(out.uid)
            self.why.append(f"{calm}: {out.name} leaves ({_WORDS[out.warmth]})")
        elif pair := self.faster():
            slow, fast = pair
            self.chosen = self.chosen - {slow.uid} | {fast.uid}
            self.why.append(
                f"{fast.name} ({_WORDS[fast.warmth]}) takes the place of {slow.name} ({_WORDS[slow.warmth]}), "
                "which nobody asks"
            )

    def faster(self) -> tuple[Candidate, Candidate] | None:
        """The slowest idle member and an idle sleeper that wakes faster, not merely by a measured second."""
        idle = [each for each in self.members if not each.load]
        sleepers = [each for each in self.sleepers if not each.load and each.standing is Standing.USABLE]
        if not idle or not sleepers:
            return None
        slow = max(idle, key=lambda each: (each.warmth, each.name))
        return (slow, sleepers[0]) if sleepers[0].warmth < slow.warmth else None


def _decision(
    pods: Sequence[Candidate],
    chosen: set[str],
    why: tuple[str, ...],
    calm: float | None,
    again: float | None,
) -> Decision:
    members = {each.uid: each.name for each in pods if each.uid in chosen}
    return Decision(
        memory=Memory(members, calm),
        joins=tuple(each.uid for each in pods if each.uid in members and each.label != names.AWAKE),
        leaves=tuple(each.uid for each in pods if each.uid not in members and each.label != names.ASLEEP),
        why=why,
        again=again,
    )


def patch(pod: Pod, *, awake: bool) -> list[dict[str, Any]]:
    """The label as a JSON patch of that very pod. Our pods have labels, or we would not know them."""
    return [
        {"op": "test", "path": "/metadata/uid", "value": pod.uid},
        operation(awake=awake),
    ]


def operation(*, awake: bool) -> dict[str, Any]:
    path = f"/metadata/labels/{names.LABEL_AWAKE.replace('/', '~1')}"
    return {"op": "add", "path": path, "value": names.AWAKE if awake else names.ASLEEP}


def _warmth(model: ModelState) -> Warmth:
    if model.failures and model.state in _ASLEEP:
        return Warmth.FAILED
    warmth = _WARMTH[model.state]
    return Warmth.EXITED if warmth is Warmth.CPU and model.worker == "exited" else warmth


_ASLEEP: Final = frozenset({State.UNLOADED, State.UNLOADING, State.OFFLOADED, State.OFFLOADING})
_WARMTH: Final = {
    State.READY: Warmth.READY,
    State.RESTORING: Warmth.RESTORING,
    State.OFFLOADING: Warmth.CPU,
    State.OFFLOADED: Warmth.CPU,
    State.LOADING: Warmth.LOADING,
    State.UNLOADING: Warmth.UNLOADED,
    State.UNLOADED: Warmth.UNLOADED,
    State.FAILED: Warmth.FAILED,
}


def _joining(added: Sequence[Candidate]) -> str:
    first = added[0]
    took = "" if first.wake_seconds is None else f", which took {first.wake_seconds:.1f} s last time"
    told = f"{_some([each.name for each in added])} {'joins' if len(added) == 1 else 'join'}"
    return f"{told}, the fastest to wake ({_WORDS[first.warmth]}{took})"


def _some(given: Sequence[str]) -> str:
    more = len(given) - NAMED
    return ", ".join(given[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _pods(count: int) -> str:
    return f"{count} awake pod{'' if count == 1 else 's'}"
