"""What is written, token for token, against transformers' own greedy generation; pages that come, go and fail."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra `transformers`")

import torch
from transformers import PreTrainedModel

from ocr_inference.engines.transformers import generation, joining
from ocr_inference.engines.transformers.generation import Generator, InSlots, OneByOne, Prompt, Written
from tests.support import decoders
from tests.support.decoders import EOS

FULL, NEAR = "full_attention", "reference_sliding_attention"
MODELS: Mapping[str, Callable[[str], PreTrainedModel]] = {
    "qwen": decoders.qwen,
    "unlimited": lambda attention: decoders.unlimited(attention=attention),
    "unlimited, windows": lambda attention: decoders.unlimited((NEAR,) * 3, attention),
    "unlimited, both": lambda attention: decoders.unlimited((FULL, NEAR, FULL), attention),
    "mistral": decoders.mistral,
}


def prompts(name: str, count: int = 6) -> list[dict[str, Any]]:
    """Of several lengths; for the model that has pictures in its positions, with and without one."""
    if name != "qwen":
        return [decoders.words(seed) for seed in range(count)]
    return [decoders.words(seed) if seed == 3 else decoders.picture(seed) for seed in range(count)]


def mirrored(page: dict[str, Any]) -> dict[str, Any]:
    """Another prompt, or picture, of the same shape."""
    name = "pixel_values" if "pixel_values" in page else "input_ids"
    return {**page, name: page[name].flip(0 if name == "pixel_values" else 1)}


def limit(index: int) -> int:
    return 24 - 5 * (index % 4)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Such small models compute no faster with more, and tests run beside others."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Desk:
    """Hands pages to a generator, `width` at once, and collects what it writes."""

    def __init__(self, generator: Generator, width: int) -> None:
        self.generator = generator
        self.width = width
        self.tokens: dict[int, list[int]] = {}
        self.ends: dict[int, str] = {}

    def note(self, written: Sequence[Written]) -> None:
        for each in written:
            tokens = self.tokens.setdefault(each.number, [])
            if each.token is not None:
                tokens.append(each.token)
            if each.end is not None:
                self.ends[each.number] = each.end

    def run(self, pages: Sequence[Prompt]) -> dict[int, list[int]]:
        waiting = list(enumerate(pages))
        while waiting or self.generator.numbers:
            while waiting and len(self.generator.numbers) < self.width:
                number, page = waiting.pop(0)
                self.note(self.generator.begin({number: page}))
            self.note(self.generator.step())
        return self.tokens


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", MODELS)
def test_pages_written_together_are_token_equal_to_generate(name: str, attention: str) -> None:
    model = MODELS[name](attention)
    assert generation.unfit(model) is None
    pages = prompts(name)
    expected = {index: decoders.reference(model, page, limit(index)) for index, page in enumerate(pages)}
    together = Desk(InSlots(model, {EOS}), 3)
    assert together.run([Prompt(page, limit(index)) for index, page in enumerate(pages)]) == expected
    assert together.ends == {
        index: "length" if len(tokens) == limit(index) else "stop" for index, tokens in expected.items()
    }


@pytest.mark.parametrize("name", MODELS)
def test_pages_written_in_turns_are_token_equal_to_generate(name: str) -> None:
    model = MODELS[name]("sdpa")
    pages = prompts(name, 4)
    expected = {index: decoders.reference(model, page, limit(index)) for index, page in enumerate(pages)}
    turns = Desk(OneByOne(model, {EOS}), 3)
    assert turns.run([Prompt(page, limit(index)) for index, page in enumerate(pages)]) == expected


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", MODELS)
def test_pages_that_begin_together_are_token_equal_to_generate(name: str, attention: str) -> None:
    model = MODELS[name](attention)
    pages = [each for page in prompts(name, 4) for each in (page, mirrored(page), page)]
    expected = {index: decoders.reference(model, page, limit(index)) for index, page in enumerate(pages)}
    given = [Prompt(page, limit(index)) for index, page in enumerate(pages)]
    desk = Desk(InSlots(model, {EOS}), len(pages))
    found = joining.groups(pages, [prompt.length for prompt in given], desk.generator.most_together)
    assert found == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
    for group in found:
        desk.note(desk.generator.begin({index: given[index] for index in group}))
    assert desk.run([]) == expected


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(
    "grids",
    [
        [[(4, 16)], [(8, 8)], [(16, 4)], [(8, 8)]],
        [[(4, 16), (8, 8)], [(8, 8), (8, 8)], [(8, 8), (16, 4)]],
    ],
)
def test_each_page_has_positions_of_its_own_pictures(
    grids: Sequence[Sequence[tuple[int, int]]], attention: str
) -> None:
    """As many tokens for a picture take other positions by its shape."""
    model = decoders.qwen(attention)
    pages = {index: decoders.pictures(index, each) for index, each in enumerate(grids)}
    expected = {index: decoders.reference(model, page, limit(index)) for index, page in pages.items()}
    assert joining.groups(list(pages.values()), [1] * len(pages), len(pages)) == [list(pages)]
    together = InSlots(model, {EOS})
    desk = Desk(together, len(pages))
    desk.note(together.begin({index: Prompt(page, limit(index)) for index, page in pages.items()}))
    # Such a small model's tokens hardly depend on it.
    alone = []
    for page in pages.values():
        one = InSlots(model, {EOS})
        one.begin({0: Prompt(page, 9)})
        alone.append(one._rows[0].shift)
    assert [row.shift for row in together._rows] == alone
    assert len(set(alone)) > 1
    assert desk.run([]) == expected


@pytest.mark.parametrize("width", [2, 8])
def test_company_changes_nothing(width: int) -> None:
    model = decoders.unlimited()
    pages = [Prompt(page, 30) for page in prompts("unlimited")]
    alone = Desk(InSlots(model, {EOS}), 1).run(pages)
    assert Desk(InSlots(model, {EOS}), width).run(pages) == alone


@pytest.mark.parametrize("kind", [InSlots, OneByOne])
def test_a_page_that_ends_itself_says_so(kind: type[InSlots | OneByOne]) -> None:
    model = decoders.unlimited()
    page = decoders.words(0)
    tokens = decoders.reference(model, page, 30)
    end = next(token for token in tokens if tokens.index(token) > 5)
    before = tokens[: tokens.index(end)]
    desk = Desk(kind(model, {end}), 1)
    assert desk.run([Prompt(page, 30)]) == {0: before}
    assert desk.ends == {0: "stop"}


@pytest.mark.parametrize("kind", [InSlots, OneByOne])
def test_the_first_token_may_be_the_last(kind: type[InSlots | OneByOne]) -> None:
    model = decoders.unlimited()
    page = decoders.words(0)
    first = decoders.reference(model, page, 1)[0]
    generator = kind(model, {EOS})
    assert generator.begin({7: Prompt(page, 1)}) == [Written(7, first, "length")]
    assert generator.numbers == []
    assert kind(model, {first}).begin({8: Prompt(page, 5)}) == [Written(8, None, "stop")]
    assert generator.step() == []


@pytest.mark.parametrize("kind", [InSlots, OneByOne])
def test_a_page_that_is_dropped_leaves_the_others_alone(kind: type[InSlots | OneByOne]) -> None:
    model = decoders.qwen()
    pages = [Prompt(decoders.picture(seed), 25) for seed in range(4)]
    expected = Desk(kind(model, {EOS}), 1).run(pages)
    desk = Desk(kind(model, {EOS}), 4)
    for number, page in enumerate(pages[:3]):
        desk.note(desk.generator.begin({number: page}))
    for _ in range(5):
        desk.note(desk.generator.step())
    desk.generator.drop(0)
    desk.generator.drop(99)
    assert desk.generator.numbers == [1, 2]
    desk.note(desk.generator.begin({3: pages[3]}))
    while desk.generator.numbers:
        desk.note(desk.generator.step())
    assert {number: desk.tokens[number] for number in (1, 2, 3)} == {n: expected[n] for n in (1, 2, 3)}
    assert 1 < len(desk.tokens[0]) < 25
    assert desk.tokens[0] == expected[0][: len(desk.tokens[0])]


def test_banned_tokens_are_not_written() -> None:
    model = decoders.unlimited()
    pages = [decoders.words(seed) for seed in range(3)]
    free = [decoders.reference(model, page, 20) for page in pages]
    taken = set(free[1])
    banned = [None, lambda written: taken, lambda written: written[-1:]]
    tokens = Desk(InSlots(model, {EOS}), 3).run(
        [Prompt(page, 20, each) for page, each in zip(pages, banned, strict=True)]
    )
    assert tokens[0] == free[0]
    assert not taken & set(tokens[1])
    assert all(left != right for left, right in zip(tokens[2], tokens[2][1:], strict=False))


class Faulty:
    """Makes the `at`-th forward pass of a model's last layer fail."""

    def __init__(self, model: PreTrainedModel, at: int) -> None:
        self.left = at
        layers: Any = model.base_model.language_model.layers  # type: ignore[union-attr]
        self.hook = layers[-1].register_forward_pre_hook(self.fail)

    def fail(self, *_: object) -> None:
        self.left -= 1
        if self.left == 0:
            raise MemoryError("as the test wants")


