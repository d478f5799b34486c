"""Greedy writing of several pages at once: the next token of each page, and the end of a page.

`InSlots` decodes all pages together, one step for all rows, and takes new ones in between (`slots`). It calls the
model's own `forward`, so it needs to know how a model takes masks and positions: `unfit` checks that. `OneByOne` is for
all other models: a cache of transformers' own for each page, and a forward pass for each.

Tokens only: text, pictures, deadlines and failures are handled by the engine.
"""

import inspect
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from ocr_inference.engines.transformers import joining, positions
from ocr_inference.engines.transformers.slots import Slots

log = logging.getLogger(__name__)

MOST_TOGETHER = 1024
"""Tokens of prompts that are read in together: as many as one large page has, so they take no more memory than it."""

Banned = Callable[[Sequence[int]], Collection[int]]
"""Tokens written so far → tokens that must not come next."""

SLOT_TYPES = frozenset(
    {
        *("unlimited_ocr", "deepseek_ocr2", "glm_ocr", "got_ocr2", "paddleocr_vl", "lighton_ocr", "mistral3"),
        *("qwen2_vl", "qwen2_5_vl"),
    }
)
"""Model types whose forward was read and whose tokens were compared with their own `generate`."""


@dataclass(frozen=True)
class Prompt:
    """Page, ready for the model."""

    tensors: Mapping[str, Any]
    """Arguments of the model's `forward` besides the cache: `input_ids` `[1, n]`, pixels, …; on the model's device."""
    max_new_tokens: int
    banned: Banned | None = None
    picture: bytes | None = None
    """What its pictures are known by (`features.digest`)."""

    @property
    def length(self) -> int:
        return int(self.tensors["input_ids"].shape[1])


@dataclass(frozen=True)
class Written:
    """Next token of a page; None with the end of a page that its model ended itself."""

    number: int
    token: int | None
    end: Literal["stop", "length"] | None = None


class Generator(Protocol):
    """Writer of pages; all methods are called by one thread."""

    @property
    def numbers(self) -> Sequence[int]:
        """Numbers of the pages in it; higher ones came later."""

    @property
    def most_together(self) -> int:
        """Tokens of prompts up to which `begin` takes several in; 0 where each comes alone."""

    def begin(self, pages: Mapping[int, Prompt]) -> list[Written]:
        """Take pages in that are a group (`joining.groups`), and write the first token of each. Where this raises,
        nothing has changed."""

    def step(self) -> list[Written]:
        """Write a token of each page, or of the one whose turn it is; those that end leave.

        Where this raises, nothing has changed, except that a failing page leaves where pages take turns.
        """

    def drop(self, number: int) -> None:
        """Take a page out; unknown ones are ignored."""

    def clear(self) -> None:
        """Take all out and free the memory of their caches."""


@dataclass
class _Row:
    number: int
    prompt: Prompt
    length: int
    """Positions in the cache."""
    start: int
    """Start of the answer."""
    shift: int
    """Offset of positions against the place in the cache: pictures take fewer positions than tokens in some models."""
    tokens: list[int] = field(default_factory=list)

    @property
    def last(self) -> int:
        return self.tokens[-1]


def unfit(model: PreTrainedModel) -> str | None:
    """Return why this model can't be decoded in slots; None if it can."""
    kind = model.config.model_type
    if kind not in SLOT_TYPES:
        return f"model type {kind} was never tried with it"
    text = model.config.get_text_config(decoder=True)
    kinds = set(_layer_types(text))
    foreign = kinds - {"full_attention", "sliding_attention", "reference_sliding_attention"}
    if foreign:
        return f"it has layers of type {', '.join(sorted(foreign))}"
    if text._attn_implementation not in ("sdpa", "eager", "flash_attention_2"):
        return f"attention {text._attn_implementation} takes masks of its own"
    if text._attn_implementation == "flash_attention_2" and kinds != {"full_attention"}:
        return "flash attention takes no windows per page"
    return None


