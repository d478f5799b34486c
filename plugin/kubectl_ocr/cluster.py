"""What commands read and write: resources, pods, nodes, Secrets, by kubectl and parsed."""

import asyncio
import base64
import binascii
import json
import shutil
import sys
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from kubectl_ocr import text
from kubectl_ocr.cli import Options
from kubectl_ocr.errors import Exit, Failure
from kubectl_ocr.kubectl import Kubectl
from kubectl_ocr.objects import reading
from kubectl_ocr.objects.cluster import Event, Node
from kubectl_ocr.objects.pod import Pod
from kubectl_ocr.objects.reading import T
from kubectl_ocr.objects.resource import Resource
from ocr_wire import names, tokens
from ocr_wire.checked import Invalid

A = TypeVar("A")
B = TypeVar("B")


class Cluster:
    """Cluster that commands read and patch.

    `scope` are the flags of the namespace: `--namespace=x`, `--all-namespaces` or none for the current one.
    """

    def __init__(self, kubectl: Kubectl, scope: Sequence[str] = ()) -> None:
        self.kubectl = kubectl
        self._scope = tuple(scope)

    async def namespace(self) -> str:
        """Return the namespace that is meant: the one that was named, or that of the context."""
        for flag in self._scope:
            if flag.startswith("--namespace="):
                return flag.partition("=")[2]
        template = "--output=jsonpath={.contexts[0].context.namespace}"
        found = await self.kubectl.run("config", "view", "--minify", template)
        return found.decode(errors="replace").strip() or "default"

    async def resource(self, name: str, *more: str) -> Resource:
        """Return a resource; `more` are flags of `kubectl get`. Raises `Failure`, with near names if there is none of
        that name.
        """
        try:
            found = await self.kubectl.run("get", names.RESOURCE, name, "--output=json", *more, *self._scope)
        except Failure as failure:
            if failure.status is not Exit.NOT_FOUND or "not found" not in str(failure):
                raise
            there = await self.known(names.RESOURCE)
            raise Failure(
                f"there is no OcrDeployment {text.clean(name, 253)!r} here."
                f"{text.nearest(name, there, 'OcrDeployments')} (-n chooses another namespace)",
                Exit.NOT_FOUND,
            ) from None
        return _readable(reading.one(found, Resource))

    async def resources(self) -> list[Resource]:
        return _report(*reading.many(await self._list(names.RESOURCE), Resource))

    async def pods(self, deployment: str = "") -> list[Pod]:
        """Return the pods of one resource, or of all of them."""
        selector = f"{names.LABEL_DEPLOYMENT}{'=' if deployment else ''}{deployment}"
        return _report(*reading.many(await self._list("pods", f"--selector={selector}"), Pod))

    async def pod(self, name: str, *more: str) -> Pod:
        """Return a pod; `more` are flags of `kubectl get`. Raises `Failure`, with near names if there is none of that
        name.
        """
        try:
            found = await self.kubectl.run("get", "pods", name, "--output=json", *more, *self._scope)
        except Failure as failure:
            if failure.status is not Exit.NOT_FOUND:
                raise
            known = [each.metadata.name for each in await self.pods()]
            raise Failure(
                f"there is no pod {text.clean(name, 253)!r} here."
                f"{text.nearest(name, known, 'pods of OcrDeployments')} (-n chooses another namespace)",
                Exit.NOT_FOUND,
            ) from None
        return _readable(reading.one(found, Pod))

    async def nodes(self) -> list[Node]:
        return _report(*reading.many(await self.kubectl.run("get", "nodes", "--output=json"), Node))

    async def events(self, resource: Resource) -> list[Event]:
        """Return the Events about a resource, of the last hour where the cluster keeps them as long as most do."""
        meta = resource.metadata
        about = f"--field-selector=involvedObject.kind={names.KIND},involvedObject.name={meta.name}"
        listed = await self.kubectl.run(
            "get", "events", "--output=json", about, f"--namespace={meta.namespace}"
        )
        return reading.many(listed, Event)[
            0
        ]  # other programs write Events, too: what can't be read is theirs

    async def secret(self, namespace: str, name: str, key: str) -> str:
        """Return a text of a Secret, which is never printed. Raises `Failure` without it."""
        found = await self.kubectl.run("get", "secrets", name, "--output=json", f"--namespace={namespace}")
        body = reading.one(found, _Secret)
        data = {} if isinstance(body, Invalid) else body.data
        try:
            return base64.b64decode(data[key], validate=True).decode("utf-8-sig")
        except (KeyError, binascii.Error, UnicodeError):
            raise Failure(f"Secret {namespace}/{name} has no key {key!r} that can be read") from None

    async def token(self, namespace: str, name: str, key: str) -> str:
        """Return the first token of a Secret's text, one a line; empty where there is none. Raises `Failure`."""
        lines = (await self.secret(namespace, name, key)).split("\n")
        for line in (each for each in lines if not each.lstrip().startswith("#")):
            try:
                if found := tokens.parse(line):
                    return found
            except tokens.Unusable as error:
                raise Failure(f"the token in key {key!r} of Secret {namespace}/{name} {error}") from None
        return ""

    async def patch(self, resource: Resource, kind: str, body: Any, manager: str) -> Resource:
        """Patch a resource under the name of a field manager; `kind` is merge or json."""
        meta = resource.metadata
        found = await self.kubectl.run(
            *("patch", names.RESOURCE, meta.name, f"--type={kind}", f"--patch={json.dumps(body)}"),
            *("--output=json", f"--namespace={meta.namespace}", f"--field-manager={manager}"),
        )
        return _readable(reading.one(found, Resource))

    async def known(self, kind: str, selector: str = "") -> list[str]:
        listed = await self.kubectl.run(
            "get", kind, "--output=name", f"--selector={selector}", *self._scope, seconds=10
        )
        return [each.rpartition("/")[2] for each in listed.decode(errors="replace").split()]

    async def _list(self, kind: str, *more: str) -> bytes:
        return await self.kubectl.run("get", kind, "--output=json", *more, *self._scope)


