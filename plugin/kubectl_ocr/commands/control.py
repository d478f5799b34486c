"""`wake`, `offload` and `release`: a control of several pods at once, each through its own port-forward."""

import asyncio
import time
from typing import Final

import msgspec

from kubectl_ocr import podhttp, text
from kubectl_ocr.cli import Options
from kubectl_ocr.cluster import Cluster, both, model_of, ready
from kubectl_ocr.errors import Failure
from kubectl_ocr.objects.pod import Pod
from kubectl_ocr.objects.resource import Resource
from kubectl_ocr.output import emit, paint
from kubectl_ocr.text import Cell, Item
from ocr_wire import names

AT_ONCE: Final = 8
"""Port-forwards that run side by side: each is a process here and a connection to the API server."""

PATHS: Final = {"wake": names.PATH_LOAD, "offload": names.PATH_OFFLOAD, "release": names.PATH_RELEASE}


class Outcome(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    pod: str
    seconds: float
    model: str = ""
    state: str = ""
    location: str = ""
    error: str = ""


async def control(options: Options, cluster: Cluster) -> None:
    """Send the control to each pod and print the outcomes. Raises the first `Failure` after all have been tried."""
    resource, pods = await both(cluster.resource(options.name), cluster.pods(options.name))
    if options.model:
        model_of(resource, options.model)
    chosen = ready(resource, pods, options.pod)
    secret = names.admin_secret(resource.metadata.name)
    token = await cluster.token(resource.metadata.namespace, secret, names.ADMIN_KEY)

    found: dict[str, tuple[Outcome, Failure | None]] = {}
    left = iter(chosen)

    async def take() -> None:
        for pod in left:  # shared by all who take
            found[pod.metadata.name] = await _act(options, cluster, resource, pod, token=token)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(AT_ONCE, len(chosen))):
            group.create_task(take())
    ended = [found[name] for name in sorted(found)]
    outcomes = [outcome for outcome, _ in ended]
    emit(outcomes, options.output, _rendered(outcomes))
    if failures := [failure for _, failure in ended if failure is not None]:
        raise Failure(f"{len(failures)} of {len(found)} pods: {failures[0]}", failures[0].status)


async def _act(
    options: Options, cluster: Cluster, resource: Resource, pod: Pod, *, token: str
) -> tuple[Outcome, Failure | None]:
    began, name = time.monotonic(), pod.metadata.name
    try:
        async with podhttp.reach(
            cluster.kubectl, resource, pod, token=token, within=options.within
        ) as server:
            done = await server.control(PATHS[options.command], options.model)
    except Failure as failure:
        return Outcome(pod=name, seconds=_since(began), error=str(failure)), failure
    outcome = Outcome(
        pod=name, seconds=_since(began), model=done.model, state=done.state, location=done.model_location
    )
    return outcome, None


def _since(began: float) -> float:
    return round(time.monotonic() - began, 2)


def _rendered(outcomes: list[Outcome]) -> str:
    items = [
        Item(
            [
                text.clean(each.pod, 253),
                text.clean(each.model, 63) or "-",
                Cell("failed", text.BAD) if each.error else Cell(text.clean(each.state, 32), text.GOOD),
                text.clean(each.location, 32) or "-",
                f"{each.seconds:.2f} s",
            ]
        )
        for each in outcomes
    ]
    return text.table(("POD", "MODEL", "STATE", "LOCATION", "TOOK"), items, paint())
