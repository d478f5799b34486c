"""Kubernetes quantities, exact at any size."""

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_wire import quantity, text


@pytest.mark.parametrize(
    ("written", "amount"),
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
def test_reads_exactly(written: object, amount: int | Fraction) -> None:
    assert quantity.parse(written) == amount


REFUSED = [
    "", " 1", "1 Gi", "1GB", "1K", "Gi", "0x10", "1e", "1e999", "nan", "inf", "1\n", "12Gi\n", "١٢Gi", "12 GiB",
    True, None, [], "9" * 65, "9" * 400, 10**400, 10**5000, -(10**5000), float("nan"), float("inf"),
]  # fmt: skip


@pytest.mark.parametrize("value", REFUSED, ids=range(len(REFUSED)))
def test_refuses(value: object) -> None:
    assert quantity.parse(value) is None
    assert quantity.size(value) is None
    assert not quantity.same(value, value)
    with pytest.raises(ValueError, match="not a positive quantity such as 12Gi"):
        quantity.Bytes.of(value)
    assert len(quantity.fault(value)) < 200


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("12Gi", 12 * 2**30), ("1.5G", 1_500_000_000), ("500M", 500_000_000), ("1.5e9", 1_500_000_000), (4096, 4096),
        ("7", 7), ("0", 0), ("100m", 1), ("1n", 1), ("9223372036854775807", 2**63 - 1),
        ("8Ei", None), ("-1", None), (-3, None),
    ],
)  # fmt: skip
def test_a_size_is_whole_bytes_rounded_up(value: str | int, size: int | None) -> None:
    assert quantity.size(value) == size


def test_same_number_in_any_spelling() -> None:
    assert quantity.same(1, "1")
    assert quantity.same("1Gi", "1024Mi")
    assert quantity.same("0.5", "500m")
    assert not quantity.same("1G", "1Gi")


@given(st.integers(1, 2**63 - 1))
def test_canonical_spelling_reads_back_and_fits_the_definition(size: int) -> None:
    written = quantity.Bytes(size).quantity()
    assert quantity.parse(written) == size
    assert quantity.Bytes.of(written) == size
    if size < 10**15:
        assert re.fullmatch(text.whole(quantity.PATTERN), written)


@given(st.text(max_size=8) | st.from_regex(text.whole(quantity.PATTERN)))
def test_whatever_the_definition_admits_is_read(value: str) -> None:
    if re.match(text.whole(quantity.PATTERN), value):
        assert quantity.parse(value) is not None


@pytest.mark.parametrize("value", ["0", "-1Gi", "much", None])
def test_memory_of_a_model_is_above_zero(value: object) -> None:
    with pytest.raises(ValueError, match="not a positive quantity such as 12Gi"):
        quantity.Bytes.of(value)


@pytest.mark.parametrize(
    ("value", "amount"),
    [
        ("1024Mi", "1Gi"),
        (2, "2"),
        (0.5, "500m"),
        ("1500m", "1500m"),
        ("2000m", "2"),
        ("0.0001", "1m"),
        ("50G", "50G"),
        (0, "0"),
        ("0Gi", "0"),
        ("1000", "1k"),
        (1536 * 2**20, "1536Mi"),
    ],
)
def test_amounts_have_one_spelling(value: object, amount: str) -> None:
    assert quantity.Amount.of(value) == amount


@given(st.integers(0, 2**62))
def test_amount_is_as_much_as_was_written(thousandths: int) -> None:
    amount = quantity.Amount.of(f"{thousandths}m")
    assert amount.number == Fraction(thousandths, 1000)
    assert quantity.Amount.of(str(amount)) == amount


@pytest.mark.parametrize("value", [*REFUSED, "-1", -1, "10E"], ids=range(len(REFUSED) + 3))
def test_what_is_no_amount_is_refused_with_a_bounded_message(value: object) -> None:
    with pytest.raises(ValueError, match="no quantity such as 500m") as refused:
        quantity.Amount.of(value)
    assert len(str(refused.value)) < 250