class _Secret(msgspec.Struct, frozen=True):
    data: dict[str, str] = {}


def connect(options: Options) -> Cluster:
    """Return the cluster of the options. Raises `Failure` where there is no kubectl."""
    program = shutil.which("kubectl")
    if program is None:
        raise Failure(
            "kubectl isn't on PATH: install it (https://kubernetes.io/docs/tasks/tools/)", Exit.NO_KUBECTL
        )
    namespace = (f"--namespace={options.namespace}",) if options.namespace else ()
    scope = ("--all-namespaces",) if options.everywhere else namespace
    return Cluster(Kubectl(program, options.kubectl), scope)


async def both(first: Coroutine[Any, Any, A], second: Coroutine[Any, Any, B]) -> tuple[A, B]:
    """Return the results of two calls made at once. Raises the `Failure` of the one that failed first."""
    try:
        async with asyncio.TaskGroup() as group:
            one, other = group.create_task(first), group.create_task(second)
    except ExceptionGroup as failed:
        if (failures := failed.subgroup(Failure)) is None:
            raise
        raise failures.exceptions[0] from None
    return one.result(), other.result()


def model_of(resource: Resource, name: str) -> str:
    """Return the model's name. Raises `Failure` with near names if the resource has no such model."""
    known = [each.name for each in resource.spec.models]
    if name not in known:
        raise Failure(
            f"{resource.metadata.name} has no model {text.clean(name, 63)!r}.{text.nearest(name, known, 'models')}",
            Exit.NOT_FOUND,
        )
    return name


def ready(resource: Resource, pods: Iterable[Pod], wanted: str = "") -> list[Pod]:
    """Return the pods that accept requests, by name, or the wanted one. Raises `Failure` when there are none."""
    listed = sorted(pods, key=lambda each: each.metadata.name)
    if wanted and wanted not in (known := [each.metadata.name for each in listed]):
        raise Failure(
            f"{resource.metadata.name} has no pod {text.clean(wanted, 253)!r}.{text.nearest(wanted, known, 'pods')}",
            Exit.NOT_FOUND,
        )
    found = [each for each in listed if each.ready and wanted in {"", each.metadata.name}]
    if found:
        return found
    condition = resource.condition("Ready")
    why = f": {condition.reason}: {condition.message}" if condition is not None else ""
    raise Failure(
        text.clean(
            f"pod {wanted} isn't ready" if wanted else f"no pod of {resource.metadata.name} is ready{why}"
        )
        + f" (kubectl ocr status {resource.metadata.name} tells more)",
        Exit.LATER,
    )


def warn(message: str) -> None:
    """Print a warning on standard error, without control characters that the cluster put into it."""
    print(f"kubectl ocr: {text.clean(message, 4096)}", file=sys.stderr)


def _readable(found: T | Invalid) -> T:
    if isinstance(found, Invalid):
        raise Failure(found.message)
    return found


def _report(found: list[T], unreadable: Sequence[Invalid]) -> list[T]:
    for each in unreadable[:8]:
        warn(each.message)
    return found
