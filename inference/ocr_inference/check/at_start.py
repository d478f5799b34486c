"""Looks at the start of a server for what would keep its models from being loaded by the first page."""

import logging
from collections.abc import Mapping

from ocr_inference.check import machine, models, verdict
from ocr_inference.checkpoints.sources import cache
from ocr_inference.config.settings import Config, InvalidSettings, Settings

log = logging.getLogger(__name__)


def look(settings: Settings, config: Config, environ: Mapping[str, str]) -> None:
    """Log an error for each fault. Where no model can be loaded, raises `InvalidSettings` instead; not in a pod, whose
    state says the same to the operator, and a crash loop would say less."""
    engines = {engine.name: engine for engine in models.installed(config, environ)}
    found, hopeless = verdict.at_start(
        [
            (engines[model.engine], models.find(model, environ, settings.cache_dir)[0])
            for model in config.models
        ],
        machine.cache(settings.cache_dir, cache.location(environ, settings.cache_dir)),
    )
    if hopeless and not settings.pod_name:
        raise InvalidSettings("; ".join(each.message for each in found), "serve")
    for each in found:
        log.error("%s", each.message)
