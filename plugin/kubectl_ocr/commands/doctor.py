"""`doctor`: reads what the checks need, as far as it may, and fails where there is a problem. It changes nothing."""

import asyncio
import re
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from kubectl_ocr.cli import Options
from kubectl_ocr.cluster import Cluster
from kubectl_ocr.errors import Exit, Failure
from kubectl_ocr.objects import reading
from kubectl_ocr.objects.cluster import Definition, Deployment, Lease, Node
from kubectl_ocr.objects.part import Named
from kubectl_ocr.objects.pod import Pod
from kubectl_ocr.objects.reading import T
from kubectl_ocr.objects.resource import Resource
from kubectl_ocr.output import emit, paint
from kubectl_ocr.views import doctor as view
from kubectl_ocr.views.facts import Facts, Unknown
from ocr_wire import names
from ocr_wire.checked import Invalid

OPERATOR: Final = "app.kubernetes.io/name=ocr-operator,app.kubernetes.io/component=operator"
SECONDS: Final = 20.0
"""Time for one question: a check that can't be made is no reason to leave out the others."""
_PORT: Final = 8080
_SAMPLE: Final = re.compile(r"^(ocr_operator_\w+(?:\{[^}\n]*\})?) (\S+)$", re.MULTILINE)
_MAX_METRICS: Final = 4 * 2**20
_NEEDED_BY: Final = {
    "definitions": ("definitions", "versions"),
    "operators": ("operator", "namespace", "GPU load", "versions"),
    "nodes": ("devices", "labels", "GPU load"),
    "runtime_classes": ("runtime class",),
    "resources": ("devices", "runtime class", "pods"),
    "pods": ("images", "pods"),
    "metrics": ("GPU load",),
}
"""Checks that can't be made without a fact."""


async def doctor(options: Options, cluster: Cluster) -> None:
    """Print the report. Raises `Failure` after it where there is a problem."""
    found = view.report(await _facts(cluster))
    emit(found, options.output, view.render(found, paint()))
    if found.has_problems:
        names_ = ", ".join(each.check for each in found.checks if each.level == "problem")
        raise Failure(f"problems: {names_}", Exit.FAILED)


async def _facts(cluster: Cluster) -> Facts:
    namespace = await cluster.namespace()
    here = f"--namespace={namespace}"
    asked: dict[str, Awaitable[Any]] = {
        "definitions": _list(cluster, Definition, "customresourcedefinitions"),
        "operators": _list(
            cluster, Deployment, "deployments.apps", "--all-namespaces", f"--selector={OPERATOR}"
        ),
        "nodes": _list(cluster, Node, "nodes"),
        "runtime_classes": _list(cluster, Named, "runtimeclasses.node.k8s.io"),
        "resources": _list(cluster, Resource, names.RESOURCE, here),
        "pods": _list(cluster, Pod, "pods", here, f"--selector={names.LABEL_DEPLOYMENT}"),
        "owner": _lease(cluster, namespace, "ocr-operator-owner"),
    }
    answers = dict(zip(asked, await asyncio.gather(*asked.values(), return_exceptions=True), strict=True))
    facts = {name: each for name, each in answers.items() if not isinstance(each, BaseException)}
    failed = {name: each for name, each in answers.items() if isinstance(each, BaseException)}
    for error in failed.values():
        if not isinstance(error, Failure):
            raise error
        if error.status is Exit.LATER:
            raise error  # the cluster can't be reached: there is nothing to check
    # Without the definitions kubectl knows no such resource, which is the answer to another check.
    if "resources" in failed and not _is_installed(facts.get("definitions")):
        facts["resources"] = []
        del failed["resources"]
    if "runtime_classes" in facts:
        facts["runtime_classes"] = [each.metadata.name for each in facts["runtime_classes"]]
    known = Facts(namespace=namespace, version=_version(), now=datetime.now(UTC), **facts)
    if (operator := known.operator()) is not None:
        more, why = await _of_operator(cluster, operator, known.now)
        facts |= more
        if why is not None:
            failed["metrics"] = why
    unknown = {
        check: _unknown(name, why, known.operator())
        for name, why in failed.items()
        for check in _NEEDED_BY.get(name, ())
    }
    return Facts(namespace=namespace, version=known.version, now=known.now, unknown=unknown, **facts)


