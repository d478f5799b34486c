"""Strict parsing of the configuration FILE and of live settings.

Errors name the key, and the known key nearest to an unknown one.
"""

import difflib
import math
import re
from typing import Annotated, Any, TypeVar

import msgspec
import yaml
from msgspec import UNSET, Meta, UnsetType

from ocr_inference.config.settings import (
    ENGINES,
    MAX_FILE_BYTES,
    BatchingValues,
    Config,
    HuggingFace,
    IdleValues,
    InvalidSettings,
    Limits,
    LiveSettings,
    LiveValues,
    ModelConfig,
    ModelValues,
    QueueValues,
    ServerConfig,
    Source,
    quantity,
    shown,
)

_T = TypeVar("_T")
_AT = re.compile(r"^(?P<message>.*?) - at (?:`key` in )?`\$(?P<path>.*)`$", re.DOTALL)
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<key>.*)`$", re.DOTALL)


def parse_config(text: str) -> Config:
    """The FILE's text → `Config`; raises `InvalidSettings` that names the key, and the nearest known one."""
    if len(text.encode()) > MAX_FILE_BYTES:
        raise InvalidSettings(f"larger than {MAX_FILE_BYTES} bytes", "config")
    try:
        # A SafeLoader that also refuses aliases and duplicate keys.
        raw = yaml.load(text, Loader=_StrictLoader)  # noqa: S506
    except yaml.YAMLError as error:
        raise InvalidSettings(f"not valid YAML: {' '.join(str(error).split())}", "config") from None
    except RecursionError:
        raise InvalidSettings("nested too deeply", "config") from None
    config = _convert({} if raw is None else raw, Config, "config")
    _check_idle(config.idle, "idle")
    for index, model in enumerate(config.models):
        _check_model(model, f"models[{index}]")
        if config.model(model.name) is not model:
            raise InvalidSettings(f"two models are named {model.name!r}", f"models[{index}].name")
    return config


def _check_model(model: ModelConfig, at: str) -> None:
    _check_idle(model.idle, f"{at}.idle")
    if model.engine not in ENGINES:
        raise InvalidSettings(f"no engine {model.engine!r}; there are {', '.join(ENGINES)}", f"{at}.engine")
    if model.source is not None and (model.source.hugging_face is None) == (model.source.path is None):
        raise InvalidSettings("give exactly one of huggingFace and path", f"{at}.source")
    if model.engine == "transformers" and model.source is None:
        raise InvalidSettings("engine transformers needs a source: huggingFace or path", f"{at}.source")
    if model.engine == "rapidocr" and model.source is not None:
        raise InvalidSettings("engine rapidocr has its models inside; remove the source", f"{at}.source")
    if model.gpu_memory is not None:
        try:
            quantity(model.gpu_memory)
        except InvalidSettings as error:
            raise InvalidSettings(error.message, f"{at}.gpuMemory") from None


class _Envelope(msgspec.Struct, frozen=True):
    generation: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    revision: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    values: dict[str, Any]
    hash: Annotated[str, Meta(max_length=64)] | None = None


def parse_live(text: str | bytes, models: tuple[str, ...]) -> LiveSettings:
    """An envelope as JSON → `LiveSettings`; `models` are the configured ones, others are refused.

    A `hash` is optional; where it is given it must match the values. Raises `InvalidSettings`.
    """
    if len(text) > MAX_FILE_BYTES:
        raise InvalidSettings(f"larger than {MAX_FILE_BYTES} bytes", "body")
    try:
        raw = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise InvalidSettings(f"not valid JSON: {error}", "body") from None
    except RecursionError:
        raise InvalidSettings("nested too deeply", "body") from None
    envelope = _convert(raw, _Envelope, "body")
    declared = envelope.values.get("models")
    if isinstance(declared, dict):
        # One by one first, since msgspec's path doesn't say which key of a mapping is meant.
        for name, model in declared.items():
            if name not in models:
                raise InvalidSettings(
                    f"no model {name!r} here; there are {', '.join(models)}", f"values.models.{shown(name)}"
                )
            at = f"values.models.{name}"
            part = _convert(model, ModelValues, at)
            _check_idle(part.idle, f"{at}.idle")
    values = _convert(envelope.values, LiveValues, "values")
    _check_idle(values.idle, "values.idle")
    live = LiveSettings(envelope.generation, envelope.revision, values)
    if envelope.hash is not None and envelope.hash != live.hash:
        raise InvalidSettings(f"doesn't match the values, whose hash is {live.hash}", "hash")
    return live


def _check_idle(idle: IdleValues | UnsetType, at: str) -> None:
    """The schema bounds timeouts from below by -1, yet between -1 and 0 nothing has a meaning."""
    if idle is UNSET:
        return
    for name, value in msgspec.to_builtins(idle).items():
        if -1 < value < 0 or math.isnan(value):
            raise InvalidSettings(f"expected seconds >= 0, or -1 for never; got {value}", f"{at}.{name}")


def _convert(raw: Any, to: type[_T], at: str) -> _T:
    """`msgspec.convert` whose errors say where, and which known key is nearest to an unknown one."""
    try:
        return msgspec.convert(raw, to)
    except msgspec.ValidationError as error:
        message, path = str(error), ""
        if match := _AT.match(message):
            message, path = match["message"], match["path"]
    except RecursionError:
        raise InvalidSettings("nested too deeply", at) from None
    where = path.lstrip(".") if at in {"config", "body"} else at + path
    if unknown := _UNKNOWN.match(message):
        key = unknown["key"]
        close = difflib.get_close_matches(key, _KNOWN_KEYS, n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise InvalidSettings(f"unknown key{hint}", f"{where}.{shown(key)}".lstrip("."))
    raise InvalidSettings(message[:1].lower() + message[1:], where or at)


_KNOWN_KEYS = sorted(
    {
        name
        for part in (
            *(Config, ServerConfig, Limits, ModelConfig, Source, HuggingFace),
            *(IdleValues, BatchingValues, QueueValues, LiveValues, ModelValues),
        )
        for name in part.__struct_encode_fields__
    }
)


class _StrictLoader(yaml.SafeLoader):
    """Refuses aliases (a few bytes may stand for gigabytes) and keys given twice (one would be lost)."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases are not supported")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.YAMLError(f"key {key.value!r} is given twice{key.start_mark}")
                seen.add(key.value)
        return super().construct_mapping(node, deep)
