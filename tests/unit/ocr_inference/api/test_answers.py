"""What `POST /ocr` makes of a page, by the family that read it."""

from typing import Any

import msgspec

from ocr_inference.api import pages
from ocr_inference.api.schema import OcrAnswer, OcrRequest
from ocr_inference.config.settings import ModelConfig
from ocr_inference.protocol.engine import Line, PageResult
from ocr_inference.protocol.page import Box, PlacedText
from ocr_wire.tasks import Task

TAGGED = "<|ref|>title<|/ref|><|det|>[[0, 0, 999, 500]]<|/det|>\n# Hello\n"
WRITTEN = PageResult(
    text=TAGGED, width=200, height=100, prompt_tokens=84, completion_tokens=20, family="deepseek_ocr"
)
FOUND = PageResult(
    text="Hello", width=200, height=100, lines=(Line("Hello", 0.9, ((0, 0), (50, 0), (50, 10), (0, 10))),)
)


def answer(
    page: PageResult, engine: str = "transformers", prefix: str = "", *, lines: bool = False, **asked: object
) -> OcrAnswer:
    model = ModelConfig(name="m", engine=engine)
    request = OcrRequest(**asked)  # type: ignore[arg-type]
    return pages.answer(page, request, model, backend="cpu", waited=0.5, prefix=prefix, lines=lines)


def test_what_a_language_model_wrote_is_told_raw_and_parsed() -> None:
    told = answer(WRITTEN)
    assert told.raw_text == TAGGED
    assert told.text == "# Hello"
    assert told.boxes == (Box("title", (0, 0, 200, 50)),)
    assert (told.image_dims.w, told.image_dims.h) == (200, 100)
    assert (told.metadata["prompt_tokens"], told.metadata["completion_tokens"]) == (84, 20)
    assert told.metadata["finish_reason"] == "stop"


def test_places_that_a_language_model_wrote_are_told_whatever_was_asked() -> None:
    assert answer(WRITTEN, task=Task.FREEFORM, custom_prompt="x").boxes
    assert answer(WRITTEN, task=Task.FREE).boxes


def test_lines_have_places_where_they_are_asked_for() -> None:
    assert answer(FOUND, "rapidocr", task=Task.OCR).boxes == (Box("Hello", (0, 0, 50, 10)),)
    assert answer(FOUND, "rapidocr", task=Task.FREE).boxes == ()
    assert answer(FOUND, "rapidocr", task=Task.FREE, grounding=True).boxes
    assert "prompt_tokens" not in answer(FOUND, "rapidocr").metadata


def test_a_page_without_end_says_so() -> None:
    cut = msgspec.structs.replace(WRITTEN, finish_reason="length")
    assert answer(cut).metadata["finish_reason"] == "length"


def test_options_without_effect_are_named_in_the_requests_words() -> None:
    options: dict[str, Any] = {"resolution": "tiny", "max_tokens": 5, "loop_guard": False, "ignored": ("x",)}
    assert answer(WRITTEN, **options).metadata["ignored_fields"] == ["x"]
    chat = msgspec.structs.replace(WRITTEN, family="chat")
    assert answer(chat, prefix="ocr.", **options).metadata["ignored_fields"] == ["x", "ocr.resolution"]
    assert answer(FOUND, "rapidocr", prefix="ocr.", **options).metadata["ignored_fields"] == [
        *("x", "ocr.resolution", "max_tokens", "ocr.loop_guard")
    ]


def test_texts_have_places_whatever_was_asked_where_a_model_names_any() -> None:
    corners = ((0, 0), (200, 0), (200, 50), (0, 50))
    assert answer(WRITTEN, lines=True).lines == (PlacedText("# Hello", corners),)
    assert answer(WRITTEN).lines is msgspec.UNSET
    line = PlacedText("Hello", ((0, 0), (50, 0), (50, 10), (0, 10)))
    assert answer(FOUND, "rapidocr", lines=True, task=Task.FREE).lines == (line,)
    chat = msgspec.structs.replace(WRITTEN, family="chat")
    assert answer(chat, lines=True).lines == ()


def test_a_label_that_is_a_text_of_the_page_stands_at_each_of_its_places() -> None:
    tagged = "<|ref|>Total<|/ref|><|det|>[[0, 0, 999, 500], [0, 500, 999, 999]]<|/det|>"
    found = msgspec.structs.replace(WRITTEN, text=tagged)
    everywhere = answer(found, lines=True, task=Task.FIND, find_term="Total").lines
    assert [each.text for each in everywhere or ()] == ["Total", "Total"]
    assert len(answer(found, lines=True, task=Task.OCR).lines or ()) == 1
