import pytest

from ocr_inference.api import schema
from ocr_inference.api.schema import OcrRequest
from ocr_inference.errors import ApiError
from ocr_wire.tasks import Task


def test_nothing_said_means_the_whole_document() -> None:
    assert schema.parse_ocr({}) == OcrRequest()
    assert schema.parse_ocr({"prompt_type": " ", "find_term": "", "model": ""}) == OcrRequest()


def test_every_field_is_read() -> None:
    asked = schema.parse_ocr(
        {
            "prompt_type": "find",
            "find_term": " Total ",
            "custom_prompt": "x",
            "grounding": "TRUE",
            "resolution": "gundam",
            "max_tokens": "100",
            "loop_guard": "0",
            "model": "m",
        }
    )
    assert asked == OcrRequest(Task.FIND, "Total", "x", True, "gundam", 100, False, "m")


def test_unknown_fields_are_kept_by_name() -> None:
    assert schema.parse_ocr({"zoom": "1", "crop": "2"}).ignored == ("crop", "zoom")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt_type": "docment"}, "prompt_type"),
        ({"prompt_type": "find"}, "find_term"),
        ({"prompt_type": "find", "find_term": "x" * 201}, "find_term"),
        ({"prompt_type": "freeform"}, "custom_prompt"),
        ({"custom_prompt": "x" * 16_001}, "custom_prompt"),
        ({"grounding": "2"}, "grounding"),
        ({"resolution": "Base"}, "resolution"),
        ({"max_tokens": "0"}, "max_tokens"),
        ({"max_tokens": "65537"}, "max_tokens"),
        ({"max_tokens": "١٢"}, "max_tokens"),
        ({"max_tokens": "9" * 5000}, "max_tokens"),
        ({"model": "m" * 201}, "model"),
    ],
)
def test_a_bad_field_is_named(fields: dict[str, str], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        schema.parse_ocr(fields)
    assert (caught.value.status, caught.value.param) == (422, param)
    assert len(caught.value.message) < 300
