"""`kubectl ocr status`: resource → pods → GPUs → models. A pure function of what was read and of the time."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec
from msgspec import UNSET

from kubectl_ocr import text
from kubectl_ocr.objects import resource, sent
from kubectl_ocr.objects.pod import Pod
from kubectl_ocr.objects.resource import ModelStatus, PodStatus, Resource
from kubectl_ocr.text import Cell, Item
from ocr_wire import live_override
from ocr_wire.conditions import HEALTHY
from ocr_wire.live_settings import LiveValues
from ocr_wire.states import DeviceKind, Location, State

HEADER: Final = ("NAME", "STATE", "LOCATION", "IDLE", "NEXT", "GENERATION")

_STYLES: Final[Mapping[str, str]] = {
    **dict.fromkeys((*State, *Location), text.WARM),
    **dict.fromkeys((State.READY, Location.GPU), text.GOOD),
    **dict.fromkeys((State.FAILED, State.UNKNOWN, "not ready"), text.BAD),
    State.UNLOADED: text.DIM,
}
_NEXT: Final[Mapping[str, str]] = {State.READY: "offload", State.OFFLOADED: "release"}


class ModelView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    name: str
    state: str
    location: str
    idle_seconds: int | None
    """None: in use, or not reported."""
    oldest_lease_seconds: int | None
    """Age of the oldest request that runs, if that is long; None where it isn't, or isn't reported."""
    stuck_seconds: int | None
    """Time since its worker was killed that hasn't ended."""
    next: str | None
    """What its idle timer does next: offload or release; `stays` where there is none, None where nothing is left."""
    after_seconds: int | None
    """The idle timeout."""
    next_seconds: int | None
    """What is left of it; None while the model isn't idle, or where that isn't reported."""


class PodView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    name: str
    state: str
    """ready, not ready, or waits for a GPU."""
    awake: bool
    """Whether the Service sends requests to it under `warmFirst`."""
    node: str
    device: str
    gpus: tuple[resource.Gpu, ...]
    applied_generation: int | None
    models: tuple[ModelView, ...]


