"""Where tensors lie in a flat buffer."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.checkpoints.weights.layout import ALIGNMENT, ELEMENT_BYTES, Entry, plan

shapes = st.lists(st.integers(0, 7), max_size=4).map(tuple)
entries = st.lists(
    st.builds(
        Entry, st.text("abc.0", min_size=1, max_size=6), st.sampled_from(sorted(ELEMENT_BYTES)), shapes
    ),
    max_size=20,
    unique_by=lambda entry: entry.name,
)


@given(entries)
def test_slots_are_aligned_apart_and_inside(found: list[Entry]) -> None:
    layout = plan(found)
    at = 0
    for slot in layout.slots.values():
        assert slot.offset % ALIGNMENT == 0
        assert slot.offset >= at
        assert slot.end - slot.offset == math.prod(slot.entry.shape) * ELEMENT_BYTES[slot.entry.dtype]
        at = slot.end
    assert at <= layout.total_bytes < at + ALIGNMENT
    assert layout.weight_bytes <= layout.total_bytes <= layout.weight_bytes + ALIGNMENT * len(found)


@given(entries, st.randoms())
def test_the_order_of_entries_means_nothing(found: list[Entry], random: object) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert plan(shuffled) == plan(found)
    assert plan(shuffled).digest == plan(found).digest


def test_larger_elements_come_first_then_names() -> None:
    layout = plan([Entry("b", "BF16", (4,)), Entry("c", "F32", (1,)), Entry("a", "BF16", (200,))])
    assert {name: slot.offset for name, slot in layout.slots.items()} == {"c": 0, "a": 256, "b": 768}
    assert layout.total_bytes == 1024


def test_a_tied_name_shares_its_slot() -> None:
    layout = plan([Entry("embed", "F32", (3, 2))], {"head": "embed"})
    assert layout.slot("head") is layout.slot("embed")
    assert layout.total_bytes == ALIGNMENT


def test_digests_tell_layouts_apart() -> None:
    base = Entry("a", "F32", (2, 3))
    others = [Entry("b", "F32", (2, 3)), Entry("a", "I32", (2, 3)), Entry("a", "F32", (3, 2))]
    digests = {plan([entry]).digest for entry in [base, *others]} | {plan([base], {"b": "a"}).digest}
    assert len(digests) == 5
    assert all(len(digest) == 32 for digest in digests)


def test_no_tensors_take_no_bytes() -> None:
    assert plan([]).total_bytes == 0


@pytest.mark.parametrize(
    ("found", "ties", "words"),
    [
        ([Entry("a", "F32", ()), Entry("a", "F32", ())], {}, "two tensors are named a"),
        ([Entry("a", "F32", ())], {"b": "c"}, "b can't be another name of c"),
        ([Entry("a", "F32", ())], {"a": "a"}, "a can't be another name of a"),
        ([Entry("a", "F4", ())], {}, "a has elements of an unknown type, F4"),
    ],
)
def test_impossible_plans_are_refused(found: list[Entry], ties: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        plan(found, ties)
