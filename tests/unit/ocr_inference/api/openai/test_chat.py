import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.api.openai import chat
from ocr_inference.api.openai.chat import ChatRequest
from ocr_inference.errors import ApiError
from ocr_inference.families import plain
from ocr_wire.tasks import Task

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def user(*parts: object) -> dict[str, object]:
    return {"role": "user", "content": list(parts)}


def parse(*messages: object, **more: object) -> ChatRequest:
    return chat.parse(json.dumps({"messages": messages or [user(PICTURE)], **more}).encode())


def refused(*messages: object, **more: object) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse(*messages, **more)
    return caught.value


# --- what is asked --------------------------------------------------------------------------------------------


def test_the_last_turns_text_is_the_prompt_word_for_word() -> None:
    asked = parse(user(PICTURE, text(" Read\n<|grounding|>this.  "))).asked
    assert (asked.task, asked.custom_prompt) == (Task.FREEFORM, " Read\n<|grounding|>this.  ")
    assert asked.ignored == ()


def test_several_texts_are_lines() -> None:
    assert parse(user(text("a"), PICTURE, text("b"))).asked.custom_prompt == "a\nb"


def test_without_task_and_text_the_page_is_read_as_a_document() -> None:
    assert parse(user(PICTURE)).asked.task is Task.DOCUMENT
    assert parse(user(PICTURE, text("  "))).asked.task is Task.DOCUMENT


def test_our_options_travel_in_one_object() -> None:
    options = {
        "task": "find",
        "find_term": " total ",
        "resolution": "tiny",
        "grounding": True,
        "loop_guard": False,
    }
    asked = parse(user(PICTURE, text("unused")), ocr=options, model="m", max_tokens=7)
    assert asked.wants_parsed
    request = asked.asked
    assert (request.task, request.find_term, request.resolution) == (Task.FIND, "total", "tiny")
    assert (request.grounding, request.loop_guard, request.max_tokens, request.model) == (True, False, 7, "m")
    assert request.custom_prompt is None
    assert request.ignored == ("messages[0].content",)


def test_with_task_freeform_the_text_is_the_prompt() -> None:
    assert parse(user(PICTURE, text("go")), ocr={"task": "freeform"}).asked.custom_prompt == "go"


def test_the_newer_name_of_the_bound_wins() -> None:
    asked = parse(max_tokens=5, max_completion_tokens=9).asked
    assert (asked.max_tokens, asked.ignored) == (9, ("max_tokens",))


def test_null_is_as_good_as_nothing() -> None:
    nothing = dict.fromkeys(
        (
            *("model", "ocr", "stream", "stream_options", "max_tokens", "max_completion_tokens"),
            *("temperature", "stop", "n", "logprobs", "response_format"),
        )
    )
    assert parse(**nothing) == parse()


def test_a_conversation_about_one_page_keeps_its_picture() -> None:
    asked = parse(
        {"role": "system", "content": "Be brief."},
        user(PICTURE, text("Read it.")),
        {"role": "assistant", "content": "It says …"},
        user(text("And the total?")),
    )
    assert asked.picture_param == "messages[1].content[0].image_url.url"
    assert asked.asked.custom_prompt == "And the total?"
    assert asked.asked.ignored == ("messages[0]", "messages[1].content", "messages[2]")


def test_the_last_picture_is_the_page() -> None:
    later = {"type": "image_url", "image_url": "data:image/png;base64,BB=="}
    asked = parse(user(PICTURE), {"role": "assistant", "content": None}, user(later))
    assert (asked.picture, asked.picture_param) == (
        "data:image/png;base64,BB==",
        "messages[2].content[0].image_url",
    )
    assert asked.asked.ignored == ("messages[0]", "messages[1]")


def test_what_has_no_effect_is_named() -> None:
    asked = parse(temperature=0.7, top_p=0.9, seed=1, user="me", ocr={"task": "ocr", "find_term": "x"}).asked
    assert asked.ignored == ("ocr.find_term", "seed", "temperature", "top_p", "user")
    assert parse(temperature=0).asked.ignored == ()


