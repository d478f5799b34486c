import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.api.ocr import base64_json
from ocr_inference.api.ocr.base64_json import MAX_COMMAS, Request
from ocr_inference.errors import ApiError
from ocr_wire.tasks import Task


def parsed(body: object, *query: tuple[str, str]) -> Request:
    return base64_json.parse(json.dumps(body).encode(), query)


def refused(body: bytes, *query: tuple[str, str]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        base64_json.parse(body, query)
    return caught.value


def test_fields_are_those_of_the_form() -> None:
    found = parsed(
        {
            "image_base64": "YWJj",
            "prompt_type": "find",
            "find_term": "Total",
            "grounding": True,
            "max_tokens": 7,
        }
    )
    assert (found.picture, found.picture_param) == ("YWJj", "image_base64")
    assert (found.asked.task, found.asked.find_term, found.asked.max_tokens) == (Task.FIND, "Total", 7)
    assert found.asked.grounding
    assert found.asked.wants_output_file


def test_the_picture_has_two_names() -> None:
    assert parsed({"image": "YWJj"}).picture_param == "image"
    assert parsed({"image": "YWJj", "image_base64": None}).picture_param == "image"


def test_without_a_wish_the_text_alone_is_read() -> None:
    assert parsed({"image": "YWJj"}).asked.task is Task.FREE
    assert parsed({"image": "YWJj", "prompt": " "}).asked.task is Task.FREE
    assert parsed({"image": "YWJj", "search_text": "Total"}).asked.task is Task.FIND
    assert parsed({"image": "YWJj"}, ("prompt_type", "ocr")).asked.task is Task.OCR


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"", 400, None),
        (b"{", 400, None),
        (b"\xff", 400, None),
        (b"[]", 422, None),
        (b'{"image": {"url": "x"}}', 422, None),
        (b"{}", 422, "image_base64"),
        (b'{"image": ""}', 422, "image_base64"),
        (b'{"image": 3}', 422, "image"),
        (b'{"image": "YQ==", "image_base64": "YQ=="}', 422, "image"),
        (b'{"image": "YQ==", "crop_mode": "perhaps"}', 422, "crop_mode"),
        (b'{"image": "YQ==", "base_size": 1024.5}', 422, "base_size"),
        (b'{"image": "YQ==", "task": "ocr"}', 422, "task"),
        (b"{" + b"," * (MAX_COMMAS + 1), 413, None),
        (b"[" * 100_000, 422, None),
    ],
)
def test_a_bad_body_says_what_is_wrong(body: bytes, status: int, param: str | None) -> None:
    error = refused(body)
    assert (error.status, error.param) == (status, param), error.message


def test_a_field_that_has_another_value_in_the_query_is_refused() -> None:
    assert refused(b'{"image": "YQ==", "mode": "doc"}', ("mode", "ocr")).param == "mode"


ANY: Any = st.dictionaries(
    st.sampled_from(["image", "image_base64", "prompt", "mode", "base_size", "crop_mode"])
    | st.text(max_size=8),
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.lists(st.none(), max_size=2),
    max_size=5,
)


@given(ANY)
def test_any_object_is_a_request_or_a_refusal(body: Any) -> None:
    try:
        found: Request | ApiError = parsed(body)
    except ApiError as error:
        found = error
    assert isinstance(found, Request) or found.status in {400, 422}
