"""Features of pictures that were read lately: what is kept, what leaves, and what pictures are known by."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra `transformers`")

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ocr_inference.engines.transformers import joining, vision
from ocr_inference.engines.transformers.features import Features, digest, nbytes
from ocr_inference.engines.transformers.generation import Prompt
from ocr_inference.protocol.engine import Broken

CPU = torch.device("cpu")
NAMES = ("pixel_values", "image_grid_thw")


def of(size: int, value: float = 0.0) -> Tensor:
    """Features of so many bytes."""
    return torch.full((size // 4,), value)


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=1), st.integers(0, 12)), max_size=30))
def test_it_never_holds_more_than_its_bound_and_counts_what_it_holds(puts: list[tuple[bytes, int]]) -> None:
    kept = Features(40)
    sizes: dict[bytes, int] = {}
    for picture, size in puts:
        kept.put(picture, of(4 * size))
        sizes.setdefault(picture, 4 * size)
        held = [each for each in sizes if kept.get(each, CPU) is not None]
        sizes = {each: size for each, size in sizes.items() if each in held}
        assert kept.nbytes == sum(sizes.values()) <= 40
    kept.clear()
    assert kept.nbytes == 0
    assert all(kept.get(each, CPU) is None for each in sizes)


def test_the_one_that_was_used_least_lately_leaves_first() -> None:
    kept = Features(12)
    for picture in (b"a", b"b", b"c"):
        kept.put(picture, of(4))
    assert kept.get(b"a", CPU) is not None
    kept.put(b"d", of(4))
    assert [kept.get(each, CPU) is not None for each in (b"a", b"b", b"c", b"d")] == [True, False, True, True]
    kept.put(b"e", of(16))
    assert kept.get(b"e", CPU) is None, "it is larger than all"
    assert kept.get(b"d", CPU) is not None


def test_a_copy_is_kept_and_not_what_it_was_a_part_of() -> None:
    kept, whole = Features(100), torch.arange(8.0)
    kept.put(b"a", [whole[:2], whole[2:4]])
    whole[:] = -1
    found = kept.get(b"a", CPU)
    assert found is not None
    assert [each.tolist() for each in found] == [[0.0, 1.0], [2.0, 3.0]]
    assert all(each.untyped_storage().nbytes() == 8 for each in found)


PIXELS = torch.arange(24.0).reshape(1, 2, 12)


@pytest.mark.parametrize(
    "other",
    [
        {"pixel_values": PIXELS + 1},
        {"pixel_values": PIXELS.reshape(2, 1, 12)},
        {"pixel_values": PIXELS.view(torch.int32)},
        {"pixel_values": PIXELS, "image_grid_thw": torch.tensor([[1, 2, 3]])},
        {"pixel_values": PIXELS, "image_grid_thw": [(1, 2)]},
        {"image_grid_thw": PIXELS},
    ],
)
def test_other_pixels_and_other_ways_to_cut_them_are_other_pictures(other: dict[str, Any]) -> None:
    assert digest({"pixel_values": PIXELS}, NAMES) != digest(other, NAMES)


def test_a_picture_is_known_by_what_the_tower_gets_alone() -> None:
    half = PIXELS.to(torch.bfloat16)
    one = {"input_ids": torch.tensor([[1]]), "pixel_values": half, "image_grid_thw": [[1, 2]]}
    other = {"input_ids": torch.tensor([[2, 3]]), "mm_token_type_ids": torch.tensor([[0, 1]])}
    assert digest(one, NAMES) == digest({**one, **other}, NAMES) is not None
    assert digest({**one, "image_grid_thw": object()}, NAMES) is None


@pytest.mark.parametrize(
    "hidden",
    [
        {"image_sizes": torch.tensor([[1, 2]])},
        {"tile_fine_mask": None},
        {"pixel_values_high": PIXELS},
    ],
)
def test_a_picture_with_an_argument_that_the_tower_does_not_name_is_not_known(hidden: dict[str, Any]) -> None:
    """Towers hand such ones on by `**kwargs`, so features may depend on it."""
    assert digest({"pixel_values": PIXELS, **hidden}, NAMES) is None
    assert digest({"pixel_values": PIXELS}, ("args", "kwargs")) is None
    assert digest({"input_ids": torch.tensor([[1]])}, ("args", "kwargs")) is None


def test_a_picture_that_is_no_smaller_than_one_whose_features_did_not_fit_is_not_hashed() -> None:
    kept = Features(12)
    small, large = {"pixel_values": torch.zeros(2), "input_ids": torch.zeros(99)}, {"pixel_values": PIXELS}
    assert kept.may_keep(large)
    kept.put(b"a", of(16), nbytes(large))
    kept.put(b"b", of(8), nbytes(small))
    assert (kept.may_keep(small), kept.may_keep(large)) == (True, False)
    kept.takes_part = False
    assert not kept.may_keep(small)
    assert not Features(0).may_keep(small)


@dataclass
class Deep(BaseModelOutputWithPooling):
    deepstack_features: Any = None


class Model(nn.Module):
    """Doubles the pixels of each picture, and counts how often."""

    def __init__(
        self, *, deep: bool = False, made: Callable[[Tensor], Any] = lambda pixels: 2 * pixels
    ) -> None:
        """`made` computes the features."""
        super().__init__()
        self.deep, self.made = deep, made
        self.passes: list[int] = []

    def get_image_features(self, pixel_values: Tensor, return_dict: bool = False) -> Any:
        assert return_dict
        self.passes.append(len(pixel_values))
        if self.deep:
            return Deep(pooler_output=2 * pixel_values, deepstack_features=[pixel_values])
        return BaseModelOutputWithPooling(pooler_output=self.made(pixel_values))

    def forward(self, input_ids: Tensor, pixel_values: Any = None, mm_encoder_outputs: Any = None) -> None:
        raise AssertionError("it isn't asked here")


def prompt(value: float, picture: bytes | None) -> Prompt:
    tensors = {"input_ids": torch.zeros(1, 3), "pixel_values": torch.full((1, 2), value)}
    return Prompt(tensors, 5, picture=picture)


def features(prompts: list[Prompt]) -> list[list[float]]:
    found = [each.tensors[joining.ENCODED]["image"].pooler_output for each in prompts]
    return [each[0].tolist() for each in found]


def test_a_picture_of_several_prompts_is_encoded_once_and_kept() -> None:
    model: Any = Model()
    kept = Features(1000)
    done = vision.seen(model, [prompt(1, b"a"), prompt(2, b"b"), prompt(1, b"a")], kept)
    assert features(done) == [[2, 2], [4, 4], [2, 2]]
    assert model.passes == [2]
    assert kept.get(b"b", CPU).tolist() == [[4, 4]]  # type: ignore[union-attr]
    (alone,) = vision.seen(model, [prompt(3, b"c")], kept)
    assert features([alone]) == [[6, 6]]
    assert kept.get(b"c", CPU) is not None


def test_a_lone_picture_that_is_not_kept_is_left_to_its_prompt() -> None:
    model: Any = Model()
    (done,) = vision.seen(model, [prompt(1, None)], Features(0))
    assert "pixel_values" in done.tensors
    assert model.passes == []


def test_a_tower_that_makes_more_than_one_kind_of_features_is_asked_once() -> None:
    model: Any = Model(deep=True)
    kept = Features(1000)
    for _ in range(2):
        done = vision.seen(model, [prompt(1, b"a"), prompt(2, b"b")], kept)
        assert all("pixel_values" in each.tensors for each in done)
    assert model.passes == [2]
    assert kept.nbytes == 0


def raising(error: Exception) -> Callable[[Tensor], Any]:
    def strike(pixels: Tensor) -> Any:
        raise error

    return strike


LOST = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")


class Lost(Tensor):
    """On a GPU that is lost, which is known when something waits for it."""

    def to(self, *_: Any, **__: Any) -> Any:
        raise LOST


class Hiding(Model):
    """Needs an argument that its signature hides, as a model whose inner tower has more than the outer one."""

    def get_image_features(self, pixel_values: Tensor, return_dict: bool = False, **hidden: Any) -> Any:
        if (sizes := hidden.get("image_sizes")) is None:
            self.passes.append(0)
            raise TypeError("missing 1 required positional argument: 'image_sizes'")
        return super().get_image_features(pixel_values * sizes, return_dict)


@pytest.mark.parametrize("together", [1, 2])
@pytest.mark.parametrize(
    "model",
    [
        Hiding(),
        Model(made=raising(ValueError("as the test wants"))),
        Model(made=raising(IndexError())),
        Model(made=lambda pixels: torch.empty_like(pixels, device="meta")),  # which can't be copied
    ],
)
def test_a_tower_that_refuses_is_left_to_its_prompts_from_then_on(model: Any, together: int) -> None:
    kept, asked = Features(1000), [prompt(1, b"a"), prompt(2, b"b")][:together]
    kept.put(b"z", of(4))
    model.passes.clear()
    assert len(vision.seen(model, asked, kept)) == together
    assert all("pixel_values" in each.tensors for each in vision.seen(model, asked, kept))
    assert len(model.passes) == 1
    assert (kept.takes_part, kept.nbytes) == (False, 0)


@pytest.mark.parametrize(
    "made",
    [
        raising(MemoryError()),
        raising(RuntimeError("DefaultCPUAllocator: can't allocate memory")),
        lambda pixels: torch.zeros(1, 1).expand(len(pixels), 1 << 50),  # of which no copy fits
    ],
)
def test_where_memory_runs_out_nothing_is_kept_and_the_next_picture_is_tried(made: Any) -> None:
    model: Any = Model(made=made)
    kept = Features(1 << 60)
    kept.put(b"z", of(4))
    assert len(vision.seen(model, [prompt(1, b"a")], kept)) == 1
    assert (kept.nbytes, kept.get(b"a", CPU)) == (0, None)
    model.made = lambda pixels: pixels
    assert features(vision.seen(model, [prompt(1, b"a")], kept)) == [[1, 1]]
    assert kept.get(b"a", CPU) is not None


@pytest.mark.parametrize("made", [raising(LOST), lambda pixels: pixels.as_subclass(Lost)])
def test_a_device_that_is_lost_is_broken_also_where_features_are_copied(made: Any) -> None:
    model: Any = Model(made=made)
    with pytest.raises(Broken, match="illegal memory access"):
        vision.seen(model, [prompt(1, b"a")], Features(1000))


def test_a_picture_with_an_argument_that_the_tower_does_not_name_is_left_to_its_prompt() -> None:
    model: Any = Hiding()
    kept = Features(1000)
    sized = prompt(1, b"a")
    asked = [replace(sized, tensors={**sized.tensors, "image_sizes": torch.ones(1)}), prompt(1, None)]
    assert all("pixel_values" in each.tensors for each in vision.seen(model, asked, kept))
    assert model.passes == []
    assert kept.takes_part


def test_features_that_can_not_be_divided_are_kept_of_pictures_that_come_alone() -> None:
    """As of a tower that makes one row of all that it gets, whatever came together."""
    model: Any = Model(made=lambda pixels: torch.cat([pixels, pixels]).reshape(1, -1))
    kept = Features(1000)
    done = vision.seen(model, [prompt(1, b"a"), prompt(2, b"b")], kept)
    assert all("pixel_values" in each.tensors for each in done)
    done = vision.seen(model, [prompt(1, b"a"), prompt(2, b"b")], kept)
    assert features(done) == [[1, 1, 1, 1], [2, 2, 2, 2]]
    assert model.passes == [2, 1, 1]
    assert kept.get(b"b", CPU) is not None