@pytest.mark.parametrize(("kind", "lost"), [(InSlots, 0), (OneByOne, 1)])
@pytest.mark.parametrize("at", [1, 3, 5])
def test_a_failure_harms_no_other_page(kind: type[InSlots | OneByOne], lost: int, at: int) -> None:
    model = decoders.unlimited()
    pages = [Prompt(page, 12) for page in prompts("unlimited", 3)]
    expected = Desk(kind(model, {EOS}), 1).run(pages)
    fault = Faulty(model, at)
    desk = Desk(kind(model, {EOS}), 3)
    waiting = list(enumerate(pages))
    while waiting or desk.generator.numbers:
        try:
            if waiting:
                desk.note(desk.generator.begin(dict(waiting[:1])))
                waiting.pop(0)
            else:
                desk.note(desk.generator.step())
        except MemoryError:
            assert fault.left == 0
    fault.hook.remove()
    # A prefill that fails has left nothing; in slots a step can be taken again, in turns a page's cache is spoilt.
    harmed = {number for number, tokens in desk.tokens.items() if tokens != expected[number]}
    assert len(harmed) == (lost if at > len(pages) else 0)


def test_the_memory_of_slots_follows_the_pages() -> None:
    model = decoders.unlimited()
    generator = InSlots(model, {EOS})
    generator.begin({0: Prompt(decoders.words(0), 300)})
    for _ in range(100):
        generator.step()
    one = generator._slots.bytes
    generator.begin({1: Prompt(decoders.words(1), 300)})
    assert one < generator._slots.bytes <= 2 * one
    generator.drop(0)
    generator.drop(1)
    assert generator._slots.bytes == 0


