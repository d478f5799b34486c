"""Which pages are computed in one pass, and the arguments that it gets."""

from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra `transformers`")

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ocr_inference.engines.transformers import joining


def page(length: int = 4, value: int = 0, **others: Any) -> dict[str, Any]:
    return {"input_ids": torch.full((1, length), value), **others}


def test_pages_of_one_shape_go_together_in_the_order_in_which_they_came() -> None:
    pages = [page(4), page(5), page(4), page(4, image_sizes=[(1, 2)]), page(5), page(4)]
    assert joining.groups(pages, [4, 5, 4, 4, 5, 4], 100) == [[0, 2, 5], [1, 4], [3]]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.zeros(1, 3), torch.zeros(1, 4)),
        (torch.zeros(1, 3), torch.zeros(1, 3, dtype=torch.float64)),
        (torch.zeros(1, 3), [torch.zeros(1, 3)]),
        (True, False),
        (None, 1),
        (np.zeros(3), np.zeros(3)),  # of which it isn't known how they join
        (joining.encoded(torch.zeros(2, 3)), joining.encoded([torch.zeros(2, 3)])),
        (joining.encoded(torch.zeros(2, 3)), joining.encoded(torch.zeros(2, 4))),
    ],
)
def test_pages_that_differ_stay_apart(one: Any, other: Any) -> None:
    assert joining.groups([page(x=one), page(x=other)], [4, 4], 100) == [[0], [1]]


@given(
    st.lists(st.integers(1, 3), max_size=12), st.lists(st.integers(1, 50), min_size=12), st.integers(0, 60)
)
def test_groups_hold_each_page_once_and_are_bounded(lengths: list[int], sizes: list[int], most: int) -> None:
    sizes = sizes[: len(lengths)]
    found = joining.groups([page(length) for length in lengths], sizes, most)
    assert sorted(index for group in found for index in group) == list(range(len(lengths)))
    assert found == sorted(found)
    for group in found:
        assert len({lengths[index] for index in group}) == 1
        assert len(group) == 1 or sum(sizes[index] for index in group) <= most


def test_arguments_are_joined_in_the_order_of_the_pages() -> None:
    pages = [
        page(value=value, image_sizes=[(value, 1)], use=True)
        | {joining.ENCODED: joining.encoded([torch.full((2, 3), value)])}
        for value in (1, 2)
    ]
    found = joining.joined(pages)
    assert found["input_ids"].tolist() == [[1] * 4, [2] * 4]
    assert found["image_sizes"] == [(1, 1), (2, 1)]
    assert found["use"] is True
    features = found[joining.ENCODED]["image"]
    assert isinstance(features, BaseModelOutputWithPooling)
    assert [int(each[0, 0]) for each in features.pooler_output or ()] == [1, 2]
    tensors = [{joining.ENCODED: joining.encoded(torch.full((value, 3), value))} for value in (1, 2)]
    assert joining.joined(tensors)[joining.ENCODED]["image"].pooler_output[:, 0].tolist() == [1, 2, 2]
    assert joining.joined(pages[:1]) == pages[0]
