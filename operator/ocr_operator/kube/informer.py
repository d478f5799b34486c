"""A local copy of one kind of objects, kept by list and watch.

Readers get what the API server said last; nothing writes here but the watch, and the answers of our own writes,
which are newer than the watch for a moment.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ocr_operator.kube import api
from ocr_wire import numbers

log = logging.getLogger(__name__)

T = TypeVar("T")
Name = tuple[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A caller that waits until a watch has come to a version."""

    namespace: str
    version: int
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Informer(Generic[T]):
    """Objects of `kind` in `namespaces` that match `selector`, as `parse` views them.

    `on_change` hears of every difference between two views, in order, synchronously; `group` indexes them. An object
    of a name that another one had before makes two changes: that one is gone, this one is new. `share` gives a view
    the parts that are equal in another one, that of the object before it changed, or else the last one that was made:
    what many have is in memory once. A fault in `parse`, `share` or `on_change` is logged and costs that object's
    change, never another's. `on_first` gets each of `namespaces` when it was listed for the first time.
    """

    def __init__(
        self,
        kube: api.Kube,
        kind: api.Kind,
        parse: Callable[[api.Json], T],
        *,
        time: Callable[[], float],
        share: Callable[[T, T], T] | None = None,
        on_change: Callable[[T | None, T | None], None] | None = None,
        on_loss: Callable[[api.KubeError], None] | None = None,
        on_first: Callable[[str], None] | None = None,
        group: Callable[[T], Hashable] | None = None,
        namespaces: tuple[str, ...] = ("",),
        selector: str = "",
    ) -> None:
        self.kind = kind
        self._kube = kube
        self._parse = parse
        self._time = time
        self._share = share
        self._last: T | None = None
        """The view that was made last."""
        self._on_change = on_change
        self._on_loss = on_loss
        self._on_first = on_first
        self._group = group
        self._namespaces = namespaces
        self._selector = selector
        self._items: dict[Name, tuple[int, str, T]] = {}
        self._groups: dict[Hashable, dict[Name, T]] = {}
        self._unsynced = set(namespaces)
        self._reached: dict[str, int] = {}
        """Namespace of a watch → the version that it has come to."""
        self._waiting: set[_Waiting] = set()
        self.synced = asyncio.Event()
        """Set once every namespace was listed."""
        self.last_heartbeat = time()
        """When the watch loop last did anything, even failing: an old one means that it hangs."""

    def __iter__(self) -> Iterator[T]:
        return (item for _, _, item in self._items.values())

    def __len__(self) -> int:
        return len(self._items)

    def get(self, name: Name) -> T | None:
        entry = self._items.get(name)
        return entry[2] if entry else None

    def listed(self, namespace: str) -> bool:
        """Return whether the namespace was listed, whatever `synced` was set for."""
        return not self._unsynced & {"", namespace}

    def of(self, group: Hashable) -> Mapping[Name, T]:
        """The items of one group, by name."""
        return self._groups.get(group, {})

    async def run(self) -> None:
        async with asyncio.TaskGroup() as watches:
            for namespace in self._namespaces:
                watches.create_task(self._watch(namespace))

    def put(self, raw: api.Json) -> None:
        """Take the answer of one of our reads or writes, unless the watch already knows better or knows it gone."""
        if _name(raw) in self._items:
            self._set(raw)

    def gone(self, name: Name, uid: str) -> None:
        """Take the answer that there is no such object, unless there is another one of that name by now."""
        entry = self._items.get(name)
        if entry is not None and entry[1] == uid:
            self._remove(name)

    async def reached(self, namespace: str, version: str, seconds: float) -> None:
        """Return once the watch has shown what was in a namespace at a version, at the latest after so many seconds.

        The API server's own cache has it by then. A patch that comes earlier is applied to the object of before, which
        the API server finds out when it writes, and does everything once more.
        """
        watched = namespace if namespace in self._namespaces else ""
        waiting = _Waiting(watched, _version(version))
        if waiting.version <= self._reached.get(watched, -1):
            return
        self._waiting.add(waiting)
        try:
            async with asyncio.timeout(seconds):
                await waiting.over.wait()
        except TimeoutError:
            return
        finally:
            self._waiting.discard(waiting)

    async def _watch(self, namespace: str) -> None:
        async for event in self._kube.watch(self.kind, namespace=namespace, selector=self._selector):
            self.last_heartbeat = self._time()
            match event:
                case api.Listed():
                    self._replace(namespace, event.items)
                    self._come_to(namespace, event.items)
                    first = namespace in self._unsynced
                    self._unsynced.discard(namespace)
                    if not self._unsynced:
                        self.synced.set()
                    if first and self._on_first:
                        self._on_first(namespace)
                case api.Changed(what, item):
                    with self._contained(item):
                        if what == "DELETED":
                            self.gone(_name(item), _uid(item))
                        else:
                            self._set(item)
                    self._come_to(namespace, [item])
                case api.Lost(error):
                    log.warning("watch lost kind=%s error=%s", self.kind.plural, error)
                    if self._on_loss:
                        self._on_loss(error)
                case api.Alive():
                    pass
            del event  # or a list stays in memory until the next one

    def _come_to(self, namespace: str, items: Iterable[api.Json]) -> None:
        """Note how far a watch is: it shows objects in the order of their versions. A list may be of before, since etcd
        can be restored, and is as new as its newest object at least.
        """
        versions = (_version(each["metadata"].get("resourceVersion", "")) for each in items)
        self._reached[namespace] = reached = max(versions, default=-1)
        for waiting in self._waiting:
            if waiting.namespace == namespace and waiting.version <= reached:
                waiting.over.set()

    def _replace(self, namespace: str, items: Iterable[api.Json]) -> None:
        """Take a complete list for the truth, also where it is older than what was known: etcd can be restored."""
        present = set()
        for item in items:
            with self._contained(item):
                present.add(_name(item))
                self._set(item, believed=True)
        for name in [each for each in self._items if not namespace or each[0] == namespace]:
            if name not in present:
                with self._contained(name):
                    self._remove(name)

    def _set(self, raw: api.Json, *, believed: bool = False) -> None:
        """Take an object, unless a newer state of it, or of another one of that name, is known already."""
        name, uid = _name(raw), _uid(raw)
        version = _version(raw["metadata"].get("resourceVersion", ""))
        before = self._items.get(name)
        if before is not None and version < before[0] and not believed:
            return
        if before is not None and (version, uid) == before[:2] and version >= 0:
            return  # as most of a list after a gap is, and the watch's echo of our own writes
        new = self._parse(raw)
        if self._share is not None:
            like = before[2] if before else self._last
            new = self._last = new if like is None else self._share(new, like)
        if before is not None and before[1] != uid:
            self._remove(name)
            before = None
        old = before[2] if before else None
        self._items[name] = (version, uid, new)
        self._index(name, old, new)
        if old != new and self._on_change:
            self._on_change(old, new)

    def _remove(self, name: Name) -> None:
        if (entry := self._items.pop(name, None)) is not None:
            self._index(name, entry[2], None)
            if self._on_change:
                self._on_change(entry[2], None)

    @contextlib.contextmanager
    def _contained(self, subject: api.Json | Name) -> Iterator[None]:
        """Keep a fault of ours about one object from the others."""
        try:
            yield
        except Exception:
            what = subject if isinstance(subject, tuple) else subject.get("metadata")
            log.exception(
                "an object was not taken in kind=%s metadata=%s", self.kind.plural, repr(what)[:300]
            )

    def _index(self, name: Name, old: T | None, new: T | None) -> None:
        if self._group is None:
            return
        if old is not None:
            members = self._groups.get(self._group(old), {})
            members.pop(name, None)
            if not members:
                self._groups.pop(self._group(old), None)
        if new is not None:
            self._groups.setdefault(self._group(new), {})[name] = new


def raw(item: api.Json) -> api.Json:
    """The object as it is, without the bookkeeping of field managers, which is half of its size."""
    meta = {key: value for key, value in item["metadata"].items() if key != "managedFields"}
    return {**item, "metadata": meta}


def _name(raw: api.Json) -> Name:
    meta = raw["metadata"]
    return meta.get("namespace", ""), meta["name"]


def _uid(raw: api.Json) -> str:
    return str(raw["metadata"].get("uid", ""))


def _version(text: str) -> int:
    """Resource versions of one kind compare as numbers (KEP-5504); one that isn't a number never wins."""
    found = numbers.whole(text, 0, 2**63 - 1)
    return -1 if found is None else found
