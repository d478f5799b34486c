"""Answers of pages put together as a document's."""

import pytest

from ocr_inference.api.ocr import whole
from ocr_inference.errors import ApiError


@pytest.mark.parametrize("message", ["it is bad", "page 2 is bad"])
def test_an_error_has_its_page_once(message: str) -> None:
    said = whole.of_fault(1, ApiError(422, "invalid_page", message))
    assert said.startswith("page 2")
    assert said.count("page") == 1


def test_another_page_in_a_message_is_not_its_own() -> None:
    assert whole.of_fault(1, ApiError(422, "invalid_page", "page 20 is bad")) == "page 2: page 20 is bad"
