"""A small API server in memory: what `ocr_operator.kube.api.Kube` promises, and knobs to make it misbehave.

It passes tests/contract/test_kube.py, as the real one does. It validates nothing and knows no other writer's
field ownership: a list is one value.
"""

import asyncio
import copy
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import msgspec

from ocr_operator.kube import api
from ocr_operator.kube.informer import raw

Path = tuple[str, ...]


class FakeKube:
    """Implements `api.Kube`. `calls` counts verbs; `fail` may raise before a verb does anything."""

    def __init__(self) -> None:
        self._objects: dict[api.Ref, dict[str, Any]] = {}
        self._applied: dict[tuple[api.Ref, str], set[Path]] = {}
        self._versions = itertools.count(2)  # as in etcd
        self._uids = itertools.count(1)
        self._watchers: list[tuple[api.Kind, str, str, asyncio.Queue[api.WatchEvent]]] = []
        self.calls: Counter[str] = Counter()
        self.undefined: set[api.Kind] = set()
        """Kinds whose definition isn't there: a watch of one is told so, and ends in waiting."""
        self.deaf: set[api.Kind] = set()
        """Kinds whose watches are broken: no change is told until `list_again`."""
        self.fail: Callable[[str, api.Ref], None] = lambda verb, ref: None

    async def get(self, ref: api.Ref) -> api.Json:
        await self._call("get", ref)
        return copy.deepcopy(self._found(ref))

    async def find(self, kind: api.Kind, *, namespace: str = "", selector: str = "") -> Sequence[api.Json]:
        await self._call("find", api.Ref(kind, namespace, ""))
        return self._select(kind, namespace, selector)

    async def watch(
        self, kind: api.Kind, *, namespace: str = "", selector: str = ""
    ) -> AsyncIterator[api.WatchEvent]:
        queue: asyncio.Queue[api.WatchEvent] = asyncio.Queue()
        if kind in self.undefined:
            yield api.Lost(api.NotFound(api.Ref(kind, namespace, ""), 404, "no such resource"))
            await queue.get()
        watcher = (kind, namespace, selector, queue)
        self._watchers.append(watcher)
        try:
            yield api.Listed(self._select(kind, namespace, selector))
            while True:
                yield await queue.get()
        finally:
            self._watchers.remove(watcher)

    def list_again(self, *kinds: api.Kind) -> None:
        """Watches of these kinds begin anew: what happened while they were `deaf` shows in the list alone."""
        self.deaf -= set(kinds)
        for kind, namespace, selector, queue in self._watchers:
            if kind in kinds:
                queue.put_nowait(api.Listed(self._select(kind, namespace, selector)))

    def backup(self) -> Callable[[], None]:
        """Return the restore of everything as it is now, versions included; every watch begins anew then."""
        objects = copy.deepcopy(self._objects)
        newest = next(self._versions)

        def restore() -> None:
            self._objects = copy.deepcopy(objects)
            self._versions = itertools.count(newest)
            self.list_again(*api.KINDS)

        return restore

    async def apply(self, manifest: api.Json) -> api.Json:
        ref = api.ref_of(manifest)
        await self._call("apply", ref)
        body = {key: value for key, value in manifest.items() if key != "status"}
        version = manifest["metadata"].get("resourceVersion")
        known = self._objects.get(ref)
        if version and known is not None and version != known["metadata"]["resourceVersion"]:
            raise api.Conflict(ref, 409, "the object has been modified")
        return self._apply(ref, body, "")

    async def apply_status(self, ref: api.Ref, status: api.Json, *, resource_version: str) -> api.Json:
        await self._call("apply_status", ref)
        found = self._found(ref)
        if found["metadata"]["resourceVersion"] != resource_version:
            raise api.Conflict(ref, 409, "the object has been modified")
        return self._apply(ref, {"status": status}, "status")

    async def patch(self, ref: api.Ref, operations: Sequence[api.Json], *, subresource: str = "") -> api.Json:
        await self._call(f"patch{subresource}", ref)
        body = copy.deepcopy(self._found(ref))
        for operation in operations:
            body = _operate(ref, body, operation)
        return self._store(ref, body)

    async def create(self, manifest: api.Json) -> api.Json:
        ref = api.ref_of(manifest)
        await self._call("create", ref)
        if ref in self._objects:
            raise api.Conflict(ref, 409, f"{ref} already exists")
        return self._store(ref, copy.deepcopy(dict(manifest)))

    async def delete(self, ref: api.Ref, *, uid: str, resource_version: str = "") -> None:
        await self._call("delete", ref)
        meta = self._found(ref)["metadata"]
        if resource_version and (uid, resource_version) != (meta["uid"], meta["resourceVersion"]):
            raise api.Conflict(ref, 409, "it isn't as it was")
        if meta["uid"] != uid:
            raise api.NotFound(ref, 409, "another object of that name")
        body = self._objects.pop(ref)
        body["metadata"]["resourceVersion"] = str(next(self._versions))
        self._tell(None, body, "DELETED")

    async def _call(self, verb: str, ref: api.Ref) -> None:
        await asyncio.sleep(0)
        self.calls[verb] += 1
        self.fail(verb, ref)

    def _found(self, ref: api.Ref) -> dict[str, Any]:
        if ref not in self._objects:
            raise api.NotFound(ref, 404, "there is none")
        return self._objects[ref]

    def _select(self, kind: api.Kind, namespace: str, selector: str) -> list[api.Json]:
        return [
            _shaped(body, kind)
            for ref, body in self._objects.items()
            if ref.kind.name == kind.name and _selected(body, kind, namespace, selector)
        ]

    def _apply(self, ref: api.Ref, body: Mapping[str, Any], subresource: str) -> api.Json:
        """Takes what the manifest names, and gives up what the one before named and this one doesn't."""
        result = copy.deepcopy(self._objects.get(ref, {}))
        leaves = dict(_leaves(body))
        for path in self._applied.get((ref, subresource), set()) - set(leaves):
            _remove(result, path)
        for path, value in leaves.items():
            _put(result, path, copy.deepcopy(value))
        self._applied[ref, subresource] = set(leaves)
        return self._store(ref, result)

    def _store(self, ref: api.Ref, body: dict[str, Any]) -> api.Json:
        before = self._objects.get(ref)
        body = {**body, "apiVersion": ref.kind.api_version, "kind": ref.kind.name}
        meta = body["metadata"] = dict(body["metadata"])
        old = before["metadata"] if before else {}
        meta["uid"] = old.get("uid") or f"uid-{next(self._uids)}"
        meta["generation"] = old.get("generation", 0) + (not before or before.get("spec") != body.get("spec"))
        meta["resourceVersion"] = old.get("resourceVersion", "")
        if body != before:
            meta["resourceVersion"] = str(next(self._versions))
            self._objects[ref] = body
            self._tell(before, body, "MODIFIED" if before else "ADDED")
        return copy.deepcopy(body)

    def _tell(self, before: api.Json | None, body: api.Json, type_: Any) -> None:
        for kind, namespace, selector, queue in self._watchers:
            if body["kind"] != kind.name or kind in self.deaf:
                continue
            was = before is not None and _selected(before, kind, namespace, selector)
            now = _selected(body, kind, namespace, selector)
            item = raw(_shaped(body, kind))
            if now:
                queue.put_nowait(api.Changed(type_ if was or type_ == "DELETED" else "ADDED", item))
            elif was:
                queue.put_nowait(api.Changed("DELETED", item))


