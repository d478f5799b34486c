"""What clients of comparable servers send means what it meant there, or is refused by the name that they sent."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.api import compatible, schema
from ocr_inference.api.schema import OcrRequest
from ocr_inference.errors import ApiError
from ocr_wire.tasks import WORDS, Task

MARKED = "<image>\n<|grounding|>"


def refused(fields: dict[str, str]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        compatible.parse_ocr(fields)
    assert caught.value.status == 422
    assert len(caught.value.message) < 400
    return caught.value


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"prompt_type": "find", "find_term": "Total", "zoom": "1"},
        {"resolution": "tiny", "grounding": "on"},
    ],
)
def test_our_own_fields_mean_what_they_meant(fields: dict[str, str]) -> None:
    assert compatible.parse_ocr(fields) == schema.parse_ocr(fields)


@pytest.mark.parametrize(
    ("word", "task"),
    [
        *(("doc", "document"), ("ocr", "ocr"), ("plain", "free"), ("chart", "figure"), ("image", "describe")),
        *(("find", "find"), ("custom", "freeform"), ("document", "document"), ("free", "free")),
    ],
)
def test_mode_is_the_task(word: str, task: str) -> None:
    asked = compatible.parse_ocr({"mode": word, "search_text": "Total", "custom_prompt": "x"})
    assert (asked.task, asked.find_term) == (Task(task), "Total")


@pytest.mark.parametrize(
    ("prompt", "task"),
    [
        (MARKED + "Convert the document to markdown.", Task.DOCUMENT),
        (MARKED + "Convert the document to markdown. ", Task.DOCUMENT),
        ("<image>\nConvert document to markdown", Task.DOCUMENT),
        (MARKED + "OCR this image.", Task.OCR),
        ("<image>\nFree OCR.", Task.FREE),
        ("<image>\\nFree OCR.", Task.FREE),
        ("<image>\nFree OCR. Only output the raw text.", Task.FREE),
        ("free ocr", Task.FREE),
        ("<image>\nParse the figure.", Task.FIGURE),
        ("<image>\nDescribe this image in detail.", Task.DESCRIBE),
    ],
)
def test_a_published_prompt_is_its_task(prompt: str, task: Task) -> None:
    asked = compatible.parse_ocr({"prompt": prompt})
    assert (asked.task, asked.custom_prompt, asked.grounding) == (task, None, False)


@pytest.mark.parametrize("mark", ["<image>\n", MARKED])
def test_the_published_prompt_that_locates_has_its_term(mark: str) -> None:
    asked = compatible.parse_ocr({"prompt": f"{mark}Locate <|ref|>Total due<|/ref|> in the image."})
    assert (asked.task, asked.find_term) == (Task.FIND, "Total due")


def test_a_mark_that_its_task_does_not_have_asks_for_places() -> None:
    assert compatible.parse_ocr({"prompt": MARKED + "Free OCR."}).grounding
    assert not compatible.parse_ocr({"prompt": MARKED + "Free OCR.", "grounding": "false"}).grounding


@pytest.mark.parametrize("prompt", ["<image>\nHow many cats?", "<image>How many cats?", "How many cats?"])
def test_any_other_prompt_is_the_clients_own(prompt: str) -> None:
    asked = compatible.parse_ocr({"prompt": prompt})
    assert (asked.task, asked.custom_prompt) == (Task.FREEFORM, "How many cats?")
    assert asked.names("prompt_type") == ("prompt",)


@pytest.mark.parametrize(
    ("base", "image", "crop", "resolution"),
    [
        *(("512", "512", "false", "tiny"), ("640", "640", "False", "small"), ("1024", "1024", "0", "base")),
        *(("1280", "1280", "off", "large"), ("1024", "640", "true", "gundam"), (None, "640", None, "gundam")),
        *(("1024", "896", "true", None), ("1024", "768", None, None), (None, None, "true", None)),
        *((None, "900", "false", "base"), ("600", None, "no", "small"), ("9000", None, "no", "large")),
        (None, None, "false", None),
    ],
)
def test_sizes_are_the_nearest_resolution(
    base: str | None, image: str | None, crop: str | None, resolution: str | None
) -> None:
    sent = {"base_size": base, "image_size": image, "crop_mode": crop}
    fields = {name: value for name, value in sent.items() if value is not None}
    asked = compatible.parse_ocr(fields)
    assert (asked.resolution, asked.names("resolution")) == (resolution, tuple(fields))


def test_who_may_expect_an_output_file_is_told_of_none() -> None:
    for fields in ({"prompt": "Free OCR."}, {"save_to_file": "false"}, {"save_to_file": "true"}):
        asked = compatible.parse_ocr(fields)
        assert asked.wants_output_file
        assert asked.ignored == (("save_to_file",) if fields.get("save_to_file") == "true" else ())
    assert not compatible.parse_ocr({"mode": "doc"}).wants_output_file


def test_a_term_or_a_prompt_without_task_is_the_task() -> None:
    assert compatible.parse_ocr({"find_term": "Total"}).task is Task.FIND
    assert compatible.parse_ocr({"search_text": "Total"}).task is Task.FIND
    assert compatible.parse_ocr({"custom_prompt": "Why?"}).task is Task.FREEFORM
    assert refused({"custom_prompt": "Why?", "find_term": "Total"}).param == "prompt_type"
    assert compatible.parse_ocr({"custom_prompt": "Why?"}).names("prompt_type") == ("custom_prompt",)
    assert compatible.parse_ocr({"search_text": "Total"}).names("prompt_type") == ("search_text",)


def test_a_term_or_a_prompt_that_the_task_does_not_use_is_named() -> None:
    asked = compatible.parse_ocr({"prompt_type": "ocr", "search_text": "Total", "custom_prompt": "Why?"})
    assert (asked.task, asked.ignored) == (Task.OCR, ("custom_prompt", "search_text"))
    assert compatible.parse_ocr({"prompt_type": "ocr", "find_term": " "}).ignored == ()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"mode": "docc"}, "mode"),
        ({"mode": "find", "search_text": "x" * 201}, "search_text"),
        ({"prompt": "x" * 16_001}, "prompt"),
        ({"prompt_type": "ocr", "mode": "doc"}, "mode"),
        ({"prompt_type": "ocr", "prompt": "Free OCR."}, "prompt"),
        ({"mode": "chart", "prompt": "Free OCR."}, "prompt"),
        ({"find_term": "a", "search_text": "b"}, "search_text"),
        ({"resolution": "base", "base_size": "512", "crop_mode": "false"}, "base_size"),
        ({"base_size": "0"}, "base_size"),
        ({"image_size": "10001"}, "image_size"),
        ({"image_size": "6_40"}, "image_size"),
        ({"crop_mode": "perhaps"}, "crop_mode"),
        ({"save_to_file": "perhaps"}, "save_to_file"),
    ],
)
def test_a_bad_field_is_named_as_it_was_sent(fields: dict[str, str], param: str) -> None:
    assert refused(fields).param == param


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        *(("promt_type", "prompt_type"), ("promptType", "prompt_type"), ("prompt-type", "prompt_type")),
        *(("findterm", "find_term"), ("searchText", "search_text"), ("custom_promt", "custom_prompt")),
        *(("task", "prompt_type"), ("ocr_type", "prompt_type"), ("question", "custom_prompt")),
        *(("query", "find_term"), ("Model", "model"), ("max-tokens", "max_tokens")),
    ],
)
def test_a_field_that_was_meant_to_ask_is_refused(name: str, meant: str) -> None:
    error = refused({name: "x"})
    assert (error.code, error.param) == ("unknown_field", name)
    assert f"did you mean {meant!r}?" in error.message


@pytest.mark.parametrize(
    "name", ["t", "zoom", "crop", "user", "client_id", "language", "filename", "include_caption"]
)
def test_any_other_field_is_ignored_and_named(name: str) -> None:
    assert compatible.parse_ocr({name: "1"}).ignored == (name,)


@given(st.sampled_from([*WORDS, *compatible.MODES]), st.sampled_from([*WORDS, *compatible.MODES]))
def test_two_words_for_the_task_agree_or_are_refused(mode: str, word: str) -> None:
    needs = {"find_term": "Total", "custom_prompt": "Why?"}
    task = compatible.parse_ocr({"mode": mode, **needs}).task
    if word == task.value:
        assert compatible.parse_ocr({"mode": mode, "prompt_type": word, **needs}).task is task
    else:
        refused({"mode": mode, "prompt_type": word, **needs})


ANY_FIELDS: Any = st.dictionaries(
    st.sampled_from([*schema.FIELDS, *compatible.OTHERS]) | st.text(max_size=12),
    st.sampled_from(["true", "1024", "640", "doc", "find", "<image>\nFree OCR.", MARKED + "Locate <|ref|>"])
    | st.text(max_size=40),
    max_size=5,
)


@given(fields=ANY_FIELDS)
def test_whatever_is_sent_is_a_request_or_a_422_that_names_what_was_sent(fields: dict[str, str]) -> None:
    asked: OcrRequest | ApiError
    try:
        asked = compatible.parse_ocr(fields)
    except ApiError as error:
        asked = error
    if isinstance(asked, OcrRequest):
        assert set(itertools.chain(asked.ignored, *asked.sent_as.values())) <= set(fields)
    else:
        assert asked.status == 422
        assert asked.code == "unknown_field" or asked.param in {
            "prompt_type",
            "find_term",
            "custom_prompt",
            *fields,
        }