def of(model: PreTrainedModel, eos: Collection[int]) -> Generator:
    """Return the best writer that the model allows; a model whose pages can't be decoded together is logged with the
    reason."""
    if (reason := unfit(model)) is None:
        return InSlots(model, eos)
    log.warning("pages of this model are decoded one by one: %s", reason)
    return OneByOne(model, eos)


class InSlots:
    def __init__(self, model: PreTrainedModel, eos: Collection[int]) -> None:
        self._model: Any = model
        self._eos = frozenset(eos)
        text = model.config.get_text_config(decoder=True)
        self._attention = text._attn_implementation
        self._layer_types = _layer_types(text)
        self._window = int(getattr(text, "sliding_window", None) or 0)
        self._slots = Slots()
        self._rows: list[_Row] = []
        """In the order of their slots."""

    @property
    def numbers(self) -> Sequence[int]:
        return sorted(row.number for row in self._rows)

    @property
    def most_together(self) -> int:
        return MOST_TOGETHER

    @torch.inference_mode()
    def begin(self, pages: Mapping[int, Prompt]) -> list[Written]:
        positions.forget(self._model)
        held = self._slots.held
        cache = self._slots.open()
        tensors = joining.joined([prompt.tensors for prompt in pages.values()])
        try:
            logits = self._model(**tensors, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[
                :, -1
            ]
            shifts = positions.shifts(self._model, len(pages))
            rows = [
                _Row(number, prompt, cache.length, cache.length, shift)
                for (number, prompt), shift in zip(pages.items(), shifts, strict=True)
            ]
            written = _choose(logits, rows, self._eos)
        except BaseException:
            self._slots.forget(held)
            raise
        self._rows += rows
        self._slots.count += len(rows)
        self._remove_ended(written)
        return written

    @torch.inference_mode()
    def step(self) -> list[Written]:
        rows = self._rows
        if not rows:
            return []
        device = self._model.device
        lengths = [row.length for row in rows]
        # One copy to the device for everything that changes from step to step.
        table = torch.tensor([[row.last, row.length, row.length + row.shift] for row in rows], device=device)
        tokens, at, position_ids = table[:, :1], table[:, 1], table[:, 2:]
        # Elsewhere kernels are made for a length, and kept.
        exact = device.type == "cpu" and self._attention == "sdpa"
        cache = self._slots.step(lengths, at, exact=exact)
        logits = self._model(
            input_ids=tokens,
            position_ids=position_ids,
            attention_mask=self._mask(at, cache.length),
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]
        written = _choose(logits, rows, self._eos)
        for row in rows:
            row.length += 1
        self._remove_ended(written)
        return written

    @torch.inference_mode()
    def drop(self, number: int) -> None:
        self._remove(number)

    def clear(self) -> None:
        self._rows.clear()
        self._slots.clear()
        positions.forget(self._model)

    def _remove_ended(self, written: Sequence[Written]) -> None:
        for each in written:
            if each.end is not None:
                self._remove(each.number)

    def _remove(self, number: int) -> None:
        for slot, row in enumerate(self._rows):
            if row.number == number:
                last = self._rows.pop()
                if last is not row:
                    self._rows[slot] = last
                self._slots.remove(slot, last.length)
                return

    def _mask(self, at: Tensor, length: int) -> Tensor | dict[str, Tensor]:
        """Return which positions each row sees: those up to the one that it writes now (`at`)."""
        places = torch.arange(length, device=at.device)
        full = places <= at[:, None]
        if self._attention == "flash_attention_2":
            return full
        kinds = set(self._layer_types)
        masks = {}
        for kind in kinds:
            seen = full
            if kind != "full_attention":
                near = places > at[:, None] - self._window
                if kind == "reference_sliding_attention":  # a window, and the prompt
                    starts = torch.tensor([row.start for row in self._rows], device=at.device)
                    near |= places < starts[:, None]
                seen = full & near
            masks[kind] = self._as_attention_wants(seen[:, None, None, :])
        return masks if len(kinds) > 1 else masks.popitem()[1]

    def _as_attention_wants(self, seen: Tensor) -> Tensor:
        if self._attention == "sdpa":
            return seen
        dtype = self._model.dtype
        return torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)


