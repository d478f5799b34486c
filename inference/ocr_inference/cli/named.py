"""Model that a command line names without a FILE: a repository of a hub, a folder, or one that is built in; pure."""

from typing import Final

import msgspec

from ocr_inference.config import environment
from ocr_inference.config.settings import DEFAULT_MODELS, Config, InvalidSettings, ModelConfig
from ocr_wire import engines
from ocr_wire.live_settings import IdleValues
from ocr_wire.text import shown

BUILT_IN: Final = {each.name: each for each in DEFAULT_MODELS}
"""Models that come with an engine; `fake` is the one for tests."""


def model(word: str, engine: str | None, *, is_folder: bool) -> ModelConfig:
    """Return the model; `is_folder` is whether there is a folder of that name. Raises `InvalidSettings`."""
    if word in BUILT_IN and not is_folder:
        found = BUILT_IN[word]
        if engine not in (None, found.engine):
            raise InvalidSettings(
                f"{word} is built into engine {found.engine}: leave --engine out", "--engine"
            )
        return found
    if engine == "fake":
        return ModelConfig(name="fake", engine="fake")
    try:
        found = environment.model_of(word, "--model", is_folder=is_folder, engine=engine or "transformers")
    except InvalidSettings:
        message = (
            f"expected a repository such as deepseek-ai/DeepSeek-OCR, a folder, or {', '.join(BUILT_IN)}; "
            f"got {shown(word)!r}"
        )
        raise InvalidSettings(message, "--model") from None
    for _, broken in engines.broken_rules(found.engine, has_source=True):
        raise InvalidSettings(broken, "--engine")
    return found


def with_idle_time(config: Config, seconds: float | None) -> Config:
    """Return the configuration with models that are offloaded after that idle time, whatever it says of it."""
    if seconds is None:
        return config
    after = IdleValues(offload_after_seconds=seconds)
    models = tuple(msgspec.structs.replace(each, idle=_over(each.idle, after)) for each in config.models)
    return msgspec.structs.replace(config, idle=_over(config.idle, after), models=models)


def _over(idle: IdleValues, after: IdleValues) -> IdleValues:
    return msgspec.structs.replace(idle, offload_after_seconds=after.offload_after_seconds)
