"""`read`: a picture to a pod, its text to standard output."""

import sys
from pathlib import Path
from typing import Final

from kubectl_ocr import podhttp, text
from kubectl_ocr.cli import Options
from kubectl_ocr.cluster import Cluster, both, model_of, ready
from kubectl_ocr.errors import Exit, Failure
from kubectl_ocr.objects import Pod, Resource
from kubectl_ocr.output import emit
from ocr_wire import names
from ocr_wire.states import Location
from ocr_wire.tasks import Task

MAX_PICTURE_BYTES: Final = 256 * 2**20
"""The server's own limit (`spec.server.limits.maxUploadBytes`) is lower and says so."""


async def read(options: Options, cluster: Cluster) -> None:
    picture = _picture(options.file)
    resource, pods = await both(cluster.resource(options.name), cluster.pods(options.name))
    model = model_of(resource, options.model) if options.model else ""
    pod = choose(resource, ready(resource, pods, options.pod), model)
    key = await _api_key(cluster, resource)
    fields = {
        "prompt_type": options.task or (Task.FREE if options.format == "text" else Task.DOCUMENT),
        "model": model,
        "find_term": options.find_term,
        "custom_prompt": options.prompt,
    }
    async with podhttp.reach(cluster.kubectl, resource, pod, token=key, within=options.within) as server:
        answer = await server.read(picture, {name: value for name, value in fields.items() if value})
    emit(answer, "json" if options.format == "json" else "table", text.lines(str(answer.get("text", ""))))


def choose(resource: Resource, pods: list[Pod], model: str) -> Pod:
    """Return the pod that answers soonest: awake, then with the model on the GPU, then in host memory, then by name."""
    wanted = model or next((each.name for each in resource.spec.models), "")
    where = {
        reported.name: each.location
        for reported in resource.status.pods
        for each in reported.models
        if each.name == wanted
    }
    ranks: dict[str, int] = {Location.GPU: 0, Location.CPU: 1}
    return min(
        pods,
        key=lambda pod: (
            not pod.awake,
            ranks.get(where.get(pod.metadata.name, ""), 2),
            pod.metadata.name,
        ),
    )


async def _api_key(cluster: Cluster, resource: Resource) -> str:
    """Return the first key of the resource's Secret; empty where requests need none."""
    name = resource.spec.server.api_keys_secret_name
    if not name:
        return ""
    keys = await cluster.secret(resource.metadata.namespace, name, names.API_KEYS_KEY)
    lines = [line.strip() for line in keys.splitlines()]
    return next((line for line in lines if line and not line.startswith("#")), "")


def _picture(file: str) -> bytes:
    try:
        if file == "-":
            found = sys.stdin.buffer.read(MAX_PICTURE_BYTES + 1)
        else:
            with Path(file).open("rb") as opened:
                found = opened.read(MAX_PICTURE_BYTES + 1)
    except OSError as error:
        raise Failure(f"{file} can't be read: {error.strerror or error}", Exit.USAGE) from None
    if not found:
        raise Failure(f"{file} is empty", Exit.USAGE)
    if len(found) > MAX_PICTURE_BYTES:
        raise Failure(f"{file} has more than {MAX_PICTURE_BYTES >> 20} MiB", Exit.USAGE)
    return found
