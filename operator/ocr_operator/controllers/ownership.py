"""One operator for each namespace: takes and renews the Leases, and knows whose a namespace is.

The one owner of the Leases. Where another operator owns a namespace, this one writes nothing there, and its log, a
metric, `/readyz` and an Event in its own namespace say so.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from ocr_operator.controllers import leases
from ocr_operator.controllers.recorder import Recorder
from ocr_operator.decide import ownership
from ocr_operator.decide.leases import Sighting, Take, Wait, missing
from ocr_operator.decide.ownership import TIMING, Whose
from ocr_operator.decide.status import Event
from ocr_operator.kube import api
from ocr_operator.metrics import Metrics

RETRY_SECONDS: Final = 2.0
"""After a request that the API server didn't answer."""
CONCURRENT: Final = 8
MAX_NAMED: Final = 10
"""Namespaces of others that `/readyz` names."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Namespace:
    """Written only by `Ownership`."""

    due: float
    seen: Sighting | None = None
    valid_until: float = float("-inf")
    """Until then it is ours, in monotonic seconds."""
    held_until: float = float("-inf")
    """Until then no other can have taken it, unless a person gave it away: the last renewal was answered."""
    holder: str = ""
    """The other operator that owns it."""
    unguarded: bool = False
    """The API server lets us have no Lease."""
    reported: Whose = Whose.UNKNOWN
    """What passes last heard."""

    def whose(self, now: float) -> Whose:
        if self.unguarded:
            return Whose.UNGUARDED
        if self.holder:
            return Whose.OTHERS
        return Whose.OURS if now < self.valid_until else Whose.UNKNOWN


class Ownership:
    """`run` until cancelled; `whose` at any time."""

    def __init__(
        self,
        kube: api.Kube,
        recorder: Recorder,
        *,
        identity: str,
        namespaces: Callable[[], Iterable[str]],
        on_change: Callable[[str], None],
        metrics: Metrics,
        now: Callable[[], datetime],
        time: Callable[[], float],
    ) -> None:
        """Prepare; `identity` is `namespace/name` of the operator's Deployment, empty where it has none: then every
        namespace is its own. `on_change` gets a namespace that was gained or lost. `time` is monotonic.
        """
        self._kube = kube
        self._recorder = recorder
        self._identity = identity
        self._wanted = namespaces
        self._on_change = on_change
        self._now = now
        self._time = time
        self._namespaces: dict[str, _Namespace] = {}
        self._asked = asyncio.Event()
        for state in Whose:
            metrics.namespaces.labels(state).set_function(partial(self._count, state))

    def whose(self, namespace: str) -> Whose:
        """Say whose a namespace is now; one that isn't known is looked at. After `UNKNOWN` comes `on_change`."""
        if not self._identity:
            return Whose.UNGUARDED
        known = self._namespaces.get(namespace)
        if known is None:
            known = self._namespaces[namespace] = _Namespace(due=self._time())
            self._asked.set()
        found = known.whose(self._time())
        if found is Whose.UNKNOWN:
            known.reported = found
        return found

    def seconds_left(self, namespace: str) -> float | None:
        """Say for how long a write that begins now may take: 0 where none may begin, None where nothing limits it."""
        found = self.whose(namespace)
        if found is Whose.UNGUARDED:
            return None
        if found is not Whose.OURS:
            return 0.0
        ends = self._namespaces[namespace].valid_until + TIMING.duration - TIMING.valid
        return ends - self._time()

    def foreign(self) -> dict[str, str]:
        """Return the namespaces that others own, each with its owner."""
        return {name: known.holder for name, known in sorted(self._namespaces.items()) if known.holder}

    def note(self) -> str:
        """Say in lines which namespaces others own; empty while there are none."""
        lines = [
            f"namespace {name} belongs to the operator {holder}" for name, holder in self.foreign().items()
        ]
        more = [f"and {len(lines) - MAX_NAMED} more"] if len(lines) > MAX_NAMED else []
        return "\n".join([*lines[:MAX_NAMED], *more])

    async def run(self) -> None:
        if not self._identity:
            log.warning(
                "OCR_OPERATOR_IDENTITY is empty: nothing keeps another operator from the same namespaces"
            )
            return
        while True:
            wait = await self.look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._asked.wait()

    async def look(self) -> float:
        """Look at every namespace that is due; returns the seconds until the next look."""
        self._asked.clear()
        wanted = set(self._wanted())
        for name in wanted - self._namespaces.keys():
            self._namespaces[name] = _Namespace(due=self._time())
        for name in self._namespaces.keys() - wanted:
            del self._namespaces[name]
        slots = asyncio.Semaphore(CONCURRENT)
        async with asyncio.TaskGroup() as tasks:
            for name, known in self._namespaces.items():
                if known.due <= self._time():
                    tasks.create_task(self._renew(slots, name, known))
        due = min((known.due for known in self._namespaces.values()), default=self._time() + RETRY_SECONDS)
        return max(0.0, due - self._time())

    async def _renew(self, slots: asyncio.Semaphore, name: str, known: _Namespace) -> None:
        async with slots:
            try:
                known.due = self._time() + await self._claim(name, known)
            except api.KubeError as error:
                known.due = self._time() + RETRY_SECONDS
                log.info("whose namespace %s is can't be said: %s", name, error)
            except Exception:
                known.due = self._time() + RETRY_SECONDS
                log.exception("lease of namespace %s", name)
        found = known.whose(self._time())
        if found is not known.reported:
            known.reported = found
            if found is not Whose.UNKNOWN:
                self._on_change(name)

    async def _claim(self, name: str, known: _Namespace) -> float:
        """Create, renew or take the Lease, or wait; returns the seconds until the next look."""
        ref = api.Ref(api.LEASE, name, ownership.LEASE_NAME)
        began = self._time()
        try:
            if known.whose(began) is not Whose.OURS or known.seen is None:
                known.seen = await self._read(ref, known)
            step = ownership.decide(self._identity, known.seen, self._time())
            if isinstance(step, Wait):
                known.valid_until, known.held_until, known.unguarded = float("-inf"), float("-inf"), False
                if step.holder != self._identity:  # ours, if it was deleted while it couldn't be renewed
                    await self._tell(name, known, step.holder)
                return step.seconds
            answer = await leases.write(self._kube, ref, step, ownership.spec(self._identity, self._now()))
        except (api.Conflict, api.NotFound):
            known.valid_until = float("-inf")  # another was faster, or it was deleted: it is read again
            raise
        except api.Refused as error:
            if not known.unguarded:
                log.warning("namespace %s can't be guarded against other operators: %s", name, error)
            known.unguarded, known.holder, known.seen = True, "", None
            return TIMING.renew
        if isinstance(step, Take) and not step.ours:
            log.warning(
                "namespace %s is this operator's from now on; it was %s's", name, known.holder or "nobody"
            )
        known.seen = ownership.sight(None, answer, self._time())
        known.valid_until, known.held_until = began + TIMING.valid, began + TIMING.duration
        known.holder, known.unguarded = "", False
        return TIMING.renew

    async def _read(self, ref: api.Ref, known: _Namespace) -> Sighting | None:
        try:
            lease = await self._kube.get(ref)
        except api.NotFound:
            # Written again at once by the operator that holds it; another may work by it, for as long as it lasts.
            return None if self._time() < known.held_until else missing(known.seen, self._time())
        return ownership.sight(known.seen, lease, self._time())

    async def _tell(self, name: str, known: _Namespace, holder: str) -> None:
        if known.holder == holder:
            return
        known.holder = holder
        text = (
            f"OcrDeployments of namespace {name} belong to the operator {holder} (Lease {ownership.LEASE_NAME}); "
            f"this one, {self._identity}, writes nothing there. Give the two disjoint watchNamespaces, or "
            "uninstall one"
        )
        log.warning("%s", text)
        namespace, _, deployment = self._identity.partition("/")
        about = {
            "apiVersion": api.DEPLOYMENT.api_version,
            "kind": api.DEPLOYMENT.name,
            "metadata": {"name": deployment, "namespace": namespace, "uid": ""},
        }
        await self._recorder.record(about, Event(type="Warning", reason="NamespaceTaken", message=text))

    def _count(self, state: Whose) -> int:
        now = self._time()
        return sum(each.whose(now) is state for each in self._namespaces.values())
