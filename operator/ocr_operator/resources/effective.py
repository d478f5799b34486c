"""The live settings that a resource ends up with: its own, those of the policies that select it, and the defaults.

    effective = effective.of(resource, policies, now, override)
    effective.spec       # the resource's spec with every live field as it counts now
    effective.sources    # which of them came from where

Layers, strongest first; each field is taken from the strongest layer that sets it:

1. policies with `mode: override`  2. the live override, while it lasts  3. what the resource itself says
4. policies with `mode: default`  5. the built-in defaults

Within 1 and 4 the higher priority is stronger, then the older policy, then the first by name. Within a layer, what
is said of one model is stronger than what is said of all. Everything that reads a live field of a resource reads it
from here. docs/live-settings.md has a worked example.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from ocr_operator.resources import live_override
from ocr_operator.resources import spec as specs
from ocr_operator.resources.live_override import LiveOverride
from ocr_operator.resources.policies import Policy, PolicySpec
from ocr_operator.resources.spec import OcrDeployment, Spec
from ocr_wire.live_override import Place
from ocr_wire.settings import GENERAL, PER_MODEL, Value

OWN: Final = "spec"
BUILT_IN: Final = "default"

_PARTS: Final[Mapping[str, type[msgspec.Struct]]] = {
    "idle": specs.Idle,
    "batching": specs.Batching,
    "queue": specs.Queue,
    "routing": specs.Routing,
}
_LOG_LEVEL: Final = "logLevel"
_IDLE: Final = tuple(path for path in GENERAL if path.startswith("idle."))


class Source(msgspec.Struct, frozen=True, rename={"origin": "from"}):
    """An entry of `status.liveSettings.sources`."""

    field: str
    """`idle.offloadAfterSeconds`, `models[deepseek-ocr].priority`."""
    value: str
    origin: str
    """`spec`, `default`, `override` or `OcrIdlePolicy/<name>`."""


@dataclass(frozen=True, slots=True)
class Effective:
    spec: Spec
    sources: tuple[Source, ...]
    """Every general field; of the fields of models, those that are set for that model."""
    policy_usage: "PolicyUsage"
    override: LiveOverride | None = None
    """As it is on the resource, also one that isn't used or has ended."""


@dataclass(frozen=True, slots=True)
class PolicyUsage:
    """Names of the policies that select a resource, and what became of them."""

    selected: frozenset[str]
    winners: frozenset[str]
    """Those that set at least one effective value."""
    losers: frozenset[str]
    """Those that are active and set a value which a stronger layer replaced by another one."""


@dataclass(frozen=True, slots=True)
class _Layer:
    origin: str
    values: Mapping[Place, Value]
    policy: str = ""


@dataclass(frozen=True, slots=True)
class _Taken:
    """The value of one field, and the layer and place that it comes from."""

    value: Value
    layer: _Layer
    place: Place


def of(
    resource: OcrDeployment,
    policies: Iterable[Policy],
    now: datetime,
    override: LiveOverride | None = None,
) -> Effective:
    """`policies` are those that select the resource, in any order; closed ones are left out here, and so is an override
    that has ended.
    """
    policies = tuple(policies)
    counts = override if override is not None and override.active(now) else None
    layers = _layers(resource, [each for each in policies if each.active(now)], counts)
    taken = {("", path): _take(layers, ("", path)) for path in GENERAL}
    for model in resource.spec.models:
        for path in PER_MODEL:
            taken[model.name, path] = _take(layers, (model.name, path), ("", path))
    return Effective(
        spec=_laid_over(resource.spec, taken),
        sources=tuple(_sources(taken)),
        policy_usage=PolicyUsage(
            selected=frozenset(each.name for each in policies),
            winners=frozenset(each.layer.policy for each in taken.values()) - {""},
            losers=frozenset(layer.policy for layer in layers if _loses(layer, taken)) - {""},
        ),
        override=override,
    )