def _unknown(fact: str, why: BaseException, operator: Deployment | None) -> Unknown:
    """Return what is said of a fact that couldn't be had: rights are named only where they are what is missing."""
    if isinstance(why, Failure) and why.status is Exit.NOT_ALLOWED:
        return Unknown(str(why))
    if fact == "metrics" and operator is not None:
        place = f"-n {operator.metadata.namespace} deployment/{operator.metadata.name}"
        return Unknown(str(why), f"kubectl logs {place}")
    return Unknown(str(why), "the same command again; if it stays so, kubectl get of the same says more")


def _is_installed(definitions: Sequence[Definition] | None) -> bool:
    return definitions is None or any(each.metadata.name == names.RESOURCE for each in definitions)


async def _of_operator(
    cluster: Cluster, operator: Deployment, now: datetime
) -> tuple[dict[str, Any], Failure | None]:
    """Return the Lease of the operator's replicas, the metrics of the one that works, and why these can't be had."""
    facts: dict[str, Any] = {}
    space, _, name = operator.variable("OCR_OPERATOR_LEASE").partition("/")
    holder = ""
    try:
        if name:
            facts["leader"] = lease = await _lease(cluster, space, name)
            holder = lease.held(now) if lease is not None else ""
        if not operator.variable(view.GUARD):
            facts["metrics"] = await _metrics(cluster, operator.metadata.namespace, holder.rpartition("/")[2])
    except Failure as failure:
        return facts, failure
    return facts, None


async def _metrics(cluster: Cluster, namespace: str, pod: str) -> dict[str, float] | None:
    """Return the operator's metrics, by a port-forward to the replica that works; None where none is ready."""
    pods = await _list(cluster, Pod, "pods", f"--namespace={namespace}", f"--selector={OPERATOR}")
    ready = [each.metadata.name for each in pods if each.ready]
    if not ready:
        return None
    chosen = pod if pod in ready else ready[0]
    async with cluster.kubectl.forward(namespace, chosen, _PORT) as port:
        return parse(await _get(port, "/metrics"))


def parse(exposition: str) -> dict[str, float]:
    """Return the operator's own samples, by name and labels. Never raises."""
    found = {}
    for name, value in _SAMPLE.findall(exposition):
        try:
            found[name] = float(value)
        except ValueError:
            continue
    return found


async def _get(port: int, path: str) -> str:
    """Return the body of an answer of HTTP/1.0, which has its end where the connection ends. Raises `Failure`."""
    try:
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
                answer = await _all(reader)
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        raise Failure(f"the operator's metrics can't be read: {str(error) or 'no answer'}") from None
    head, _, body = answer.decode(errors="replace").partition("\r\n\r\n")
    if " 200 " not in head.split("\r\n")[0]:
        raise Failure(
            f"the operator's metrics can't be read: {head.splitlines()[0][:80] if head else 'no answer'}"
        )
    return body


async def _all(reader: asyncio.StreamReader) -> bytes:
    kept = bytearray()
    while (chunk := await reader.read(2**16)) and len(kept) <= _MAX_METRICS:
        kept += chunk
    return bytes(kept)


async def _list(cluster: Cluster, type_: type[T], kind: str, *flags: str) -> list[T]:
    found = await cluster.kubectl.run("get", kind, "--output=json", *flags, seconds=SECONDS)
    return reading.many(found, type_)[0]


async def _lease(cluster: Cluster, namespace: str, name: str) -> Lease | None:
    """Return a Lease; None where there is none, or it isn't for us to see."""
    try:
        found = await cluster.kubectl.run(
            "get", "leases", name, "--output=json", f"--namespace={namespace}", seconds=SECONDS
        )
    except Failure as failure:
        if failure.status in (Exit.NOT_FOUND, Exit.NOT_ALLOWED):
            return None
        raise
    lease = reading.one(found, Lease)
    return None if isinstance(lease, Invalid) else lease


def _version() -> str:
    """Return the plugin's version; empty where it runs from an archive without the distribution's metadata."""
    try:
        return version("ocr-operator")
    except PackageNotFoundError:
        return ""
