"""`status`, `top` and `why`: they change nothing."""

import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from kubectl_ocr.cli import Options
from kubectl_ocr.cluster import Cluster, both, warn
from kubectl_ocr.errors import Exit, Failure
from kubectl_ocr.objects import Node, Pod, Resource
from kubectl_ocr.output import emit, paint
from kubectl_ocr.views import status as status_view
from kubectl_ocr.views import top as top_view
from kubectl_ocr.views import why as why_view

REFRESH_SECONDS: Final = 2
CLEAR: Final = "\x1b[H\x1b[2J"


async def status(options: Options, cluster: Cluster) -> None:
    if options.watch:
        await _follow(options, cluster)
        return
    views = _views(*await _read(options, cluster))
    if not views and options.output == "table":
        warn("no OcrDeployments here: -n chooses another namespace, -A all of them")
        return
    emit(views, options.output, status_view.render(views, paint(), namespaces=options.everywhere))


async def _follow(options: Options, cluster: Cluster) -> None:
    """Read every 2 seconds and count down in between; a cluster that can't be reached is read again."""
    resources: Sequence[Resource] = ()
    pods: Sequence[Pod] = ()
    problem = ""
    while True:
        try:
            (resources, pods), problem = await _read(options, cluster), ""
        except Failure as failure:
            if failure.status is not Exit.LATER:
                raise
            problem = f"\n{failure}"
        ticks = REFRESH_SECONDS if sys.stdout.isatty() else 1
        for _ in range(ticks):
            drawn = status_view.render(_views(resources, pods), paint(), namespaces=options.everywhere)
            print(f"{CLEAR if sys.stdout.isatty() else ''}{drawn}{problem}", flush=True)
            await asyncio.sleep(REFRESH_SECONDS / ticks)


async def _read(options: Options, cluster: Cluster) -> tuple[list[Resource], list[Pod]]:
    if options.name:
        resource, pods = await both(cluster.resource(options.name), cluster.pods(options.name))
        return [resource], pods
    return await both(cluster.resources(), cluster.pods())


def _views(resources: Sequence[Resource], pods: Sequence[Pod]) -> list[status_view.View]:
    now, spaces = datetime.now(UTC), status_view.pods_by_namespace(pods)
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
    views = top_view.view(resources, pods, await _nodes(cluster))
    emit(views, options.output, top_view.render(views, paint()))


async def _nodes(cluster: Cluster) -> list[Node] | None:
    try:
        return await cluster.nodes()
    except Failure as failure:
        if failure.status is not Exit.NOT_ALLOWED:
            raise
        warn(f"sizes of GPUs and GPUs without pods are unknown: {failure}")
        return None


async def why(options: Options, cluster: Cluster) -> None:
    pod = await cluster.pod(options.name)
    if not pod.deployment:
        raise Failure(f"pod {pod.metadata.name} belongs to no OcrDeployment, so the operator didn't place it")
    resource = await cluster.resource(pod.deployment) if pod.gated else None
    explained = why_view.why(pod, resource)
    emit(explained, options.output, why_view.render(explained, datetime.now(UTC), paint()))