class View(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    namespace: str
    name: str
    phase: str
    generation: int
    replicas: int
    ready_replicas: int
    pods: tuple[PodView, ...]
    notes: tuple[str, ...]
    """Conditions that aren't fine, in words, and the live override."""


def view(resource: Resource, pods: Sequence[Pod], now: datetime) -> View:
    """Return the view of one resource; `pods` are those of its namespace, others are passed over."""
    mine = {each.metadata.name: each for each in pods if each.deployment == resource.metadata.name}
    status = resource.status
    return View(
        namespace=resource.metadata.namespace,
        name=resource.metadata.name,
        phase=text.clean(status.phase, 63) or "Unknown",
        generation=resource.metadata.generation,
        replicas=status.replicas,
        ready_replicas=status.ready_replicas,
        pods=tuple(
            _pod(each, mine.get(each.name), resource, now)
            for each in sorted(status.pods, key=lambda each: each.name)
        ),
        notes=tuple(_notes(resource)),
    )


def _pod(reported: PodStatus, pod: Pod | None, resource: Resource, now: datetime) -> PodView:
    gated = pod is not None and pod.gated
    values = sent.sent_values(pod, {each.name for each in reported.models})
    return PodView(
        name=reported.name,
        state="waits for a GPU" if gated else "ready" if reported.ready else "not ready",
        awake=pod is not None and pod.awake,
        node=reported.node,
        device=reported.device,
        gpus=tuple(sorted(reported.gpus, key=lambda each: each.uuid)),
        applied_generation=reported.applied_generation,
        models=tuple(_model(each, resource, values, now) for each in reported.models),
    )


def _model(reported: ModelStatus, resource: Resource, values: LiveValues, now: datetime) -> ModelView:
    seconds = _age(reported.idle_since, now)
    timeouts, preload = sent.idle(resource, values, reported.name)
    event = _NEXT.get(reported.state)
    after = timeouts.offload_after_seconds if event == "offload" else timeouts.release_after_seconds
    if event is not None and (preload or (after is not UNSET and after < 0)):
        event, after = "stays", UNSET
    elif event is None or after is UNSET:
        event, after = None, UNSET
    timeout = None if after is UNSET else int(after)
    left = None if timeout is None or seconds is None else max(0, timeout - seconds)
    return ModelView(
        name=reported.name,
        state=reported.state,
        location=reported.location,
        idle_seconds=seconds,
        oldest_lease_seconds=_age(reported.oldest_lease_since, now),
        stuck_seconds=_age(reported.stuck_since, now),
        next=event,
        after_seconds=timeout,
        next_seconds=left,
    )


def _age(since: datetime | None, now: datetime) -> int | None:
    return None if since is None else max(0, int((now - since).total_seconds()))


def _notes(resource: Resource) -> list[str]:
    generation, status = resource.metadata.generation, resource.status
    if status.observed_generation is None or status.observed_generation < 1:
        return ["the operator hasn't looked at it yet: does it run, and watch this namespace?"]
    found: dict[tuple[str, str], list[str]] = {}
    for each in status.conditions:
        if HEALTHY.get(each.type, each.status) != each.status:
            found.setdefault((each.reason, each.message), []).append(f"{each.type} is {each.status}")
    notes = [
        text.clean(f"{', '.join(types)}: {reason}{': ' if message else ''}{message}")
        for (reason, message), types in found.items()
    ]
    if status.observed_generation < generation:
        late = f"the status is about generation {status.observed_generation} of {generation}"
        notes.insert(0, f"{late}: the operator hasn't looked at the last change yet")
    return notes + _override(resource)


def _override(resource: Resource) -> list[str]:
    """Return a note of the live override, which no field of the spec shows."""
    live = resource.status.live_settings
    if live.override is None:
        return []
    if live.override.rejected:
        return [text.clean(f"the override isn't used: {live.override.rejected}")]
    end = f" until {live_override.stamp(live.override.until)}" if live.override.until else ""
    sets = [f"{each.field} {each.value}" for each in live.sources if each.origin == "override"]
    return [text.clean(f"an override{end} sets {', '.join(sets) or 'nothing'}")]


def render(views: Sequence[View], paint: text.Paint = text.plain, *, namespaces: bool = False) -> str:
    """Return all resources in one table, with notes below each; names bear the namespace where there are several."""
    items = [_item(each, namespaces=namespaces) for each in views]
    lines = [text.table(HEADER, items, paint)]
    for each in views:
        where = f"{each.namespace}/{each.name}" if namespaces else each.name
        lines += [paint("!", text.BAD) + f" {text.clean(where, 512)}: {note}" for note in each.notes]
    return "\n".join(lines)


def _item(each: View, *, namespaces: bool) -> Item:
    name = f"{each.namespace}/{each.name}" if namespaces else each.name
    bad = each.phase in {"Degraded", "Stalled", "Unknown"}
    return Item(
        [
            Cell(text.clean(name, 512), text.BOLD),
            Cell(each.phase, text.BAD if bad else text.GOOD),
            Cell(f"{each.ready_replicas}/{each.replicas} ready", text.DIM),
            "",
            "",
            str(each.generation),
        ],
        [_pod_item(pod, each.generation) for pod in each.pods],
    )


def _pod_item(pod: PodView, generation: int) -> Item:
    applied = pod.applied_generation
    behind = applied is not None and applied != generation
    models = [_model_item(model) for model in pod.models]
    awake = ", awake" if pod.awake else ""
    device = f"  {pod.device}" if pod.device and pod.device != DeviceKind.CUDA else ""
    gpus = [
        Item([text.clean(f"{gpu.uuid}  {gpu.product}{device}", 300)], models if at == 0 else [])
        for at, gpu in enumerate(pod.gpus)
    ]
    return Item(
        [
            text.clean(f"{pod.name}  {pod.node}{'' if pod.gpus else device}", 520),
            Cell(pod.state + awake, _STYLES.get(pod.state, text.WARM)),
            "",
            "",
            "",
            Cell("-" if applied is None else str(applied), text.WARM if behind else ""),
        ],
        gpus or models,
    )


def _model_item(model: ModelView) -> Item:
    location = text.clean(model.location, 32)
    then = "-" if model.next is None else model.next
    if model.next_seconds is not None:
        then += f" in {text.duration(model.next_seconds)}" if model.next_seconds else " now"
    elif model.after_seconds is not None:
        then += f" after {text.duration(model.after_seconds)}"
    return Item(
        [
            text.clean(model.name, 63),
            _state_cell(model),
            Cell(location, _STYLES.get(location, "")),
            "-" if model.idle_seconds is None else text.duration(model.idle_seconds),
            then,
        ]
    )


def _state_cell(model: ModelView) -> Cell:
    state = text.clean(model.state, 32)
    if model.stuck_seconds is not None:
        return Cell(f"{state}, stuck for {text.duration(model.stuck_seconds)}", text.BAD)
    if model.oldest_lease_seconds is not None:
        return Cell(f"{state}, reads for {text.duration(model.oldest_lease_seconds)}", text.WARM)
    return Cell(state, _STYLES.get(state, ""))


def pods_by_namespace(pods: Sequence[Pod]) -> Mapping[str, list[Pod]]:
    """Return the pods of each namespace: names of pods are unique only within one."""
    found: dict[str, list[Pod]] = {}
    for each in pods:
        found.setdefault(each.metadata.namespace, []).append(each)
    return found
