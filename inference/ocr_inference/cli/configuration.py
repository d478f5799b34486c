"""Configuration that a command works by: of FILE, of a model that is named, or the default one."""

import logging
from pathlib import Path

from ocr_inference.cli import named
from ocr_inference.config import parsing
from ocr_inference.config.settings import MAX_FILE_BYTES, Config, InvalidSettings, ModelConfig

log = logging.getLogger(__name__)


def load(path: Path | None, of_environment: ModelConfig | None = None) -> Config:
    """Return the FILE's content; without one, that of a server with the named model, or with the default one."""
    if path is None:
        return Config() if of_environment is None else Config(models=(of_environment,))
    if of_environment is not None:
        log.warning("LOCAL_MODEL_PATH and MODEL_NAME have no effect: the FILE names the models")
    try:
        with path.open("rb") as file:
            return parsing.parse_config(file.read(MAX_FILE_BYTES + 1).decode())
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"can't read it: {error}", str(path)) from error
    except InvalidSettings as error:
        raise InvalidSettings(f"{error.param}: {error.message}", str(path)) from error


def of_model(word: str, engine: str | None) -> Config:
    """Return the configuration of a server with one model; raises `InvalidSettings`."""
    return Config(models=(named.model(word, engine, is_folder=Path(word).is_dir()),))