class OneByOne:
    """Writer that computes a page alone, while pages take turns token by token, so that none waits for another's
    end."""

    def __init__(self, model: PreTrainedModel, eos: Collection[int]) -> None:
        self._model: Any = model
        self._eos = frozenset(eos)
        self._rows: list[_Row] = []
        self._states: dict[int, dict[str, Any]] = {}

    @property
    def numbers(self) -> Sequence[int]:
        return sorted(row.number for row in self._rows)

    @property
    def most_together(self) -> int:
        return 0

    @torch.inference_mode()
    def begin(self, pages: Mapping[int, Prompt]) -> list[Written]:
        ((number, prompt),) = pages.items()
        positions.forget(self._model)
        row = _Row(number, prompt, prompt.length, prompt.length, shift=0)
        ids = prompt.tensors["input_ids"]
        state = {name: value for name, value in prompt.tensors.items() if name != "input_ids"}
        state["past_key_values"] = DynamicCache(config=self._model.config)
        state["use_cache"] = True
        if "position_ids" in inspect.signature(self._model.forward).parameters:
            state["position_ids"] = self._model._prepare_position_ids_for_generation(ids, state)
        logits, state = self._forward(ids, state, first=True)
        (written,) = _choose(logits, [row], self._eos)
        if written.end is None:
            self._rows.append(row)
            self._states[number] = state
        return [written]

    @torch.inference_mode()
    def step(self) -> list[Written]:
        if not self._rows:
            return []
        row = self._rows.pop(0)
        # Gone, should this fail: its cache would be half a position longer than before.
        state = self._states.pop(row.number)
        prompt = row.prompt.tensors["input_ids"]
        ids = torch.cat([prompt, prompt.new_tensor([row.tokens])], dim=1)
        logits, state = self._forward(ids, state, first=False)
        (written,) = _choose(logits, [row], self._eos)
        if written.end is None:
            self._rows.append(row)
            self._states[row.number] = state
        return [written]

    def drop(self, number: int) -> None:
        self._rows = [row for row in self._rows if row.number != number]
        self._states.pop(number, None)

    def clear(self) -> None:
        self._rows.clear()
        self._states.clear()
        positions.forget(self._model)

    def _forward(self, ids: Tensor, state: dict[str, Any], *, first: bool) -> tuple[Tensor, dict[str, Any]]:
        """Do what `generate` does in a step, by the same methods."""
        model = self._model
        length = None if first else 1
        inputs = model.prepare_inputs_for_generation(
            ids, next_sequence_length=length, is_first_iteration=first, **state
        )
        outputs = model(**inputs, return_dict=True)
        return outputs.logits[:, -1], model._update_model_kwargs_for_generation(outputs, state)


def _choose(logits: Tensor, rows: Sequence[_Row], eos: frozenset[int]) -> list[Written]:
    """Return the likeliest token of each row that it isn't banned from, noted in the row."""
    # As `generate` does it: ties are decided between equals of the same precision.
    logits = logits.float()
    for index, row in enumerate(rows):
        banned = row.prompt.banned(row.tokens) if row.prompt.banned is not None else ()
        if banned:
            logits[index, list(banned)] = -torch.inf
    written = []
    for row, token in zip(rows, logits.argmax(dim=-1).tolist(), strict=True):
        if token in eos:
            written.append(Written(row.number, None, "stop"))
            continue
        row.tokens.append(token)
        full = len(row.tokens) >= row.prompt.max_new_tokens
        written.append(Written(row.number, token, "length" if full else None))
    return written


def _layer_types(text: Any) -> tuple[str, ...]:
    """Return the sliding window of each layer; configurations without the list have a window everywhere or nowhere."""
    if types := getattr(text, "layer_types", None):
        return tuple(types)
    kind = "full_attention" if getattr(text, "sliding_window", None) is None else "sliding_attention"
    return (kind,) * int(text.num_hidden_layers)
