"""Processors of chat models, put together from a checkpoint's files, and pages put to them.

Only classes of transformers are used, and of them those that work without torchvision: pictures are resized by
Pillow, and parts of processors that are for videos are left out.
"""

import inspect
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from tokenizers import Tokenizer
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)
from transformers.models.auto.auto_mappings import PROCESSOR_MAPPING_NAMES

from ocr_inference.checkpoints.sources import faults
from ocr_inference.engines import pictures
from ocr_inference.engines.transformers import configs, errors
from ocr_inference.engines.transformers.inputs import Inputs, one_alone, tokens_left
from ocr_inference.families import chat, page_size
from ocr_inference.families.loops import LoopGuard
from ocr_inference.protocol.engine import EngineError, Failure, FailureKind, InferRequest
from ocr_wire.tasks import Task

PROCESSOR: Final = "processor_config.json"
PREPROCESSOR: Final = "preprocessor_config.json"
TOKENIZER: Final = "tokenizer_config.json"
_LEFT_OUT: Final = frozenset({"attention_mask", "token_type_ids"})
"""Outputs of processors that aren't used: a single page has no padding, so its mask has no information."""


@dataclass(frozen=True)
class Chat:
    """Builds the inputs of a model that is prompted by a chat."""

    model_type: str
    processor: ProcessorMixin
    dtype: torch.dtype
    max_context: int
    guard: LoopGuard
    _one_by_one: threading.Lock = field(default_factory=threading.Lock)
    """Lock around tokenizers, which change their own settings while they work."""

    @property
    def tokenizer(self) -> Tokenizer:
        backend = self.processor.tokenizer.backend_tokenizer
        assert isinstance(backend, Tokenizer)
        return backend

    @property
    def image_mark(self) -> str | None:
        mark = getattr(self.processor, "image_token", None)
        return mark if isinstance(mark, str) else None

    def __call__(self, request: InferRequest) -> Inputs:
        if request.parts and self.processor.chat_template is None:
            raise one_alone()
        pages = pictures.decode_each(request)
        longest = page_size.side(request.read_at) if request.resolution is None else None
        sizes = [page_size.fitted(page.width, page.height, longest) for page in pages]
        words = chat.prompt(self.model_type, Task(request.task), request.prompt)
        with self._one_by_one:
            found = self._processed(list(map(pictures.scaled, pages, sizes)), words)
        tensors = {
            name: value.to(self.dtype) if torch.is_tensor(value) and value.is_floating_point() else value
            for name, value in found.items()
            if name not in _LEFT_OUT
        }
        length = int(tensors["input_ids"].shape[1])
        return Inputs(
            tensors,
            length,
            pages[0].width,
            pages[0].height,
            tokens_left(length, request.max_tokens, self.max_context),
            self.guard.banned if request.loop_guard else None,
            read_at=request.read_at if sizes != [page.size for page in pages] else None,
        )

    def smaller(self, request: InferRequest, read: Inputs | None) -> tuple[str, ...]:
        """Return the sizes below the one that a page was `read` at, largest first."""
        if read is None:
            return page_size.smaller_sides(page_size.side(request.read_at) or page_size.LONGEST_SIDE)
        longest = page_size.side(read.read_at) or max(read.width, read.height)
        return page_size.smaller_sides(longest)

    def _processed(self, pages: Sequence[Any], words: str) -> Mapping[str, Any]:
        try:
            if self.processor.chat_template is None:
                # GOT-OCR2: its processor replaces the picture's mark, and its prompt is fixed.
                found = self.processor(
                    images=list(pages), text=[chat.got_ocr2_text(words)], return_tensors="pt"
                )
            else:
                content: list[dict[str, Any]] = [{"type": "image", "image": page} for page in pages]
                if words:
                    content.append({"type": "text", "text": words})
                found = self.processor.apply_chat_template(
                    [{"role": "user", "content": content}],  # type: ignore[arg-type]
                    add_generation_prompt=True,
                    tokenize=True,
                    return_dict=True,
                    return_tensors="pt",
                    # What a person wrote is text, also where it looks like the marks of pictures or turns.
                    sanitize_control_tokens=True,
                )
        except Exception as error:
            if errors.ran_out(error):
                raise
            # Pages of odd proportions end here, and templates, which are untrusted programs in a sandbox.
            message = f"the model's processor can't take this page: {faults.shown(str(error))}"
            raise EngineError(Failure(kind=FailureKind.UNSUPPORTED, message=message)) from error
        return dict(found)


