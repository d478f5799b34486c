"""Mistral's own client against the real server process: what its users write works as it stands."""

import base64
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from mistralai.client import Mistral
from mistralai.client.errors import HTTPValidationError, SDKError
from PIL import Image

from tests.support import inference, pages
from tests.support.patience import PATIENCE
from tests.support.pdfs import PdfPage, pdf

pytestmark = pytest.mark.asyncio(loop_scope="module")

THREE = pdf([PdfPage("one"), PdfPage("two"), PdfPage("three")])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mistral]:
    folder = tmp_path_factory.mktemp("server")
    keys, file = folder / "keys", folder / "config.json"
    keys.write_text("sk-test\n")
    file.write_text(json.dumps({"models": [{"name": "fake", "engine": "fake"}]}))
    async with inference.process("serve", "--config", str(file), OCR_API_KEYS_FILE=str(keys)) as process:
        url = await inference.url_of(process)
        async with Mistral(api_key="sk-test", server_url=url, timeout_ms=int(PATIENCE * 1000)) as client:
            yield client


def document(data: bytes, kind: str = "application/pdf") -> Any:
    return {"type": "document_url", "document_url": inference.data_url(data, kind)}


async def test_a_document_as_a_data_url(client: Mistral) -> None:
    answer = await client.ocr.process_async(model="fake", document=document(THREE))
    assert (answer.model, [page.index for page in answer.pages]) == ("fake", [0, 1, 2])
    assert len({page.markdown for page in answer.pages}) == 3
    first = answer.pages[0]
    assert first.images == []
    assert first.dimensions is not None
    assert (first.dimensions.dpi, first.dimensions.width, first.dimensions.height) == (144, 840, 1190)
    assert (answer.usage_info.pages_processed, answer.usage_info.doc_size_bytes) == (3, len(THREE))


@pytest.mark.parametrize("wanted", [[2, 0], "0,2", "0-0,2-"], ids=str)
async def test_pages_count_from_0(client: Mistral, wanted: Any) -> None:
    answer = await client.ocr.process_async(model=None, document=document(THREE), pages=wanted)
    assert [page.index for page in answer.pages] == [0, 2]
    assert answer.usage_info.pages_processed == 2


async def test_a_model_of_mistrals_is_the_default_one(client: Mistral) -> None:
    """Clients whose model can't be chosen send it."""
    for name in ("mistral-ocr-latest", "mistral-ocr-2512"):
        answer = await client.ocr.process_async(model=name, document=document(THREE), pages=[0])
        assert answer.model == "fake"
    with pytest.raises(SDKError, match="no model 'mistral-large-latest' here"):
        await client.ocr.process_async(model="mistral-large-latest", document=document(THREE))


async def test_a_picture(client: Mistral) -> None:
    picture: Any = {"type": "image_url", "image_url": {"url": inference.data_url(pages.blank())}}
    answer = await client.ocr.process_async(model="fake", document=picture)
    (page,) = answer.pages
    assert page.dimensions is not None
    assert (page.dimensions.width, page.dimensions.height) == (64, 48)


async def test_base64_alone(client: Mistral) -> None:
    alone: Any = {"type": "document_url", "document_url": base64.b64encode(THREE).decode()}
    answer = await client.ocr.process_async(model="fake", document=alone, pages=[1])
    assert [page.index for page in answer.pages] == [1]


async def test_a_file_that_was_uploaded(client: Mistral) -> None:
    stored = await client.files.upload_async(file={"file_name": "three.pdf", "content": THREE}, purpose="ocr")
    assert (stored.filename, stored.size_bytes, stored.purpose) == ("three.pdf", len(THREE), "ocr")
    assert (await client.files.retrieve_async(file_id=stored.id)).filename == "three.pdf"
    signed = await client.files.get_signed_url_async(file_id=stored.id)
    by_id = await client.ocr.process_async(model="fake", document={"type": "file", "file_id": stored.id})
    by_url = await client.ocr.process_async(
        model="fake", document={"type": "document_url", "document_url": signed.url}
    )
    assert by_id.model_dump() == by_url.model_dump()
    assert (by_id.usage_info.pages_processed, by_id.usage_info.doc_size_bytes) == (3, len(THREE))
    assert (await client.files.delete_async(file_id=stored.id)).deleted
    with pytest.raises(SDKError) as gone:
        await client.ocr.process_async(model="fake", document={"type": "file", "file_id": stored.id})
    assert gone.value.status_code == 404
    assert "file_not_found" in gone.value.body


@pytest.mark.parametrize(
    ("request_", "code", "param"),
    [
        (
            {"document": {"type": "document_url", "document_url": "https://example.com/a.pdf"}},
            "remote_url",
            None,
        ),
        ({"document": document(b"%PDF-1.7 ...")}, "invalid_pdf", "document.document_url"),
        ({"document": document(THREE), "pages": [7]}, "no_such_page", "pages"),
        ({"document": document(THREE), "pages": "first"}, "invalid_value", "pages"),
        ({"document": document(THREE), "table_format": "html"}, "unsupported", "table_format"),
    ],
    ids=["url", "damaged", "page", "selection", "tables"],
)
async def test_what_is_refused_says_why(
    client: Mistral, request_: dict[str, Any], code: str, param: str | None
) -> None:
    with pytest.raises(HTTPValidationError) as refused:
        await client.ocr.process_async(model="fake", **request_)
    error = json.loads(refused.value.body)["error"]
    assert error["code"] == code
    assert param is None or error["param"] == param


async def test_a_page_that_cannot_be_read_has_its_error_in_its_place(client: Mistral) -> None:
    first, *rest = [Image.new("1", size, 1) for size in ((60, 40), (12_000, 12_000))]
    out = io.BytesIO()
    first.save(out, "TIFF", save_all=True, append_images=rest, compression="group4")
    answer = await client.ocr.process_async(model="fake", document=document(out.getvalue(), "image/tiff"))
    good, bad = answer.pages
    assert good.markdown
    assert (bad.markdown, bad.images, bad.dimensions) == ("", [], None)
    assert answer.usage_info.pages_processed == 1
