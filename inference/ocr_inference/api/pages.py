"""Reading of one page, as all dialects do it: choose the model, check the task, ask the engine, make the answer."""

from collections.abc import Iterator

from ocr_inference import families
from ocr_inference.api import schema
from ocr_inference.api.schema import OcrAnswer, OcrRequest
from ocr_inference.config.settings import Config, ModelConfig
from ocr_inference.errors import ApiError
from ocr_inference.families import Family
from ocr_inference.protocol.engine import InferRequest, PageResult
from ocr_wire.tasks import LOCATING, Task


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


def infer_request(picture: bytes, asked: OcrRequest, max_pixels: int) -> InferRequest:
    """Turn a request into what its worker gets."""
    return InferRequest(
        image=picture,
        max_pixels=max_pixels,
        task=asked.task,
        prompt=asked.custom_prompt,
        find_term=asked.find_term,
        resolution=asked.resolution,
        grounding=asked.grounding,
        max_tokens=asked.max_tokens,
        loop_guard=asked.loop_guard,
    )


def answer(
    page: PageResult,
    asked: OcrRequest,
    model: ModelConfig,
    *,
    backend: str,
    waited: float,
    prefix: str = "",
) -> OcrAnswer:
    """Make the answer of a page that was read; `prefix` is put before the names of options without effect."""
    family = families.of_page(model.engine, page)
    text, boxes = families.read(model.engine, asked.task, asked.find_term, page)
    if not (family.writes or asked.grounding or asked.task in LOCATING):
        # A language model writes places where it was prompted to; other engines always find them.
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
    if ignored := (*asked.ignored, *_without_effect(asked, family, prefix)):
        metadata["ignored_fields"] = list(ignored)
    return OcrAnswer(
        text=text,
        raw_text=page.text,
        boxes=boxes,
        image_dims=schema.Dimensions(page.width, page.height),
        prompt_type=asked.task,
        metadata=metadata,
    )


def _without_effect(asked: OcrRequest, family: Family, prefix: str) -> Iterator[str]:
    """Yield options that are known and have no effect on the model that read the page."""
    if asked.resolution is not None and asked.resolution not in family.resolutions:
        yield f"{prefix}resolution"
    if not family.writes:
        if asked.max_tokens is not None:
            yield "max_tokens"
        if not asked.loop_guard:
            yield f"{prefix}loop_guard"
