"""Kubernetes quantities, exact at any size."""

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.resources import quantity


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0", 0),
        ("1", 1),
        (1, 1),
        ("12Gi", 12 * 2**30),
        ("1.5Gi", 3 * 2**29),
        ("500m", Fraction(1, 2)),
        (0.5, Fraction(1, 2)),
        (".5", Fraction(1, 2)),
        ("5.", 5),
        ("1e3", 1000),
        ("1E3", 1000),
        ("1E", 10**18),
        ("1k", 1000),
        ("3n", Fraction(3, 10**9)),
        ("-1", -1),
        ("9007199254740993", 2**53 + 1),
    ],
)
def test_reads_exactly(text: object, amount: int | Fraction) -> None:
    assert quantity.parse(text) == amount


@pytest.mark.parametrize(
    "text",
    ["", " 1", "1 Gi", "1GB", "1K", "Gi", "0x10", "1e", "1e999", "nan", "1\n", True, None, [], "9" * 65],
)
def test_refuses(text: object) -> None:
    assert quantity.parse(text) is None


def test_same_number_in_any_spelling() -> None:
    assert quantity.same(1, "1")
    assert quantity.same("1Gi", "1024Mi")
    assert quantity.same("0.5", "500m")
    assert not quantity.same("1G", "1Gi")
    assert not quantity.same("abc", "abc"), "neither is a quantity"


@given(st.integers(1, 2**63))
def test_canonical_spelling_reads_back_and_fits_the_definition(size: int) -> None:
    text = quantity.Bytes(size).quantity()
    assert quantity.parse(text) == size
    if size < 10**15:
        assert re.fullmatch(quantity.PATTERN, text)


def test_part_of_a_byte_counts_as_a_byte() -> None:
    assert quantity.Bytes.of("100m") == 1


@pytest.mark.parametrize("text", ["0", "-1Gi", "much", None])
def test_sizes_are_above_zero(text: object) -> None:
    with pytest.raises(ValueError, match="not a positive quantity such as 12Gi"):
        quantity.Bytes.of(text)
