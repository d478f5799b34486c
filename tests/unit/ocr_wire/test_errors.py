"""Errors in both shapes, and answers that are none."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_wire import errors
from ocr_wire.errors import ErrorInfo

FULL = ErrorInfo(message="no model 'x' here", type="not_found_error", code="model_not_found", param="model")


@pytest.mark.parametrize("error", [FULL, ErrorInfo(message="draining", code="draining"), ErrorInfo()])
def test_both_shapes_are_read_the_same(error: ErrorInfo) -> None:
    assert errors.read(json.dumps(error.nested()).encode()) == error
    assert errors.read(json.dumps(error.flat()).encode()) == error


def test_flat_shape_is_that_of_comparable_servers() -> None:
    assert FULL.flat() == {
        "success": False,
        "error": "no model 'x' here",
        "detail": "no model 'x' here",
        "type": "not_found_error",
        "code": "model_not_found",
        "param": "model",
    }


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", ""),
        (b"<html>\n<b>Bad Gateway</b>", "<html> <b>Bad Gateway</b>"),
        (b"\xff\xfe", "��"),
        (b'{"error": 3}', '{"error": 3}'),
        (b'{"detail": "no"}', '{"detail": "no"}'),
        (b'{"error": {"message": 3}}', '{"error": {"message": 3}}'),
    ],
)
def test_another_program_s_answer_becomes_the_message(body: bytes, message: str) -> None:
    assert errors.read(body) == ErrorInfo(message=message)


def test_message_is_one_line_that_fits_a_status() -> None:
    found = errors.read(json.dumps({"error": "a\nb\x1b" + "c" * 9000}).encode())
    assert found.message.startswith("a b c")
    assert len(found.message) == 512


JSON = st.recursive(
    st.none() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["error", "message", "code"]), inner)
    ),
    max_leaves=6,
)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_answer_is_read(body: Any) -> None:
    assert len(errors.read(body).message) <= 512
    errors.read(b"[" * 50_000)
    errors.read(b'{"error":' + b"9" * 5000 + b"}")
