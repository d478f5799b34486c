"""`warmFirst`: as few pods as the queue allows, those that hold the model first."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Final

from ocr_operator.decide.routing.types import AwakeSet, Candidate, Eligibility, RoutingState, Warmth
from ocr_operator.resources.spec import Routing

MIN_CALM_SECONDS: Final = 1.0
"""Between two pods that leave, also with `stabilizationSeconds: 0`: at most 60 a minute."""
NAMED: Final = 3
"""Pods that a sentence names."""


_ASLEEP: Final = frozenset({Warmth.CPU, Warmth.EXITED, Warmth.UNLOADED})
_WORDS: Final = {
    Warmth.READY: "its model is ready",
    Warmth.RESTORING: "its model is being restored",
    Warmth.CPU: "its weights are in host memory",
    Warmth.EXITED: "its weights are in host memory, its worker has exited",
    Warmth.LOADING: "its model is being loaded",
    Warmth.UNLOADED: "its model is unloaded",
    Warmth.FAILED: "its model failed to load",
    Warmth.UNKNOWN: "it hasn't told where its model is",
}


class WarmFirst:
    name = "warmFirst"
    hands_over = True

    def decide(
        self,
        pods: Sequence[Candidate],
        before: Mapping[str, str],
        routing: Routing,
        *,
        pages: int,
        calm_since: float | None,
        now: float,
    ) -> AwakeSet:
        """Decide the set from now on.

        1. pods that can't serve leave and are replaced  2. a queue longer than `maxQueuePerPod` per pod wakes as many
        as it needs  3. after a calm time one leaves, or changes places with a sleeper that wakes faster
        """
        draft = _NextSet(pods, before, routing, pages)
        draft.keep_and_replace()
        draft.grow()
        calm, again = draft.calm_down(calm_since, now)
        return AwakeSet(
            chosen=frozenset(draft.chosen),
            why=tuple(draft.why),
            calm_since=calm,
            again=again,
            wakes=draft.wakes,
        )

    def includes_new_pod(self, state: RoutingState) -> bool:
        """Only while the set is empty: a Service must never select nothing."""
        return not state.members


class _NextSet:
    """One decision in the making."""

    def __init__(
        self, pods: Sequence[Candidate], before: Mapping[str, str], routing: Routing, pages: int
    ) -> None:
        hopeful = [each for each in pods if each.eligibility <= Eligibility.UNHEARD]
        best = min((each.eligibility for each in pods), default=Eligibility.OUT)
        self.pool = hopeful or [each for each in pods if each.eligibility is best]
        """Pods that may get requests: usable ones, else those that Kubernetes trusts, else those to come."""
        self.before = before
        self.routing = routing
        self.pages = pages
        self.floor = max(1, routing.min_awake)
        self.chosen = {
            each.uid for each in self.pool if each.uid in before and each.warmth is not Warmth.FAILED
        }
        self.why: list[str] = []
        self.wakes: tuple[str, ...] = ()

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
        """Add pods until the queue is short enough for all: one that joins may bring a queue of its own."""
        bar, count, added = self.routing.max_queue_per_pod, len(self.chosen), list[Candidate]()
        while (waiting := sum(each.waiting for each in self.members)) > bar * len(self.chosen):
            if not (joining := self.add(ceil(waiting / bar))):
                break
            added += joining
        if added:
            self.wakes = tuple(each.uid for each in added if each.warmth in _ASLEEP)
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
        if any(each.eligibility is not Eligibility.USABLE for each in members):
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
        sleepers = [
            each for each in self.sleepers if not each.load and each.eligibility is Eligibility.USABLE
        ]
        if not idle or not sleepers:
            return None
        slow = max(idle, key=lambda each: (each.warmth, each.name))
        return (slow, sleepers[0]) if sleepers[0].warmth < slow.warmth else None


def _joining(added: Sequence[Candidate]) -> str:
    first = added[0]
    took = "" if first.wake_seconds is None else f", which took {first.wake_seconds:.1f} s last time"
    reported = f"{_some([each.name for each in added])} {'joins' if len(added) == 1 else 'join'}"
    return f"{reported}, the fastest to wake ({_WORDS[first.warmth]}{took})"


def _some(given: Sequence[str]) -> str:
    more = len(given) - NAMED
    return ", ".join(given[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _pods(count: int) -> str:
    return f"{count} awake pod{'' if count == 1 else 's'}"
