"""Parses the configuration FILE, strictly: a person wrote it, so a key that isn't known is a mistake.

Errors name the key, and the known key nearest to an unknown one.
"""

from typing import Any

import yaml

from ocr_inference.config.settings import MAX_FILE_BYTES, Config, InvalidSettings, ModelConfig
from ocr_wire import checked, engines, numbers, quantity
from ocr_wire.checked import MAX_NUMBER, Invalid
from ocr_wire.live_settings import bad_idle


def parse_config(text: str) -> Config:
    """Parse the FILE's text; raises `InvalidSettings` that names the key, and the nearest known one."""
    if len(text.encode()) > MAX_FILE_BYTES:
        raise InvalidSettings(f"larger than {MAX_FILE_BYTES} bytes", "config")
    try:
        # A SafeLoader that also refuses aliases and duplicate keys.
        raw = yaml.load(text, Loader=_StrictLoader)  # noqa: S506
    except yaml.YAMLError as error:
        raise InvalidSettings(f"not valid YAML: {_explained(error)}", "config") from None
    except RecursionError:
        raise InvalidSettings("nested too deeply", "config") from None
    config = _config({} if raw is None else raw)
    _refuse(bad_idle(config.idle, "idle"))
    for index, model in enumerate(config.models):
        _check_model(model, f"models[{index}]")
        if config.model(model.name) is not model:
            raise InvalidSettings(f"two models are named {model.name!r}", f"models[{index}].name")
    return config


def _explained(error: yaml.YAMLError) -> str:
    """Return what is wrong and where, without the line itself, of which PyYAML would quote a part."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return str(error)
    said = ": ".join(part for part in (error.context, error.problem) if part)
    mark = error.problem_mark or error.context_mark
    return f"{said} (line {mark.line + 1}, column {mark.column + 1})" if mark else said


def _config(raw: Any) -> Config:
    _refuse(checked.oversized(raw))
    config = checked.strict(raw, Config)
    if isinstance(config, Invalid):
        raise InvalidSettings(config.message, config.at or "config")
    return config


def _refuse(found: Invalid | None) -> None:
    if found is not None:
        raise InvalidSettings(found.message, found.at or "config")


def _check_model(model: ModelConfig, at: str) -> None:
    _refuse(bad_idle(model.idle, f"{at}.idle"))
    if model.engine not in engines.BY_NAME:
        known = ", ".join(engines.NAMES)
        raise InvalidSettings(f"no engine {model.engine!r}; there are {known}", f"{at}.engine")
    source = model.source
    if source is not None and (source.hugging_face is None) == (source.path is None):
        raise InvalidSettings("give exactly one of huggingFace and path", f"{at}.source")
    broken = engines.broken_rules(
        model.engine, has_source=source is not None, dtype=model.dtype, attention=model.attention
    )
    for field, message in broken:
        raise InvalidSettings(message, f"{at}.{field}")
    for name, message in engines.bad_options(model.engine, model.options):
        raise InvalidSettings(f"model {model.name}: {message}", checked.below(f"{at}.options", name))
    if model.gpu_memory is not None and quantity.size(model.gpu_memory) is None:
        raise InvalidSettings(quantity.fault(model.gpu_memory), f"{at}.gpuMemory")


class _StrictLoader(yaml.SafeLoader):
    """Loader that refuses aliases (a few bytes may mean gigabytes) and keys given twice (one would be lost).

    To YAML 1.1 `010` is 8, `1:30` is 90 and `1_0` is 10. Here what isn't a decimal number stays text, which is refused
    at its place where a number has to be.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases are not supported")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    problem = f"key {key.value!r} is given twice"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def whole(self, node: yaml.ScalarNode) -> int | str:
        found = numbers.whole(node.value, -MAX_NUMBER, MAX_NUMBER)
        return str(node.value) if found is None else found

    def decimal(self, node: yaml.ScalarNode) -> float | str:
        found = numbers.decimal(node.value, -MAX_NUMBER, MAX_NUMBER)
        return str(node.value) if found is None else found


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.whole)
_StrictLoader.add_constructor("tag:yaml.org,2002:float", _StrictLoader.decimal)
