"""What is a number in a text from outside, and what only Python takes for one."""

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_wire import numbers

STRANGE = (
    *("", " ", "8_001", "+8001", " 8001", "8001 ", "8001\n", "0x50", "1e", "--1", "- 1", "1,5", "½", "²"),
    *("٨٠٠١", "８００１", "nan", "inf", "-inf", "Infinity", "9" * 400, "1e999"),
)


@pytest.mark.parametrize("text", STRANGE)
def test_what_only_python_takes_for_a_number_is_none(text: str) -> None:
    assert numbers.whole(text, -(2**62), 2**62) is None
    assert numbers.decimal(text, -1e300, 1e300) is None


@given(st.integers(-(10**19) + 1, 10**19 - 1))
def test_every_whole_number_is_read_as_it_is_written(number: int) -> None:
    assert numbers.whole(str(number), -(10**19), 10**19) == number


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e18, max_value=1e18))
def test_every_decimal_is_read_as_it_is_written(number: float) -> None:
    assert numbers.decimal(repr(number), -1e18, 1e18) == number


@pytest.mark.parametrize("text", ["0.00018056938465477114", "1e-300", "0.1"])
def test_the_longest_that_python_writes_is_read(text: str) -> None:
    assert numbers.decimal(text, 0, 1) == float(text)


@given(st.text(max_size=8), st.integers(-100, 100), st.integers(-100, 100))
def test_nothing_out_of_bounds_is_returned(text: str, low: int, high: int) -> None:
    for found in (numbers.whole(text, low, high), numbers.decimal(text, low, high)):
        assert found is None or low <= found <= high


def test_an_option_says_what_is_expected() -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--nodes", type=numbers.argument(0, 9))
    assert parser.parse_args(["--nodes", "3"]).nodes == 3
    with pytest.raises(argparse.ArgumentError, match="a whole number from 0 to 9; got '1_0'"):
        parser.parse_args(["--nodes", "1_0"])
