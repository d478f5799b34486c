"""Places in the wave of roll-outs that a change of the operator leads to: which resources have one, and which wait.

Whether a child rolls out is read from the child (`decide/waves.py`); which wait is what passes have found since the
start. A place is taken in one step, without an await between looking and taking, so passes side by side can't take the
same one.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from ocr_operator.decide import waves
from ocr_operator.decide.waves import Manifest, Waiting
from ocr_operator.metrics import Metrics
from ocr_operator.resources.observed import Key, rollout

WAITS: Final = (
    "its pods are of an earlier version or setting of the operator and wait for their turn to be replaced"
)
PAUSED: Final = "; no turn is given, as none of the roll-outs that run gets ready"
HOLDS: Final = "; it has a place among the roll-outs that the operator makes at once, and others wait for it"


class Wave:
    """The one owner of the places. `budget`: how many resources roll out at the same time; 0 is all."""

    def __init__(self, budget: int, *, enqueue: Callable[[Key], None], metrics: Metrics) -> None:
        self._budget = budget
        self._enqueue = enqueue
        self._waiting: dict[Key, bool] = {}
        """Resource → whether all of its pods are ready."""
        self._holding: dict[Key, bool] = {}
        """Resource → whether its roll-out has failed."""
        self._unseen: set[Key] = set()
        """Resources that had no pass yet: before, it isn't known which wait."""
        self._next: frozenset[Key] = frozenset()
        """Resources whose turn it is, and that were enqueued for it."""
        self._paused = False
        for state, count in (
            ("waiting", lambda: len(self._waiting)),
            ("rolling", lambda: len(self._holding) - sum(self._holding.values())),
            ("failing", lambda: sum(self._holding.values())),
        ):
            metrics.wave.labels(state).set_function(count)

    def begin(self, keys: Iterable[Key], children: Mapping[Key, Manifest]) -> None:
        """Take up the wave where it is, before the first pass."""
        self._unseen = set(keys)
        for key, child in children.items():
            self._see(key, child)

    def passed(self, key: Key) -> None:
        """Note that a resource had a pass, however it went."""
        if key in self._unseen:
            self._unseen.discard(key)
            self._tell()

    def take(self, key: Key, child: Manifest) -> bool:
        """Return whether it is the resource's turn; it has a place then, until `settle` finds that it needs none."""
        if self._budget == 0:
            return True
        self._waiting[key] = waves.is_sound(child)
        if self._unseen or key not in self._turns():
            self._tell()
            return False
        del self._waiting[key]
        self._holding[key] = False
        self._tell()
        return True

    def settle(self, key: Key, child: Manifest | None, *, waits: bool = False) -> None:
        """Note what a pass has left: a child that rolls out keeps its place, any other gives it back."""
        if not waits:
            self._waiting.pop(key, None)
        self._see(key, child)
        self._tell()

    def words(self, key: Key) -> str:
        """Say what a resource waits for; empty where it doesn't."""
        if key not in self._waiting:
            return ""
        return WAITS + (PAUSED if self._paused else "")

    def holds(self, key: Key) -> bool:
        """Return whether others wait for this one."""
        return key in self._holding and bool(self._waiting)

    def _see(self, key: Key, child: Manifest | None) -> None:
        if child is not None and waves.holds(child):
            self._holding[key] = bool(rollout(child).failed)
        else:
            self._holding.pop(key, None)

    def _turns(self) -> Collection[Key]:
        waiting = [Waiting(key, sound) for key, sound in self._waiting.items()]
        return waves.turns(waiting, self._holding, self._budget)

    def _tell(self) -> None:
        """Enqueue those whose turn it has become, and all that wait when the wave comes to a halt or goes on."""
        if self._unseen or not (self._waiting or self._next or self._paused):
            return
        turns = frozenset(self._turns())
        paused = bool(self._waiting) and len(self._holding) >= self._budget and all(self._holding.values())
        news = set(self._waiting) if paused != self._paused else turns - self._next
        self._next, self._paused = turns, paused
        for key in sorted(news):
            self._enqueue(key)