@pytest.mark.parametrize(
    ("sent", "param", "says"),
    [
        ({"ocr": {"taks": "ocr"}}, "ocr.taks", "'task'"),
        ({"ocr": {"prompt_type": "ocr"}}, "ocr.prompt_type", "'task'"),
        ({"ocr": {"task": "ocr", "zoom": 2}}, "ocr.zoom", "there are task"),
        ({"ocr": {"x" * 100_000: 2}}, "ocr." + "x" * 80, "there are task"),
        ({"task": "document"}, "task", "'ocr.task'"),
        ({"mode": "doc"}, "mode", "'ocr.task'"),
        ({"find_term": "Total"}, "find_term", "'ocr.find_term'"),
        ({"search_text": "Total"}, "search_text", "'ocr.find_term'"),
    ],
)
def test_what_was_meant_to_say_what_is_to_be_done_is_refused(
    sent: dict[str, Any], param: str, says: str
) -> None:
    with pytest.raises(ApiError) as caught:
        parse(**sent)
    assert (caught.value.status, caught.value.code, caught.value.param) == (422, "unknown_field", param)
    assert says in caught.value.message


def test_a_term_without_task_is_looked_for() -> None:
    assert parse(ocr={"find_term": "Total"}).asked.task is Task.FIND
    assert parse(ocr={"find_term": " "}).asked.task is Task.DOCUMENT


def test_names_without_effect_are_bounded() -> None:
    ignored = parse(**{f"{number:0100}": 1 for number in range(200)}).asked.ignored
    assert len(ignored) <= chat.MAX_IGNORED
    assert max(map(len, ignored)) == 64


def test_streaming_and_stop_texts() -> None:
    asked = parse(stream=True, stream_options={"include_usage": True}, stop="\n\n")
    assert (asked.stream, asked.include_usage, asked.stop) == (True, True, ("\n\n",))
    assert parse(stop=["a", "b"]).stop == ("a", "b")


def test_a_model_that_follows_no_prompt_reads_every_line_and_says_so() -> None:
    asked = parse(user(PICTURE, text("Free OCR.")))
    assert chat.fitted(asked, tuple(Task)) == asked
    fitted = chat.fitted(asked, plain.TASKS).asked
    assert (fitted.task, fitted.custom_prompt, fitted.ignored) == (Task.OCR, None, ("messages[0].content",))


def test_a_task_that_was_asked_for_by_name_is_never_replaced() -> None:
    asked = parse(user(PICTURE, text("go")), ocr={"task": "freeform"})
    assert chat.fitted(asked, plain.TASKS).asked.task is Task.FREEFORM


# --- what is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "param", "code"),
    [
        ({"n": 2}, "n", "unsupported"),
        ({"n": "1"}, "n", "invalid_value"),
        ({"logprobs": True}, "logprobs", "unsupported"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "unsupported"),
        ({"temperature": "warm"}, "temperature", "invalid_value"),
        ({"temperature": 3}, "temperature", "invalid_value"),
        ({"stream": "yes"}, "stream", "invalid_value"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_tokens": True}, "max_tokens", "invalid_value"),
        ({"max_completion_tokens": 1 << 40}, "max_completion_tokens", "invalid_value"),
        ({"stop": [""]}, "stop", "invalid_value"),
        ({"stop": ["a"] * 5}, "stop", "invalid_value"),
        ({"stop": "a" * 257}, "stop", "invalid_value"),
        ({"model": 3}, "model", "invalid_value"),
        ({"ocr": []}, "ocr", "invalid_value"),
        ({"ocr": {"task": "raed"}}, "ocr.task", "unknown_task"),
        ({"ocr": {"task": "find"}}, "ocr.find_term", "invalid_value"),
        ({"ocr": {"task": "freeform"}}, "messages", "invalid_value"),
        ({"ocr": {"resolution": "huge"}}, "ocr.resolution", "invalid_value"),
        ({"ocr": {"grounding": "yes"}}, "ocr.grounding", "invalid_value"),
    ],
)
def test_a_bad_field_is_named(more: dict[str, Any], param: str, code: str) -> None:
    error = refused(**more)
    assert (error.status, error.code, error.param) == (422, code, param)


