"""kopf's part: the watch of the resources themselves, and nothing else.

Event handlers only: no finalizer, no annotation, no stored state on a resource. They decide nothing.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import kopf

from ocr_operator.controllers.cluster_state import Change
from ocr_operator.kube import Credentials
from ocr_wire import names


class Observer(Protocol):
    """A part that takes resources as the watch brings them."""

    def observe(self, change: Change | None, body: Mapping[str, Any]) -> None: ...


class _NoDiffs(kopf.DiffBaseStorage):
    """No diffs: nothing asks kopf what changed, and its answer would cost a deep copy of every object."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: Any) -> None:
        return None


def registry(observer: Observer, credentials: Callable[[], Awaitable[Credentials]]) -> kopf.OperatorRegistry:
    """All handlers, in a registry of their own: two operators in one process don't share them."""
    handlers = kopf.OperatorRegistry()

    async def login(**_: Any) -> kopf.ConnectionInfo:
        known = await credentials()
        scheme, token = (known.authorization or " ").split(" ", 1)
        return kopf.ConnectionInfo(
            server=known.server,
            ca_path=known.ca_path,
            insecure=known.insecure,
            scheme=scheme or None,
            token=token or None,
            certificate_path=known.certificate_path,
            private_key_path=known.key_path,
        )

    async def seen(event: Mapping[str, Any], **_: Any) -> None:
        observer.observe(
            event["type"], {"apiVersion": names.API_VERSION, "kind": names.KIND} | event["object"]
        )

    kopf.on.login(registry=handlers)(login)
    kopf.on.event(names.GROUP, names.VERSION, names.PLURAL, registry=handlers)(seen)
    return handlers


def settings() -> kopf.OperatorSettings:
    """No log lines as Events, no scan for kinds and namespaces, short waits."""
    ours = kopf.OperatorSettings()
    ours.posting.enabled = False
    ours.scanning.disabled = True
    ours.persistence.diffbase_storage = _NoDiffs()
    ours.networking.request_timeout = 30
    ours.networking.connect_timeout = 5
    ours.networking.error_backoffs = (0.2, 0.5, 1, 2, 3, 5)
    ours.watching.chunk_size = 500
    ours.watching.connect_timeout = 5
    ours.queueing.exit_timeout = 0.5
    ours.queueing.error_delays = (1, 1, 2, 3, 5)
    ours.process.ultimate_exiting_timeout = 10
    return ours
