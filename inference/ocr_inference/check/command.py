"""Carries out `ocr-inference check`: reads, judges, prints, and returns the exit code."""

import platform
from collections.abc import Callable, Mapping
from typing import TextIO

import msgspec

from ocr_inference import __version__
from ocr_inference.check import machine, models, verdict, words
from ocr_inference.check.facts import Facts, Report
from ocr_inference.checkpoints.sources import cache
from ocr_inference.config.settings import Config, Settings
from ocr_wire.engines import BY_NAME


def run(
    settings: Settings,
    config: Config,
    environ: Mapping[str, str],
    *,
    as_json: bool,
    out: TextIO,
    redact: Callable[[str], str],
) -> int:
    """Check and print; returns 0 where a server would work, else 1."""
    facts = read(settings, config, environ)
    findings = verdict.judge(facts)
    ok = all(each.level != "problem" for each in findings)
    report = Report(ok=ok, findings=findings, facts=facts)
    text = (
        msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n"
        if as_json
        else words.render(report)
    )
    out.write(redact(text))
    out.flush()
    return 0 if ok else 1


def read(settings: Settings, config: Config, environ: Mapping[str, str]) -> Facts:
    """Read all facts. Takes seconds where torch is asked."""
    device = machine.device(settings)
    uuid = device.uuid if device.kind == "cuda" else None
    driver, gpus = machine.driver(uuid)
    engines = tuple(machine.interpreted(each, environ) for each in models.installed(config, environ))
    asks_torch = any(BY_NAME[each.name].extra == "transformers" and not each.missing for each in engines)
    return Facts(
        version=__version__,
        python=platform.python_version(),
        device=device,
        driver=driver,
        gpus=gpus,
        torch=machine.torch(environ, uuid) if asks_torch else None,
        engines=engines,
        models=tuple(models.read(each, device, environ, settings.cache_dir) for each in config.models),
        cache=machine.cache(settings.cache_dir, cache.location(environ, settings.cache_dir)),
        limits=machine.process_limits(settings, len(config.models)),
        port=machine.port(settings),
        tokens=machine.token_files(settings),
        live_settings=machine.live_settings_file(settings, config),
    )