def _shaped(body: api.Json, kind: api.Kind) -> dict[str, Any]:
    if kind.shape is None:
        return copy.deepcopy(dict(body))
    found: dict[str, Any] = msgspec.to_builtins(msgspec.convert(body, kind.shape))
    return found | {"apiVersion": kind.api_version, "kind": kind.name}


def _selected(body: api.Json, kind: api.Kind, namespace: str, selector: str) -> bool:
    meta = body["metadata"]
    for part in filter(None, kind.fields.split(",")):
        path, differs, value = part.partition("!=")
        if not differs:
            path, _, value = part.partition("=")
        found: Any = body
        for key in path.split("."):
            found = found.get(key, "") if isinstance(found, Mapping) else ""
        if (found == value) is bool(differs):
            return False
    if namespace and meta.get("namespace", "") != namespace:
        return False
    labels = meta.get("labels") or {}
    for part in filter(None, selector.split(",")):
        name, equals, value = part.partition("=")
        if part.startswith("!"):
            if part[1:] in labels:
                return False
        elif name not in labels or (equals and labels[name] != value):
            return False
    return True


def _leaves(body: Mapping[str, Any], path: Path = ()) -> Sequence[tuple[Path, Any]]:
    """Lists and empty maps are leaves, too."""
    found: list[tuple[Path, Any]] = []
    for key, value in body.items():
        if isinstance(value, Mapping) and value:
            found.extend(_leaves(value, (*path, key)))
        else:
            found.append(((*path, key), value))
    return found


def _put(body: dict[str, Any], path: Path, value: Any) -> None:
    for key in path[:-1]:
        if not isinstance(body.get(key), dict):
            body[key] = {}
        body = body[key]
    body[path[-1]] = value


def _remove(body: dict[str, Any], path: Path) -> None:
    *parents, last = path
    chain = [body]
    for key in parents:
        if not isinstance(chain[-1].get(key), dict):
            return
        chain.append(chain[-1][key])
    chain[-1].pop(last, None)
    for parent, key in zip(reversed(chain[:-1]), reversed(parents), strict=True):
        if not parent[key]:
            del parent[key]


def _operate(ref: api.Ref, body: dict[str, Any], operation: api.Json) -> dict[str, Any]:
    """One step of RFC 6902, of those that the operator uses."""
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    target: Any = body
    try:
        for part in parents:
            target = target[int(part)] if isinstance(target, list) else target[part]
        key: Any = last if not isinstance(target, list) or last == "-" else int(last)
        match operation["op"]:
            case "add" if isinstance(target, list):
                target.insert(len(target) if key == "-" else key, copy.deepcopy(operation["value"]))
            case "add":
                target[key] = copy.deepcopy(operation["value"])
            case "replace":
                target[key]
                target[key] = copy.deepcopy(operation["value"])
            case "remove":
                del target[key]
            case "test":
                absent = isinstance(target, dict) and key not in target
                if (None if absent else target[key]) != operation.get("value"):
                    raise api.Conflict(ref, 422, f"test operation failed at {operation['path']}")
            case other:
                raise NotImplementedError(other)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise api.Conflict(ref, 422, f"no such path: {operation['path']}") from error
    return body
