"""A local copy of one kind of objects, kept by list and watch.

Readers get what the API server said last; nothing writes here but the watch, and the answers of our own writes,
which are newer than the watch for a moment.
"""

import asyncio
import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from ocr_operator.kube import api

log = logging.getLogger(__name__)

T = TypeVar("T")
Name = tuple[str, str]


class Informer(Generic[T]):
    """Objects of `kind` in `namespaces` that match `selector`, as `parse` views them.

    `on_change` hears of every difference between two views, in order, synchronously; `group` indexes them.
    """

    def __init__(
        self,
        kube: api.Kube,
        kind: api.Kind,
        parse: Callable[[api.Json], T],
        *,
        time: Callable[[], float],
        on_change: Callable[[T | None, T | None], None] | None = None,
        on_loss: Callable[[api.KubeError], None] | None = None,
        group: Callable[[T], Hashable] | None = None,
        namespaces: tuple[str, ...] = ("",),
        selector: str = "",
    ) -> None:
        self.kind = kind
        self._kube = kube
        self._parse = parse
        self._time = time
        self._on_change = on_change
        self._on_loss = on_loss
        self._group = group
        self._namespaces = namespaces
        self._selector = selector
        self._items: dict[Name, tuple[int, str, T]] = {}
        self._groups: dict[Hashable, dict[Name, T]] = {}
        self._unsynced = set(namespaces)
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

    def of(self, group: Hashable) -> Mapping[Name, T]:
        """The items of one group, by name."""
        return self._groups.get(group, {})

    async def run(self) -> None:
        async with asyncio.TaskGroup() as watches:
            for namespace in self._namespaces:
                watches.create_task(self._watch(namespace))

    def put(self, raw: api.Json) -> None:
        """Take the answer of one of our writes, unless the watch already knows better or knows it gone."""
        entry = self._items.get(_name(raw))
        if entry is not None and entry[1] == raw["metadata"].get("uid"):
            self._set(raw)

    async def _watch(self, namespace: str) -> None:
        async for event in self._kube.watch(self.kind, namespace=namespace, selector=self._selector):
            self.last_heartbeat = self._time()
            match event:
                case api.Listed(items):
                    self._replace(namespace, items)
                    self._unsynced.discard(namespace)
                    if not self._unsynced:
                        self.synced.set()
                case api.Changed("DELETED", item):
                    self._remove(_name(item))
                case api.Changed(_, item):
                    self._set(item)
                case api.Lost(error):
                    log.warning("watch lost kind=%s error=%s", self.kind.plural, error)
                    if self._on_loss:
                        self._on_loss(error)
                case api.Alive():
                    pass

    def _replace(self, namespace: str, items: Iterable[api.Json]) -> None:
        present = set()
        for item in items:
            present.add(_name(item))
            self._set(item)
        for name in [each for each in self._items if not namespace or each[0] == namespace]:
            if name not in present:
                self._remove(name)

    def _set(self, raw: api.Json) -> None:
        name, meta = _name(raw), raw["metadata"]
        version, uid = _version(meta.get("resourceVersion", "")), str(meta.get("uid", ""))
        before = self._items.get(name)
        if before is not None and before[1] == uid and version < before[0]:
            return
        old = before[2] if before else None
        new = self._parse(raw)
        self._items[name] = (version, uid, new)
        self._index(name, old, new)
        if old != new and self._on_change:
            self._on_change(old, new)

    def _remove(self, name: Name) -> None:
        if (entry := self._items.pop(name, None)) is not None:
            self._index(name, entry[2], None)
            if self._on_change:
                self._on_change(entry[2], None)

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


def newer(one: api.Json, other: api.Json) -> bool:
    """Return whether `one` is a later state of the object than `other`, or another object of that name."""
    mine, theirs = one["metadata"], other["metadata"]
    return mine.get("uid") != theirs.get("uid") or (
        _version(mine.get("resourceVersion", "")) > _version(theirs.get("resourceVersion", ""))
    )


def _name(raw: api.Json) -> Name:
    meta = raw["metadata"]
    return meta.get("namespace", ""), meta["name"]


def _version(text: str) -> int:
    """Resource versions of one kind compare as numbers (KEP-5504); one that isn't a number never wins."""
    return int(text) if text.isdecimal() else -1
