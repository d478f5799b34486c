"""Recorded requests of other servers' clients, and what those read of the answer (`tests/frozen/clients`)."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.support import inference, pages
from tests.support.documents import FROZEN
from tests.support.inference import Server
from tests.support.pdfs import PdfPage, pdf

pytestmark = pytest.mark.asyncio(loop_scope="module")

Case = dict[str, Any]

FILES = {
    "page": pages.blank(64, 48),
    "pdf": pdf([PdfPage("one"), PdfPage("two")]),
    "none": b"no picture at all",
}
"""Content of a case's file."""

TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "number": (int, float),
    "bool": bool,
    "null": type(None),
    "list": list,
    "object": dict,
}


def cases(file: Path) -> list[Any]:
    return [pytest.param(case, id=f"{file.stem}: {case['case']}") for case in json.loads(file.read_text())]


RECORDED = sorted((FROZEN / "clients").glob("*.json"))
CASES = [case for file in RECORDED for case in cases(file)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Server]:
    async with inference.server() as running:
        yield running


async def sent(server: Server, case: Case) -> tuple[int, Any]:
    request: dict[str, Any] = {"headers": case.get("headers", {})}
    if "file" in case:
        form = aiohttp.FormData(case["form"], default_to_multipart=True)
        file = case["file"]
        form.add_field(file["field"], FILES[file.get("content", "page")], filename=file["name"])
        request["data"] = form
    elif "form" in case:
        request["data"] = case["form"]
    elif "json" in case:
        request["json"] = filled(case["json"])
    async with server.http.request(case["method"], case["path"], **request) as response:
        if response.content_type != "text/event-stream":
            return response.status, await response.json()
        *events, done = [line[6:] async for line in response.content if line.startswith(b"data: ")]
        assert done.strip() == b"[DONE]"
        return response.status, [json.loads(event) for event in events]


def filled(value: Any) -> Any:
    """A recorded body with the page where the client had one."""
    if isinstance(value, dict):
        return {key: filled(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner) for inner in value]
    if isinstance(value, str):
        url, damaged = inference.data_url(FILES["page"]), inference.data_url(pages.truncated())
        value = value.replace("$DATA_URL", url).replace("$DAMAGED", damaged)
        return value.replace("$BASE64", url.partition(",")[2])
    return value


def found(body: Any, path: str) -> Any:
    for step in path.split("."):
        body = body[int(step)] if isinstance(body, list) else body[step]
    return body


def is_of(value: Any, kinds: str) -> bool:
    """Whether JSON's type of a value is one of these; a bool is no number."""
    return any(
        isinstance(value, TYPES[kind]) and (kind == "bool" or not isinstance(value, bool))
        for kind in kinds.split("|")
    )


@pytest.mark.parametrize("case", CASES)
async def test_a_client_finds_what_it_reads(server: Server, case: Case) -> None:
    await server.json("POST", "/gpu/load")
    status, body = await sent(server, case)
    assert status == case.get("status", 200), body
    for path, kinds in case["reads"].items():
        assert is_of(found(body, path), kinds), (path, body)
    for path, value in case.get("finds", {}).items():
        assert found(body, path) == value, (path, body)


@pytest.mark.parametrize("task", ["document", "ocr", "find"])
async def test_places_are_in_the_raw_text_as_pages_read_them(server: Server, task: str) -> None:
    """DeepSeek-OCR-WebUI's page draws its overlay and makes Word and PDF documents from `raw_text` alone."""
    _, body = await server.read(FILES["page"], prompt_type=task, find_term="fake")
    places = re.findall(
        r"<\|ref\|>(.*?)<\|/ref\|><\|det\|>(\[\[.*?\]\])<\|/det\|>", body["raw_text"], re.DOTALL
    )
    assert [label for label, _ in places] == [box["label"] for box in body["boxes"]] != []
    assert json.loads(places[0][1]) == [[0, 0, 999, 999]]
    _, body = await server.read(FILES["page"], prompt_type="free")
    assert (body["raw_text"], body["boxes"]) == (body["text"], [])


async def test_there_are_cases_of_every_client() -> None:
    assert {file.stem for file in RECORDED} == {"webui", "low-vram", "gpu-manager", "langchain", "open-webui"}
    assert all(case.values[0]["reads"] for case in CASES)
