"""`status`, `top` and `why`: they change nothing."""

from collections.abc import Sequence
from datetime import UTC, datetime

from kubectl_ocr.cli import Options
from kubectl_ocr.cluster import Cluster, both, warn
from kubectl_ocr.errors import Exit, Failure
from kubectl_ocr.objects.cluster import Event, Node
from kubectl_ocr.objects.pod import Pod
from kubectl_ocr.objects.resource import Resource
from kubectl_ocr.output import emit, paint
from kubectl_ocr.views import status as status_view
from kubectl_ocr.views import top as top_view
from kubectl_ocr.views import why as why_view


async def status(options: Options, cluster: Cluster) -> None:
    found = views(*await _read(options, cluster), datetime.now(UTC))
    if not found and options.output == "table":
        warn("no OcrDeployments here: -n chooses another namespace, -A all of them")
        return
    emit(found, options.output, status_view.render(found, paint(), namespaces=options.everywhere))


async def _read(options: Options, cluster: Cluster) -> tuple[list[Resource], list[Pod]]:
    if options.name:
        resource, pods = await both(cluster.resource(options.name), cluster.pods(options.name))
        return [resource], pods
    return await both(cluster.resources(), cluster.pods())


def views(resources: Sequence[Resource], pods: Sequence[Pod], now: datetime) -> list[status_view.View]:
    """Return the views of all resources, by name."""
    spaces = status_view.pods_by_namespace(pods)
    order = sorted(resources, key=lambda each: (each.metadata.namespace, each.metadata.name))
    return [status_view.view(each, spaces.get(each.metadata.namespace, []), now) for each in order]


async def top(options: Options, cluster: Cluster) -> None:
    """Show the GPUs of all namespaces unless one is named; what may not be listed is left out, with a warning."""
    wide = Cluster(cluster.kubectl, ("--all-namespaces",))
    try:
        asked = cluster if options.namespace else wide
        resources, pods = await both(asked.resources(), asked.pods())
    except Failure as failure:
        if failure.status is not Exit.NOT_ALLOWED or options.namespace or options.everywhere:
            raise
        warn(f"only the current namespace is shown: {failure}")
        resources, pods = await both(cluster.resources(), cluster.pods())
    nodes = top_view.view(resources, pods, await _nodes(cluster))
    emit(nodes, options.output, top_view.render(nodes, paint()))


async def _nodes(cluster: Cluster) -> list[Node] | None:
    try:
        return await cluster.nodes()
    except Failure as failure:
        if failure.status is not Exit.NOT_ALLOWED:
            raise
        warn(f"sizes of GPUs and GPUs without pods are unknown: {failure}")
        return None


async def why(options: Options, cluster: Cluster) -> None:
    pod = await cluster.pod(options.name, "--show-managed-fields")
    if not pod.deployment:
        raise Failure(f"pod {pod.metadata.name} belongs to no OcrDeployment, so the operator didn't place it")
    resource = await _resource(cluster, pod)
    events = [] if resource is None else await _events(cluster, resource)
    now = datetime.now(UTC)
    explained = why_view.why(pod, resource, events, now)
    emit(explained, options.output, why_view.render(explained, now, paint()))


async def _resource(cluster: Cluster, pod: Pod) -> Resource | None:
    """Return the pod's resource; None where it is gone already."""
    try:
        return await Cluster(cluster.kubectl, (f"--namespace={pod.metadata.namespace}",)).resource(
            pod.deployment
        )
    except Failure as failure:
        if failure.status is not Exit.NOT_FOUND:
            raise
        warn(str(failure))
        return None


async def _events(cluster: Cluster, resource: Resource) -> list[Event]:
    try:
        return await cluster.events(resource)
    except Failure as failure:
        if failure.status is not Exit.NOT_ALLOWED:
            raise
        warn(f"whose memory went to whom is unknown: {failure}")
        return []
