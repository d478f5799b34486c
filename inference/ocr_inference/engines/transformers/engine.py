"""Vision-language models by transformers: pages in, text out, several pages at once, token by token.

Weights are one flat buffer in the host tier and, while ready on a device, one there (`loading`, `torchweights`); pages
are prepared by threads beside the device (`checkpoints`) and written together (`generation`). No code that comes with a
checkpoint is ever run.

A page that fails fails alone. Where memory runs out, a page waits for one that is being written to end, and fails only
if it is alone; a CUDA error that sticks ends the process, since nothing else frees the device.
"""

import functools
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import replace

import torch
from torch import Tensor
from transformers.utils import logging as library_logging

from ocr_inference import limits
from ocr_inference.engines import pictures, stepping
from ocr_inference.engines.transformers import errors, generation, joining, memory, packing, vision
from ocr_inference.engines.transformers.features import MIB, Features, digest
from ocr_inference.engines.transformers.generation import Generator, Prompt, Written
from ocr_inference.engines.transformers.inputs import Inputs
from ocr_inference.engines.transformers.loading import Weights
from ocr_inference.engines.transformers.page import PageState, prepare
from ocr_inference.engines.transformers.text import Pieces
from ocr_inference.protocol.engine import (
    Delta,
    EngineError,
    Event,
    Failure,
    FailureKind,
    Footprint,
    InferRequest,
    ModelSpec,
    PageResult,
    Report,
)
from ocr_inference.protocol.host_tier import HostTier
from ocr_inference.protocol.memory_use import DeviceUse
from ocr_wire import engines

log = logging.getLogger(__name__)

PRELOAD = (
    *pictures.DECODERS,
    "transformers.generation.utils",
    "transformers.models.auto.processing_auto",
    "transformers.models.auto.video_processing_auto",
    "transformers.models.deepseek_ocr2.modeling_deepseek_ocr2",
    "transformers.models.unlimited_ocr.modeling_unlimited_ocr",
)
"""Modules that a load and a first page import beyond this one; a forkserver imports them, too."""
PROMPT_TOKENS = 2048
"""Most tokens of prompts that are read in before pages that are being written get their next token, but for a longer
prompt. A step takes less a page the more pages it has, so those that wait should join soon. vLLM's is the same."""
PREPARING = 2
"""Threads that decode pages and cut them into tiles while other pages are written."""
_POLL_SECONDS = 0.05
"""Longest time that a step waits for a page to be prepared where there is nothing else to do."""