def open_chat(
    folder: Path, model_type: str, config: PreTrainedConfig, dtype: torch.dtype, max_context: int
) -> Chat:
    """Open the processor; raises `EngineError` that names file and field."""
    processor = _processor(folder, model_type, config)
    if processor.chat_template is None and model_type != chat.GOT_OCR2:
        raise faults.invalid(
            "chat_template.jinja", "", f"is missing: models of type {model_type} are asked in a chat"
        )
    if getattr(processor.tokenizer, "backend_tokenizer", None) is None:
        raise faults.invalid(TOKENIZER, "tokenizer_class", "is one without tokenizer.json, which is needed")
    return Chat(model_type, processor, dtype, max_context, guard(processor.tokenizer))


def guard(tokenizer: PreTrainedTokenizerBase) -> LoopGuard:
    """Return the family's guard, with this tokenizer's own tags of table cells allowed where they are tokens."""
    vocabulary = tokenizer.get_vocab()
    allowed = frozenset(vocabulary[tag] for tag in chat.CELL_TAGS if tag in vocabulary)
    return LoopGuard(chat.GUARD.ngram, chat.GUARD.window, allowed)


def _processor(folder: Path, model_type: str, config: PreTrainedConfig) -> ProcessorMixin:
    kind, where = _processor_class(folder, model_type)
    local = {"trust_remote_code": False, "local_files_only": True}
    name = TOKENIZER
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, config=config, **local)
        name = PREPROCESSOR
        image_processor = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            folder, config=config, backend="pil", **local
        )
        name = where
        parts = {"tokenizer": tokenizer, "image_processor": image_processor}
        settings, _ = kind.get_processor_dict(folder, local_files_only=True)
        names = kind.get_attributes()  # type: ignore[no-untyped-call]
        processor = kind.from_args_and_dict([parts.get(each) for each in names], settings)
        assert isinstance(processor, ProcessorMixin)
    except Exception as error:
        # OSError for missing files, ValueError, KeyError and more for odd ones, ImportError for absent libraries.
        raise faults.invalid(name, "", f"gives no processor: {faults.shown(str(error))}") from error
    if processor.chat_template is None:
        processor.chat_template = tokenizer.chat_template
    return processor


def _processor_class(folder: Path, model_type: str) -> tuple[type[ProcessorMixin], str]:
    """Return a class of transformers: the one that the files name if it is one, else the model type's."""
    for file in (PROCESSOR, PREPROCESSOR, TOKENIZER):
        name = configs.read_object(folder, file).get("processor_class")
        if isinstance(name, str) and (found := _known_processor(name)):
            return found, file
    if found := _known_processor(PROCESSOR_MAPPING_NAMES.get(model_type, "")):
        return found, PROCESSOR
    raise faults.invalid(
        PROCESSOR, "processor_class", f"names no known processor for models of type {model_type}"
    )


def _known_processor(name: str) -> type[ProcessorMixin] | None:
    """Return the parts by name, those for videos and sound made optional."""
    if name not in PROCESSOR_MAPPING_NAMES.values():
        return None
    found = getattr(transformers, name, None)
    if not inspect.isclass(found) or not issubclass(found, ProcessorMixin):
        return None

    class OfPictures(found):  # type: ignore[valid-type, misc]
        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            if argument is None and argument_name in ("video_processor", "feature_extractor"):
                return None
            return super().check_argument_for_proper_class(argument_name, argument)

    OfPictures.__name__ = found.__name__
    return OfPictures