@pytest.mark.parametrize(
    ("messages", "param", "code"),
    [
        ([], "messages", "invalid_value"),
        (["hello"], "messages[0]", "invalid_value"),
        ([{"role": "wizard", "content": "x"}], "messages[0].role", "invalid_value"),
        ([{"role": "user", "content": 3}], "messages[0].content", "invalid_value"),
        ([{"role": "user"}], "messages", "missing_image"),
        ([{"role": "user", "content": "Read it."}], "messages", "missing_image"),
        ([{"role": "assistant", "content": "Read it."}], "messages", "invalid_value"),
        ([user(text("a"), {"type": "image_url"})], "messages[0].content[1].image_url", "invalid_value"),
        ([user({"type": "image_url", "image_url": {}})], "messages[0].content[0].image_url", "invalid_value"),
        ([user({"type": "text"})], "messages[0].content[0].text", "invalid_value"),
        ([user({"type": "file", "file": {}})], "messages[0].content[0].type", "invalid_value"),
        ([user(*[PICTURE] * 9)], "messages[0].content[8].image_url.url", "several_images"),
        ([user(PICTURE, text("x" * 16_001))], "messages[0].content", "invalid_value"),
        ([user(*[PICTURE] * 65)], "messages[0].content", "invalid_value"),
        ([user(PICTURE)] * 257, "messages", "invalid_value"),
    ],
)
def test_a_bad_message_is_named(messages: list[object], param: str, code: str) -> None:
    with pytest.raises(ApiError) as caught:
        chat.parse(json.dumps({"messages": messages}).encode())
    assert (caught.value.status, caught.value.code, caught.value.param) == (422, code, param)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"nothing", b'{"a":' * 100_000, b'{"messages": [' + b"[" * 100_000),
        b'{"messages": [{"role": "user", "content": "\xff"}]}',
    ],
)
def test_what_is_no_json_is_a_400(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        chat.parse(body)
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")


@pytest.mark.parametrize("body", [b"[]", b"3", b"{}", b"null"])
def test_json_that_is_no_request_is_a_422(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        chat.parse(body)
    assert caught.value.status == 422


def test_a_body_of_countless_values_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(ApiError) as caught:
        chat.parse(b'{"a":[' + b"1," * 100_001)
    assert (caught.value.status, caught.value.code) == (413, "body_too_large")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("ocr", "stop", "n", "stream", "model"), JSON)), JSON)
def test_any_json_is_understood_or_refused(fields: dict[str, Any], content: object) -> None:
    body = {"messages": [{"role": "user", "content": content}, user(PICTURE)], **fields}
    assert outcome(json.dumps(body).encode()) in {200, 400, 422}


def outcome(body: bytes) -> int:
    try:
        chat.parse(body)
    except ApiError as error:
        return error.status
    return 200


def test_engines_words_for_fields_are_found_in_the_request() -> None:
    asked = parse({"role": "system", "content": "x"}, user(text("go"), PICTURE))
    places = {
        "file": "messages[1].content[1].image_url.url",
        "custom_prompt": "messages[1].content",
        "prompt_type": "ocr.task",
        "resolution": "ocr.resolution",
        "max_tokens": "max_tokens",
        "anything": "anything",
        None: None,
    }
    assert {field: asked.param(field) for field in places} == places


@pytest.mark.parametrize(
    ("detail", "named"), [("auto", False), ("high", False), ("original", False), ("low", True)]
)
def test_a_wish_for_less_detail_is_named_as_without_effect(detail: str, named: bool) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:,", "detail": detail}}
    found = chat.parse(json.dumps({"messages": [{"role": "user", "content": [picture]}]}).encode())
    assert found.asked.ignored == (("messages[0].content[0].image_url.detail",) if named else ())


def test_pictures_of_a_turn_are_kept_in_their_order() -> None:
    later = {"type": "image_url", "image_url": "data:image/png;base64,BB=="}
    found = parse(
        user(PICTURE, later), {"role": "assistant", "content": "x"}, user({"type": "text", "text": "And?"})
    )
    assert [each.param for each in found.pictures] == [
        "messages[0].content[0].image_url.url",
        "messages[0].content[1].image_url",
    ]
    assert (found.picture, found.picture_param) == (found.pictures[0].url, found.pictures[0].param)
    assert [each.url for each in found.without_urls().pictures] == ["", ""]
