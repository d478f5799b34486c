"""Parts of the reading of a page that are pure: choose the model, check the task, ask the engine, make the answer."""

from collections.abc import Iterator

from msgspec import UNSET

from ocr_inference import families
from ocr_inference.api import schema
from ocr_inference.api.schema import OcrAnswer, OcrRequest
from ocr_inference.config.settings import Config, ModelConfig
from ocr_inference.errors import ApiError
from ocr_inference.families import Family
from ocr_inference.protocol.engine import PageOptions, PageResult
from ocr_wire.tasks import LOCATING, Task

SHORT_CHARACTERS = 4096
SHORT_LINES = 64


def choose_model(config: Config, name: str | None) -> ModelConfig:
    """Return the named model, or the first one; raises 404 that lists them."""
    if name is None:
        return config.models[0]
    if (model := config.model(name)) is None:
        known = ", ".join(each.name for each in config.models)
        raise ApiError(
            404, "model_not_found", f"no model {name[:80]!r} here; there are {known}", param="model"
        )
    return model


def refuse_unsupported(task: Task, model: ModelConfig, family: Family, param: str = "prompt_type") -> None:
    """Raise 422 where the model's family can't do the task."""
    if task not in family.tasks:
        known = ", ".join(family.tasks)
        raise ApiError(
            422,
            "unsupported_task",
            f"model {model.name!r} (engine {model.engine}) can't do {task.value!r}; it can do {known}",
            param=param,
        )


def options(asked: OcrRequest, max_pixels: int) -> PageOptions:
    """Turn a request into what its worker gets beside the page."""
    return PageOptions(
        max_pixels=max_pixels,
        task=asked.task,
        prompt=asked.custom_prompt,
        find_term=asked.find_term,
        resolution=asked.resolution,
        grounding=asked.grounding,
        max_tokens=asked.max_tokens,
        loop_guard=asked.loop_guard,
    )


def is_short(page: PageResult) -> bool:
    """Return whether the answer of a page is made sooner than a thread would begin with it."""
    return len(page.text) <= SHORT_CHARACTERS and len(page.lines) <= SHORT_LINES


def answer(
    page: PageResult,
    asked: OcrRequest,
    model: ModelConfig,
    *,
    backend: str,
    waited: float,
    prefix: str = "",
    lines: bool = False,
) -> OcrAnswer:
    """Make the answer of a page that was read, with its texts and their places if `lines` says so; `prefix` is put
    before the names of options without effect."""
    family = families.of_page(model.engine, page)
    raw_text = page.text
    if family.placed is None:
        text, boxes = family.read(asked.task, asked.find_term, page)
    elif asked.grounding or asked.task in LOCATING:
        text, boxes, placed = family.placed(asked.task, asked.find_term, page)
        raw_text = placed or raw_text
    else:
        # A language model writes places where it was prompted to; other engines always find them.
        text, _ = family.read(asked.task, asked.find_term, page)
        boxes = ()
    metadata: dict[str, object] = {
        "mode": asked.task.value,
        "backend": backend,
        "has_boxes": bool(boxes),
        "gpu_managed": True,
        "model": model.name,
        "engine": model.engine,
        "finish_reason": page.finish_reason,
        "wait_seconds": round(waited, 4),
        "engine_seconds": round(page.seconds, 4),
    }
    if family.writes:
        metadata |= {"prompt_tokens": page.prompt_tokens, "completion_tokens": page.completion_tokens}
    if page.shortage is not None:
        metadata["memory"] = page.shortage
    if ignored := (*asked.ignored, *_without_effect(asked, family, prefix)):
        metadata["ignored_fields"] = list(ignored)
    return OcrAnswer(
        text=text,
        raw_text=raw_text,
        boxes=boxes,
        image_dims=schema.Dimensions(page.width, page.height),
        prompt_type=asked.task,
        metadata=metadata,
        message="the page was read" if asked.wants_output_file else UNSET,
        output_file=None if asked.wants_output_file else UNSET,
        lines=family.lines(asked.task, page) if lines else UNSET,
    )


def _without_effect(asked: OcrRequest, family: Family, prefix: str) -> Iterator[str]:
    """Yield options that are known and have no effect on the model that read the page."""
    sized = asked.resolution is not None or "resolution" in asked.sent_as
    known = (None, *family.resolutions) if family.resolutions else ()
    if sized and asked.resolution not in known:
        yield from (f"{prefix}{name}" for name in asked.names("resolution"))
    if not family.writes:
        if asked.max_tokens is not None:
            yield "max_tokens"
        if not asked.loop_guard:
            yield f"{prefix}loop_guard"