class TransformersEngine:
    """`SteppingEngine` of one vision-language model."""

    def __init__(
        self, weights: Weights, max_batch: int, features: Features, measure: Callable[[], DeviceUse | None]
    ) -> None:
        """Prepare; `measure` returns the use of the device, as `device_use` does."""
        self.max_batch = max_batch
        self._features = features
        self._measure = measure
        self._weights = weights
        self._pages: dict[int, PageState] = {}
        """All pages in the engine, in the order in which they came."""
        self._generator: Generator | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._joins = True
        """Whether the model takes several prompts at once, as far as is known."""
        self._short_of_memory = False
        """Whether new pages wait until one that is being written has ended."""

    # --- life cycle -------------------------------------------------------------------------------------------

    def load(self) -> Footprint:
        with errors.device_errors():
            self._weights.load()
        return self._weights.footprint()

    def offload(self) -> Footprint:
        self._forget_pages()
        with errors.device_errors():
            self._weights.offload()
        return self._weights.footprint()

    def stand_by(self) -> Footprint:
        self._weights.stand_by()
        return self._weights.footprint()

    def restore(self) -> Footprint:
        with errors.device_errors():
            self._weights.restore()
        return self._weights.footprint()

    def unload(self) -> Footprint:
        self._forget_pages()
        self._generator = None
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
            self._threads = None
        self._weights.unload()
        return self._weights.footprint()

    def _forget_pages(self) -> None:
        for page in self._pages.values():
            page.job.cancel()
        self._pages.clear()
        self._features.clear()
        self._short_of_memory = False
        if self._generator is not None:
            self._generator.clear()

    # --- pages ------------------------------------------------------------------------------------------------

    @property
    def free_slots(self) -> int:
        return self.max_batch - len(self._pages)

    def admit(self, number: int, request: InferRequest) -> None:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(PREPARING, "prepare")
        job = self._threads.submit(self._prepare, request, self._measure())
        self._pages[number] = PageState(number, request, time.perf_counter(), job, Pieces(self._decode))

    def _prepare(self, request: InferRequest, use: DeviceUse | None = None) -> Inputs:
        opened = self._weights.opened
        inputs = prepare(opened, request, use)
        names = vision.arguments(opened.model) if self._features.may_keep(inputs.tensors) else None
        return inputs if names is None else replace(inputs, picture=digest(inputs.tensors, names))

    def _decode(self, tokens: Sequence[int]) -> str:
        return self._weights.opened.decode(tokens)

    def cancel(self, number: int) -> bool:
        if (page := self._pages.pop(number, None)) is not None:
            page.job.cancel()
            if self._generator is not None:
                self._generator.drop(number)
            self._short_of_memory = False
        return True

    def step(self) -> list[Event]:
        """Begin with the pages that are prepared, then write a token of each."""
        try:
            events = self._begin_pages()
            return events + self._write()
        except BaseException:
            self._forget_pages()
            raise

    def infer(self, requests: Sequence[InferRequest]) -> list[PageResult | Failure]:
        """Read all pages to their end; for callers that don't step."""
        return stepping.read(self, requests)

    def clean_up(self) -> None:
        self._features.clear()
        memory.release(self._weights.device)

    def device_use(self) -> DeviceUse | None:
        return self._measure()

    def _begin_pages(self) -> list[Event]:
        writing = self._writing()
        waiting = [page for page in self._pages.values() if page.number not in writing]
        if not waiting or self._short_of_memory:
            return []
        if not writing:
            wait([page.job for page in waiting], _POLL_SECONDS, FIRST_COMPLETED)
        ready = [page for page in waiting if page.job.done()]
        events = self._look_at([page for page in ready if page.prompt is None])
        prompts = {page.number: page.prompt for page in ready if page.prompt is not None}
        read = 0
        for group in self._groups(prompts):
            tokens = sum(prompt.length for prompt in group.values())
            if read and read + tokens > PROMPT_TOKENS:
                break  # those that are being written go on in between
            events += self._begin(group)
            read += tokens
        return events

    def _groups(self, prompts: Mapping[int, Prompt]) -> list[dict[int, Prompt]]:
        numbers = list(prompts)
        tensors = [prompt.tensors for prompt in prompts.values()]
        sizes = [prompt.length for prompt in prompts.values()]
        most = self._writer().most_together if numbers and self._joins else 0
        found = joining.groups(tensors, sizes, most)
        return [{numbers[each]: prompts[numbers[each]] for each in group} for group in found]

    def _look_at(self, pages: Sequence[PageState]) -> list[Event]:
        """Bring pages to the device and encode their pictures, all together."""
        events: list[Event] = []
        for page in pages:
            events += self._try(page, functools.partial(self._bring, page))
        brought = [page for page in pages if page.prompt is not None]
        if not brought:
            return events
        prompts = [page.prompt for page in brought if page.prompt is not None]
        model = self._weights.opened.model
        for page, prompt in zip(brought, vision.seen(model, prompts, self._features), strict=True):
            page.prompt = prompt
        return events

    def _bring(self, page: PageState) -> list[Event]:
        inputs = page.inputs
        features = self._features.get(inputs.picture, self._weights.device)
        needed = inputs.tensors if features is None else vision.without_pixels(inputs.tensors)
        tensors = {name: self._on_device(value) for name, value in needed.items()}
        prompt = Prompt(tensors, inputs.max_new_tokens, inputs.banned, inputs.picture)
        page.prompt = prompt if features is None else vision.encoded(prompt, features)
        return []

    def _begin(self, group: Mapping[int, Prompt]) -> list[Event]:
        """Read prompts in together, or where that can't be done each by itself, so that a page fails alone."""
        refused = False
        if len(group) > 1 and not self._short_of_memory:
            written, refused = self._together(group)
            if written:
                return self._events_of(written)
        events: list[Event] = []
        for number, prompt in group.items():
            if not self._short_of_memory:
                events += self._try(self._pages[number], functools.partial(self._alone, number, prompt))
        if refused and not any(isinstance(event, Failure) for _, event in events):
            log.warning(
                "prompts are read in one by one from now on, since each of these can be read by itself"
            )
            self._joins = False
        return events

    def _together(self, group: Mapping[int, Prompt]) -> tuple[list[Written], bool]:
        """Return what was written of all of them, or nothing, and whether that wasn't for lack of memory."""
        try:
            return self._writer().begin(group), False
        except Exception as error:
            errors.raise_if_broken(error)
            refused = not errors.ran_out(error)
            why = errors.shown(f"{len(group)} prompts can't be read in together", error)
            log.warning("%s", why, exc_info=error if refused else None)
        self.clean_up()
        return [], refused

    def _alone(self, number: int, prompt: Prompt) -> list[Event]:
        return self._events_of(self._writer().begin({number: prompt}))

    def _try(self, page: PageState, work: Callable[[], list[Event]]) -> list[Event]:
        """Work on one page, before it is being written; its failure is its own."""
        failure: Failure | None = None
        try:
            return work()
        except EngineError as error:
            failure = error.failure
        except Exception as error:
            errors.raise_if_broken(error)
            if errors.ran_out(error):
                failure = page.out_of_memory(
                    self._weights.opened, errors.shown("no memory for the page", error)
                )
            else:
                log.exception("the model refused the page")
                failure = Failure(
                    kind=FailureKind.FAILED, message=errors.shown("the model refused the page", error)
                )
        if failure.kind is FailureKind.OUT_OF_MEMORY:
            # Only now is the traceback gone that held on to what was allocated.
            self.clean_up()
            if self._writing():
                log.warning("page waits for memory: %s", failure.message)
                self._short_of_memory = True
                return []
        del self._pages[page.number]
        return [(page.number, failure)]

    def _write(self) -> list[Event]:
        """Write a token of each page that has begun; where memory runs out, the newest page fails."""
        if (generator := self._generator) is None:
            return []
        before = generator.numbers
        message = ""
        try:
            return self._events_of(generator.step())
        except Exception as error:
            errors.raise_if_broken(error)
            if not errors.ran_out(error):
                raise
            message = errors.shown("no memory for the page's text", error)
        lost = set(before) - set(generator.numbers) or {before[-1]}
        events: list[Event] = []
        for number in lost:
            generator.drop(number)
            events.append((number, self._pages.pop(number).out_of_memory(self._weights.opened, message)))
        self.clean_up()
        self._short_of_memory = bool(generator.numbers)
        return events

    def _events_of(self, written: Sequence[Written]) -> list[Event]:
        events: list[Event] = []
        for each in written:
            page = self._pages[each.number]
            piece = ""
            if each.token is not None:
                page.tokens += 1
                piece = page.pieces.add(each.token)
            if each.end is not None:
                piece += page.pieces.rest()
            if piece:
                page.text.append(piece)
                prompt_tokens = page.inputs.prompt_tokens
                delta = Delta(text=piece, prompt_tokens=prompt_tokens, completion_tokens=page.tokens)
                events.append((each.number, delta))
            if each.end is not None:
                events.append((each.number, self._result(page, each)))
                del self._pages[each.number]
                self._short_of_memory = False
                self._weights.pin()
        return events

    def _result(self, page: PageState, last: Written) -> PageResult:
        return PageResult(
            text="".join(page.text),
            width=page.inputs.width,
            height=page.inputs.height,
            finish_reason=last.end or "stop",
            prompt_tokens=page.inputs.prompt_tokens,
            completion_tokens=page.tokens,
            seconds=time.perf_counter() - page.began,
            family=self._weights.opened.family.name,
            shortage=page.inputs.shortage,
        )

    def _writing(self) -> Sequence[int]:
        """Return the pages that have begun."""
        return [] if self._generator is None else self._generator.numbers

    def _writer(self) -> Generator:
        if self._generator is None:
            opened = self._weights.opened
            self._generator = generation.of(opened.model, opened.eos_ids)
        return self._generator

    def _on_device(self, value: object) -> object:
        return value.to(self._weights.device, non_blocking=True) if isinstance(value, Tensor) else value


def create(spec: ModelSpec, host: HostTier, report: Report) -> TransformersEngine:
    options = engines.with_defaults("transformers", spec.options)
    threads = int(options["threads"]) or limits.threads()
    if spec.device == "cuda" and spec.gpu_uuid is not None:
        # Read when CUDA starts, which nothing has done yet in this process.
        os.environ["CUDA_VISIBLE_DEVICES"] = spec.gpu_uuid
    torch.set_num_threads(threads)
    # Bars are no lines of a log, and what it warns of are its defaults; what matters is reported or raised.
    library_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    library_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    terms = packing.Terms() if options["pack_weights"] else None
    weights = Weights(spec, host, report, os.environ, terms)
    features = Features(int(options["vision_cache_mib"]) * MIB)
    measure = functools.partial(_use_of, weights)
    return TransformersEngine(weights, int(options["max_batch"]), features, measure)


def _use_of(weights: Weights) -> DeviceUse | None:
    return memory.device_use(weights.device)