def _layers(resource: OcrDeployment, active: Iterable[Policy], override: LiveOverride | None) -> list[_Layer]:
    """Strongest first. The last one has a value for every field."""
    ranked = sorted(active, key=lambda each: each.rank)
    of_mode: dict[str, list[_Layer]] = {"override": [], "default": []}
    for each in ranked:
        of_mode[each.spec.mode].append(_Layer(each.origin, _said(each.written, each.spec), each.name))
    return [
        *of_mode["override"],
        *([_Layer(live_override.ORIGIN, override.values)] if override else []),
        _Layer(OWN, _said(resource.written, resource.spec)),
        *of_mode["default"],
        _Layer(BUILT_IN, _all(resource.spec)),
    ]


def _take(layers: Iterable[_Layer], *places: Place) -> _Taken:
    """From the strongest layer that has one of the places; within a layer, the first of them."""
    return next(
        _Taken(layer.values[place], layer, place)
        for layer in layers
        for place in places
        if place in layer.values
    )


def _loses(layer: _Layer, taken: Mapping[Place, _Taken]) -> bool:
    return any(place in taken and taken[place].value != value for place, value in layer.values.items())


def _said(written: Mapping[str, Any], parsed: Spec | PolicySpec) -> dict[Place, Value]:
    """Return what a spec as stored says: `written` tells which fields are there, `parsed` has their values."""
    values = _all(parsed)
    said = {("", path): values["", path] for path in GENERAL if _there(written, path)}
    for model in written.get("models") or ():
        name = model["name"]
        said |= {(name, path): values[name, path] for path in PER_MODEL if _there(model, path)}
    return said


def _there(written: Mapping[str, Any], path: str) -> bool:
    part, _, field = path.partition(".")
    value = written.get(part)
    return (value.get(field) if field and isinstance(value, Mapping) else value) is not None


def _all(parsed: Spec | PolicySpec) -> dict[Place, Value]:
    """Every live field of a parsed spec; timeouts of a model only where it has its own."""
    values: dict[Place, Value] = {("", _LOG_LEVEL): parsed.log_level}
    for part in _PARTS:
        built = msgspec.to_builtins(getattr(parsed, part))
        values |= {("", f"{part}.{field}"): value for field, value in built.items()}
    for model in parsed.models:
        built = msgspec.to_builtins(model.idle)
        theirs = {f"idle.{field}": value for field, value in built.items()}
        theirs |= {"priority": model.priority, "preload": model.preload}
        values |= {(model.name, path): value for path, value in theirs.items() if value is not None}
    return values


def _laid_over(spec: Spec, taken: Mapping[Place, _Taken]) -> Spec:
    parts: dict[str, dict[str, Value]] = {part: {} for part in _PARTS}
    for path in GENERAL:
        part, _, field = path.partition(".")
        if field:
            parts[part][field] = taken["", path].value
    models = []
    for model in spec.models:
        of_model = {path: taken[model.name, path] for path in PER_MODEL}
        idle = {path.partition(".")[2]: of_model[path].value for path in _IDLE if of_model[path].place[0]}
        models.append(
            msgspec.structs.replace(
                model,
                idle=msgspec.convert(idle, specs.IdleOverride),
                priority=of_model["priority"].value,
                preload=of_model["preload"].value,
            )
        )
    live = {part: msgspec.convert(values, _PARTS[part]) for part, values in parts.items()}
    return msgspec.structs.replace(spec, models=tuple(models), log_level=taken["", _LOG_LEVEL].value, **live)


def _sources(taken: Mapping[Place, _Taken]) -> Iterator[Source]:
    for (model, path), each in taken.items():
        if model and (not each.place[0] or each.layer.origin == BUILT_IN):
            continue
        value = str(each.value).lower() if isinstance(each.value, bool) else str(each.value)
        yield Source(f"models[{model}].{path}" if model else path, value, each.layer.origin)
