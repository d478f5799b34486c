"""Events about pods, written by one task so that nothing ever waits for them; repeated ones are counted."""

import asyncio
import logging
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime

from devcluster.kube.api import Api, ApiError
from devcluster.kube.model import Pod

log = logging.getLogger(__name__)

MAX_WAITING = 256
MAX_REMEMBERED = 512
COMPONENT = "process-node"


@dataclass(frozen=True)
class Note:
    """Note about a pod; equal notes are one event."""

    namespace: str
    pod: str
    uid: str
    container: str
    kind: str
    reason: str
    message: str


class Events:
    """Queue that takes notes at any time; drops them, with a log line, when the API server can't keep up."""

    def __init__(self, api: Api, node: str) -> None:
        self._api = api
        self._node = node
        self._waiting: asyncio.Queue[Note] = asyncio.Queue(MAX_WAITING)
        self._written: OrderedDict[Note, tuple[str, int]] = OrderedDict()

    def add(self, pod: Pod, kind: str, reason: str, message: str, container: str = "") -> None:
        """Add a note about a pod or, if named, its container; `kind` is Normal or Warning."""
        meta = pod.metadata
        try:
            self._waiting.put_nowait(
                Note(meta.namespace, meta.name, meta.uid, container, kind, reason, message[:1000])
            )
        except asyncio.QueueFull:
            log.warning("dropped event %s of pod %s: too many are waiting", reason, pod.key)

    async def run(self) -> None:
        """Write what is added, for ever."""
        while True:
            note = await self._waiting.get()
            try:
                await self._write(note)
            except ApiError as error:
                log.info("event %s of pod %s/%s is lost: %s", note.reason, note.namespace, note.pod, error)

    async def _write(self, note: Note) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        path = f"/api/v1/namespaces/{note.namespace}/events"
        if known := self._written.get(note):
            name, count = known[0], known[1] + 1
            await self._api.merge(f"{path}/{name}", {"count": count, "lastTimestamp": now})
        else:
            name, count = f"{note.pod[:200]}.{secrets.token_hex(8)}", 1
            await self._api.create(path, self._body(note, name, now))
        self._written[note] = name, count
        self._written.move_to_end(note)
        if len(self._written) > MAX_REMEMBERED:
            self._written.popitem(last=False)

    def _body(self, note: Note, name: str, now: str) -> dict[str, object]:
        about = {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": note.namespace,
            "name": note.pod,
            "uid": note.uid,
        }
        if note.container:
            about["fieldPath"] = f"spec.containers{{{note.container}}}"
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": note.namespace},
            "involvedObject": about,
            "type": note.kind,
            "reason": note.reason,
            "message": note.message,
            "source": {"component": COMPONENT, "host": self._node},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._node,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
