"""What a request in Mistral's shape asks for."""

import json
from typing import Any

import pytest

from ocr_inference.api.mistral import body
from ocr_inference.documents.selection import ALL
from ocr_inference.errors import ApiError
from ocr_wire.tasks import Task

URL = {"type": "document_url", "document_url": "data:application/pdf;base64,JVBERi0="}


def parsed(**fields: Any) -> body.Request:
    return body.parse(json.dumps({"document": URL, **fields}).encode())


def refused(**fields: Any) -> tuple[int, str, str | None]:
    with pytest.raises(ApiError) as error:
        parsed(**fields)
    return error.value.status, error.value.code, error.value.param


def test_a_document_alone_is_read_whole_as_markdown() -> None:
    asked = parsed()
    assert (asked.picture, asked.picture_param) == (URL["document_url"], "document.document_url")
    assert (asked.file_id, asked.include_image_base64, asked.image_min_size) == (None, False, 0)
    assert (asked.asked.task, asked.asked.pages, asked.asked.model) == (Task.DOCUMENT, ALL, None)


@pytest.mark.parametrize(
    ("document", "picture", "param"),
    [
        ({"type": "image_url", "image_url": "data:x"}, "data:x", "document.image_url"),
        ({"type": "image_url", "image_url": {"url": "data:x"}}, "data:x", "document.image_url.url"),
    ],
)
def test_documents_have_several_forms(document: dict[str, Any], picture: str, param: str) -> None:
    asked = parsed(document=document)
    assert (asked.picture, asked.picture_param) == (picture, param)


@pytest.mark.parametrize(
    "document",
    [
        {"type": "file", "file_id": "file-12ab-34"},
        {"type": "document_url", "document_url": "http://localhost:8001/v1/files/file-12ab-34"},
        {"type": "document_url", "document_url": "https://ocr.example.com/v1/files/file-12ab-34/content?x=1"},
    ],
)
def test_an_uploaded_file_is_meant_by_its_id_or_its_url(document: dict[str, Any]) -> None:
    asked = parsed(document=document)
    assert (asked.file_id, asked.picture) == ("file-12ab-34", body.NOTHING)


@pytest.mark.parametrize(
    ("pages", "indices"),
    [
        ([2, 0], (0, 2)),
        ("0,2", (0, 2)),
        ("1-2", (1, 2)),
        ("8-", (8, 9)),
        ([], tuple(range(10))),
        (None, tuple(range(10))),
    ],
)
def test_pages_count_from_0(pages: Any, indices: tuple[int, ...]) -> None:
    assert parsed(pages=pages).asked.pages.indices(10, 100) == indices


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"document": {"type": "pdf", "data": "x"}}, 422, "invalid_value", "document.type"),
        ({"document": {"document_url": "x"}}, 422, "invalid_value", "document"),
        ({"document": None}, 422, "invalid_value", "document"),
        ({"pages": [-1]}, 422, "invalid_value", "pages[0]"),
        ({"pages": "one"}, 422, "invalid_value", "pages"),
        (
            {"document_annotation_format": {"type": "json_schema"}},
            422,
            "unsupported",
            "document_annotation_format",
        ),
        ({"extract_header": True}, 422, "unsupported", "extract_header"),
        ({"ocr": {"task": "documnt"}}, 422, "unknown_task", "ocr.task"),
        ({"ocr": {"task": "find"}}, 422, "invalid_value", "ocr.find_term"),
        ({"ocr": {"dpi": 10_000}}, 422, "invalid_value", "ocr.dpi"),
        ({"ocr": {"tsak": "ocr"}}, 422, "unknown_field", "ocr.tsak"),
        ({"ocr": {"pages": "1"}}, 422, "unknown_field", "ocr.pages"),
        ({"task": "ocr"}, 422, "unknown_field", "task"),
        ({"prompt_type": "ocr"}, 422, "unknown_field", "prompt_type"),
        ({"dpi": 300}, 422, "unknown_field", "dpi"),
        ({"ocr": {"find_term": "a", "custom_prompt": "b"}}, 422, "invalid_value", "ocr.task"),
        ({"x": [0] * 200_000}, 413, "body_too_large", None),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    fields: dict[str, Any], status: int, code: str, param: str | None
) -> None:
    assert refused(**fields) == (status, code, param)


def test_no_json_is_refused() -> None:
    with pytest.raises(ApiError) as error:
        body.parse(b'{"document":')
    assert (error.value.status, error.value.code) == (400, "invalid_json")


def test_what_clients_always_send_is_named_and_not_refused() -> None:
    asked = parsed(include_blocks=True, extract_header=False, table_format=None)
    assert asked.asked.ignored == ("include_blocks",)


@pytest.mark.parametrize(
    ("own", "task"), [({"find_term": "total"}, Task.FIND), ({"custom_prompt": "Read it."}, Task.FREEFORM)]
)
def test_a_term_or_a_prompt_is_its_task(own: dict[str, str], task: Task) -> None:
    assert parsed(ocr=own).asked.task is task
