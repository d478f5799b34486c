"""The links to all pods: a state stream up, live settings down.

Level-triggered like everything else: `follow` says which pods there are and which settings they should run
with; a link keeps its stream open, pushes until the pod echoes, and reports every change. It decides nothing
about resources.
"""

import asyncio
import functools
import logging
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import aiohttp
import msgspec

from ocr_operator.metrics import Metrics
from ocr_operator.pods import wire
from ocr_operator.pods.link import Link
from ocr_operator.pods.unreachable import Unreachable
from ocr_operator.pods.wire import PodError, Target
from ocr_operator.resources.observed import Key, Pod
from ocr_wire.live_settings import Envelope
from ocr_wire.state import PodState

IDLE_TIMEOUT_SECONDS: Final = 12.0
"""A stream without a whole line for so long is dead. Pods send a heartbeat every 10 s; a pod that vanishes is
`unknown` in the status within 15 s, the second between two writes of a status included.
"""
MAX_DELAY_SECONDS: Final = 5.0
STEADY_SECONDS: Final = 5.0
"""A stream that lived longer was fine: its pod gets a quick second try. One that keeps ending at once doesn't."""
CONCURRENT_PUSHES: Final = 64
CONCURRENT_RETRIES: Final = 8
"""Of pushes to pods whose last one failed: pods that take connections and never answer hold up each other alone."""
THRESHOLD_SPACING_SECONDS: Final = 0.1
"""Between two urgent crossings of a resource: at hundreds of requests a second, queues come and go."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Push:
    link: Link
    changed: asyncio.Event


@dataclass(frozen=True, slots=True)
class _Wake:
    link: Link
    model: str


@dataclass(frozen=True, slots=True)
class _Help:
    link: Link
    helper: Target
    model: str


class PodClient:
    """All links. `run` owns their tasks; `on_change(key, urgent)` and `on_state(uid)` hear of every change."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        on_change: Callable[[Key, bool], None],
        on_state: Callable[[str], None] = lambda _: None,
        metrics: Metrics,
        rng: random.Random,
        idle_timeout: float = IDLE_TIMEOUT_SECONDS,
        concurrent_pushes: int = CONCURRENT_PUSHES,
    ) -> None:
        self._session = session
        self._on_change = on_change
        self._on_state = on_state
        self._metrics = metrics
        self._rng = rng
        self._idle_timeout = idle_timeout
        self._links: dict[Key, dict[str, Link]] = {}
        self._crossings: dict[Key, float] = {}
        """When the last crossing of a resource was urgent."""
        self._new: asyncio.Queue[Link | _Push | _Wake | _Help] = asyncio.Queue()
        self._news: dict[Key, asyncio.Event] = {}
        """Of resources that a pass waits for: set by the next change of one of their pods."""
        self._pushes = asyncio.Semaphore(concurrent_pushes)
        self._retries = asyncio.Semaphore(CONCURRENT_RETRIES)
        metrics.streams.labels("connected").set_function(functools.partial(self._connected, True))
        metrics.streams.labels("broken").set_function(functools.partial(self._connected, False))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                match await self._new.get():
                    case Link() as link if self._follows(link):
                        link.stream = tasks.create_task(self._stream_forever(link))
                    case _Push(link, changed) if self._follows(link):
                        link.pushing = tasks.create_task(self._push_until_echoed(link, changed))
                    case _Wake() as wake:
                        tasks.create_task(self._wake(wake))
                    case _Help() as asked:
                        tasks.create_task(self._help(asked))

    def _follows(self, link: Link) -> bool:
        return self._links.get(link.target.key, {}).get(link.target.uid) is link

    def follow(
        self, key: Key, targets: Iterable[Target], live: Envelope, token: str, *, queue_threshold: int
    ) -> None:
        """These are all running pods of a resource, and what they should run with. A pod in which more than
        `queue_threshold` requests wait is urgent news. Returns at once.
        """
        links = self._links.setdefault(key, {})
        wanted = {each.uid: each for each in targets}
        for uid, link in list(links.items()):
            if wanted.get(uid) != link.target:
                self._drop(links.pop(uid))
        for uid, each in wanted.items():
            if (known := links.get(uid)) is None:
                links[uid] = Link(each, live, token)
                self._new.put_nowait(links[uid])
            elif (known.wanted, known.token) != (live, token):
                known.wanted, known.token = live, token
                self._look(known)
        for link in links.values():
            link.queue_threshold = queue_threshold
        if not links:
            del self._links[key]

    async def caught_up(self, key: Key, seconds: float) -> None:
        """Return when every pod that can be heard runs with what it should, at the latest after so long."""
        try:
            async with asyncio.timeout(seconds):
                while any(link.due() for link in self._links.get(key, {}).values()):
                    await self._news.setdefault(key, asyncio.Event()).wait()
        except TimeoutError:
            return

    def many_pushes(self) -> bool:
        """Return whether there are so many that they wait for each other."""
        return self._pushes.locked()

    def forget(self, key: Key) -> None:
        """The resource is gone."""
        self._news.pop(key, asyncio.Event()).set()
        self._crossings.pop(key, None)
        for link in self._links.pop(key, {}).values():
            self._drop(link)

    def state(self, key: Key, uid: str) -> tuple[PodState | Unreachable | None, str]:
        """Return what is known of a pod, and why the last push failed (empty: it didn't)."""
        link = self._links.get(key, {}).get(uid)
        return (link.state, link.push_error) if link else (None, "")

    def token_refused(self, key: Key) -> bool:
        """Return whether a pod of the resource refused our token when it was last asked to take settings."""
        return any(link.token_refused for link in self._links.get(key, {}).values())

    def heard(self, pod: Pod) -> PodState | None:
        """Return the state of a pod that can be heard."""
        state, _ = self.state((pod.namespace, pod.deployment), pod.uid)
        return state if isinstance(state, PodState) else None

    def connected(self, key: Key) -> list[tuple[Target, PodState, Envelope]]:
        """The pods of a resource that can be heard: what they say, and what they should run with."""
        links = self._links.get(key, {}).values()
        return [(link.target, link.state, link.wanted) for link in links if isinstance(link.state, PodState)]

    def all_connected(self) -> Iterator[tuple[Key, Target, PodState, Envelope]]:
        for key in self._links:
            for target, state, live in self.connected(key):
                yield key, target, state, live

    async def offload(self, key: Key, uid: str, model: str, min_resident_seconds: float) -> bool:
        """Ask a pod to offload a model if it is idle; False where it isn't. Raises `PodError`."""
        link = self._links.get(key, {}).get(uid)
        if link is None:
            raise PodError("Unreachable", "the pod is gone")
        return await wire.offload(self._session, link.target, link.token, model, min_resident_seconds)

    def wake(self, key: Key, uid: str, model: str) -> None:
        """Have a pod make a model ready, ahead of a request. Returns at once; the log tells of a pod that can't."""
        if (link := self._links.get(key, {}).get(uid)) is not None:
            self._new.put_nowait(_Wake(link, model))

    async def _wake(self, wake: _Wake) -> None:
        target = wake.link.target
        try:
            await wire.load(self._session, target, wake.link.token, wake.model)
        except PodError as error:
            log.info("not woken pod=%s/%s why=%s", target.key[0], target.name, error)

    def help(self, key: Key, uid: str, helper: str, model: str) -> None:
        """Tell a pod in which pages wait of another one that reads them. Returns at once; the log tells of a pod that
        can't.
        """
        links = self._links.get(key, {})
        if uid in links and helper in links:
            self._new.put_nowait(_Help(links[uid], links[helper].target, model))

    async def _help(self, asked: _Help) -> None:
        target = asked.link.target
        try:
            await wire.help_from(self._session, target, asked.link.token, asked.helper, asked.model)
        except PodError as error:
            log.info("no help pod=%s/%s from=%s why=%s", target.key[0], target.name, asked.helper.name, error)

    def _drop(self, link: Link) -> None:
        self._on_state(link.target.uid)
        for task in (link.stream, link.pushing):
            if task is not None:
                task.cancel()

    def _connected(self, connected: bool) -> int:
        links = (link for links in self._links.values() for link in links.values())
        return sum(isinstance(link.state, PodState) is connected for link in links)

    # The stream

    async def _stream_forever(self, link: Link) -> None:
        """Reconnect for as long as the pod is there. A pod that was never heard gets the silence's time to
        start before it counts as unreachable; one that was heard gets a single quick second try.
        """
        loop = asyncio.get_running_loop()
        grace, tries = loop.time() + self._idle_timeout, 0
        received = functools.partial(self._received, link)
        while True:
            began = loop.time()
            try:
                await wire.listen(
                    self._session, link.target, received, link.token, idle_timeout=self._idle_timeout
                )
            except PodError as error:
                lost = error
            link.acked, unreachable = None, lost.unreachable
            tries = 1 if loop.time() - began > STEADY_SECONDS else tries + 1
            starting = link.state is None and loop.time() < grace and unreachable.reason == "Unreachable"
            second_try = isinstance(link.state, PodState) and tries == 1 and not lost.lasting
            if not starting and not second_try and link.state != unreachable:
                log.info(
                    "pod lost pod=%s/%s why=%s", link.target.key[0], link.target.name, unreachable.message
                )
                link.state = unreachable
                self._changed(link, urgent=True)
            del lost  # its traceback holds all of the connection that ended
            await asyncio.sleep(self._delay(tries - 1))

    def _received(self, link: Link, state: PodState) -> None:
        if link.acked is not None and state.settings.revision < link.acked.revision:
            state = msgspec.structs.replace(state, settings=link.acked)
        if state == link.state:
            return
        echoes = isinstance(link.state, PodState) and link.state.settings != state.settings
        urgent = not isinstance(link.state, PodState) or (echoes and not self.many_pushes())
        urgent = self._crossed_threshold(link, state.queue.waiting) or urgent
        urgent = urgent and (link.first_echo(state) or link.may_hurry(asyncio.get_running_loop().time()))
        if not isinstance(link.state, PodState):
            link.answered = None  # perhaps another process, which knows only its file
        link.state = state
        self._look(link)
        self._changed(link, urgent=urgent)

    def _crossed_threshold(self, link: Link, waiting: int) -> bool:
        before = link.over_threshold
        link.over_threshold = waiting > (link.queue_threshold // 2 if before else link.queue_threshold)
        if before or not link.over_threshold:
            return False
        key, now = link.target.key, asyncio.get_running_loop().time()
        if now - self._crossings.get(key, float("-inf")) < THRESHOLD_SPACING_SECONDS:
            return False
        self._crossings[key] = now
        return True

    # The push

    def _look(self, link: Link) -> None:
        """See to it that a task pushes while the pod runs with something else than it should: there is none before, and
        none after.
        """
        if link.changed is not None:
            link.changed.set()
        elif link.due():
            link.changed = asyncio.Event()
            self._new.put_nowait(_Push(link, link.changed))

    async def _push_until_echoed(self, link: Link, changed: asyncio.Event) -> None:
        tries = 0
        while link.due():
            changed.clear()
            if link.tried == link.wanted:
                link.pushed, pause = link.pushed.spend(asyncio.get_running_loop().time())
                await asyncio.sleep(pause)
            link.tried = link.wanted
            wait = await self._push_once(link, tries)
            tries += 1
            if wait is not None and link.due():
                await _until_set(changed, wait)
        link.changed = link.pushing = None

    async def _push_once(self, link: Link, tries: int) -> float | None:
        """One try; the seconds to wait before the next one, None when it worked."""
        wanted, before = link.wanted, link.push_error
        try:
            async with self._retries if link.push_error else self._pushes:
                with self._metrics.push_seconds.time():
                    echo = await wire.push(self._session, link.target, wanted, link.token)
        except PodError as error:
            link.push_error, link.token_refused = str(error), error.token_refused
            self._metrics.pushes.labels("failed").inc()
            if link.push_error != before:
                log.warning(
                    "push failed pod=%s/%s revision=%d why=%s",
                    link.target.key[0], link.target.name, wanted.revision, link.push_error,
                )  # fmt: skip
                self._changed(link, urgent=False)
            return 30.0 if error.lasting else max(0.05, self._delay(tries))
        link.push_error, link.token_refused, link.answered, link.acked = "", False, wanted, echo
        self._metrics.pushes.labels("applied").inc()
        log.debug("pushed pod=%s/%s revision=%d", link.target.key[0], link.target.name, echo.revision)
        if isinstance(link.state, PodState):
            link.state = msgspec.structs.replace(link.state, settings=echo)
        self._changed(link, urgent=not self.many_pushes())
        return None

    def _changed(self, link: Link, *, urgent: bool) -> None:
        if (news := self._news.pop(link.target.key, None)) is not None:
            news.set()
        self._on_state(link.target.uid)
        self._on_change(link.target.key, urgent)

    def _delay(self, tries: int) -> float:
        """0 before the second try, then growing, spread over half of the interval."""
        if tries <= 0:
            return 0.0
        return float(min(MAX_DELAY_SECONDS, 0.1 * 2.0 ** min(tries - 1, 10)) * self._rng.uniform(0.5, 1.0))


async def _until_set(event: asyncio.Event, seconds: float) -> None:
    """Return when it is, at the latest after so long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