@pytest.mark.parametrize("writing", [0, 1])
def test_a_prefill_that_fails_leaves_no_memory_behind(writing: int) -> None:
    model = decoders.unlimited()
    generator = InSlots(model, {EOS})
    for number in range(writing):
        generator.begin({number: Prompt(decoders.words(0), 300)})
    before = generator._slots.bytes
    fault = Faulty(model, 1)
    with pytest.raises(MemoryError):
        generator.begin({number: Prompt(decoders.words(1), 300) for number in range(2, 16)})
    fault.hook.remove()
    # The length of slots may have grown, their number hasn't.
    assert generator._slots.bytes <= 2 * before
    assert generator._slots.count == writing
    generator.begin({1: Prompt(decoders.words(1), 300)})
    assert generator.numbers == [*range(writing), 1]


@pytest.mark.parametrize(("attention", "seen"), [("sdpa", {6, 7, 8}), ("eager", {64})])
def test_attention_sees_no_more_than_it_gains_by(attention: str, seen: set[int]) -> None:
    """In halves of a number, eager attention on a CPU makes a program for each length, and keeps it."""
    model = decoders.unlimited(attention=attention)
    lengths: list[int] = []
    layers: Any = model.base_model.language_model.layers  # type: ignore[union-attr]

    def note(module: object, arguments: object, named: dict[str, Any]) -> None:
        if named["hidden_states"].shape[1] == 1:
            lengths.append(named["attention_mask"].shape[-1])

    layers[0].self_attn.register_forward_pre_hook(note, with_kwargs=True)
    generator = InSlots(model, {EOS})
    generator.begin({0: Prompt(decoders.words(0), 10)})
    for _ in range(3):
        generator.step()
    assert set(lengths) == seen


def test_models_that_were_never_tried_are_decoded_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    model = decoders.unlimited()
    assert isinstance(generation.of(model, {EOS}), InSlots)
    assert caplog.text == ""
    model.config.model_type = "strange"  # type: ignore[misc]
    with caplog.at_level(logging.WARNING):
        assert isinstance(generation.of(model, {EOS}), OneByOne)
    assert "one by one: model type strange was never tried" in caplog.text
    model.config.model_type = "unlimited_ocr"  # type: ignore[misc]
    model.config.get_text_config()._attn_implementation = "flex_attention"
    assert "flex_attention takes masks of its own" in str(generation.unfit(model))
    assert torch.is_inference_mode_enabled() is False
