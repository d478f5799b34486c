"""What a check found, for people: one line a subject, then the findings, then what follows."""

from collections.abc import Iterator

from ocr_inference.check.facts import Facts, Gpu, Model, Report
from ocr_inference.check.verdict import size

WIDTH = 9
"""Of the column of subjects."""


def render(report: Report) -> str:
    """Return the text."""
    facts = report.facts
    lines = [f"ocr-inference {facts.version}, Python {facts.python}", ""]
    before = ""
    for subject, words in _lines(facts):
        lines.append(f"{'' if subject == before else subject:{WIDTH}} {words}")
        before = subject
    if report.findings:
        lines.append("")
        lines += [f"{each.level:{WIDTH}} {each.message}" for each in report.findings]
    problems = sum(each.level == "problem" for each in report.findings)
    end = "This works." if report.ok else f"This doesn't work: {problems} problem{'s' * (problems > 1)}."
    return "\n".join([*lines, "", end, ""])


def _lines(facts: Facts) -> Iterator[tuple[str, str]]:
    device, torch = facts.device, facts.torch
    if device.kind is None:
        yield "device", f"{device.requested}: not here"
    elif device.kind == "cpu":
        yield "device", "cpu"
    else:
        yield "device", f"{device.kind}: {device.product} {device.uuid}, {size(device.memory_total_bytes)}"
    if facts.driver.version is not None:
        yield "driver", f"NVIDIA {facts.driver.version}, CUDA up to {facts.driver.cuda_version}"
    for gpu in facts.gpus:
        words = f"{gpu.index}: {gpu.product} {gpu.uuid}, {_free(gpu)}"
        capability = (
            "" if gpu.compute_capability is None else f", compute capability {gpu.compute_capability}"
        )
        yield "gpus", f"{words}{capability}, {gpu.dtype}{' (served)' if gpu.served else ''}"
    if torch is not None and torch.version is not None:
        build = "CPUs" if torch.cuda_version is None else f"CUDA {torch.cuda_version}"
        able = ", computes on the GPU" if torch.computes_on_gpu else ""
        flash = "no flash-attn" if torch.flash_attention is None else f"flash-attn {torch.flash_attention}"
        yield "torch", f"{torch.version} for {build}{able}; transformers {torch.transformers}; {flash}"
    for engine in facts.engines:
        if engine.runs is not None:
            yield "engines", f"{engine.name} {engine.runs}, by a Python of its own"
    for model in facts.models:
        yield "models", f"{model.name} ({model.engine}): {_model(model)}"
    free = "" if facts.cache.free_bytes is None else f", {size(facts.cache.free_bytes)} free"
    yield "cache", f"{facts.cache.path}: {'writable' if facts.cache.writable else 'not writable'}{free}"
    limits, port = facts.limits, facts.port
    limit = "" if limits.memory_limit_bytes is None else f" of {size(limits.memory_limit_bytes)}"
    left = f"{size(limits.memory_left_bytes)}{limit} of host memory left"
    yield "limits", f"{limits.cores:g} cores, {limits.threads} threads, {left}"
    served = "too few to serve" if limits.connections is None else f"{limits.connections} requests at a time"
    yield "limits", f"{limits.open_files} open files: {served}"
    held = "served" if port.served else "free" if port.problem is None else "not free"
    yield "port", f"{port.host or '*'}:{port.port} is {held}"
    for tokens in facts.tokens:
        yield "tokens", f"{tokens.variable}: {'read' if tokens.usable else 'not usable'}"
    if (live := facts.live_settings) is not None:
        declared = f"revision {live.revision}" if live.problem is None else "not usable"
        yield "live", f"OCR_LIVE_SETTINGS_FILE: {declared}"


def _free(gpu: Gpu) -> str:
    return f"{size(gpu.memory_free_bytes)} of {size(gpu.memory_total_bytes)} free"


def _model(model: Model) -> str:
    if model.on == "cpu":
        return "on the CPU"
    words = {"yes": "fits", "not_now": "doesn't fit now", "no": "doesn't fit", "unknown": "size not known"}[
        model.fits
    ]
    return words if model.need_bytes is None else f"{words}, {size(model.need_bytes)} by {model.need_from}"
