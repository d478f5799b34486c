"""Documents of several pages over HTTP: each page is answered, or its error stands in its place."""

import base64
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image

from ocr_inference.documents.places import Places
from ocr_inference.errors import ApiError
from tests.support import inference, pages
from tests.support.inference import Server
from tests.support.pdfs import PdfPage, pdf

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODELS = """
models:
  - {{name: quick, engine: fake, options: {{faults_file: {faults}}}}}
  - {{name: broken, engine: fake, options: {{faults_file: {faults_of_broken}}}}}
server: {{limits: {{maxPdfPages: 4}}}}
"""
THREE = pdf([PdfPage("one"), PdfPage("two"), PdfPage("three")])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(folder: Path) -> AsyncIterator[Server]:
    (folder / "broken.json").write_text('{"load": "fail"}')
    models = MODELS.format(faults=folder / "quick.json", faults_of_broken=folder / "broken.json")
    async with inference.server(models) as running:
        yield running


def tiff(*sizes: tuple[int, int]) -> bytes:
    first, *rest = [Image.new("1", size, 1) for size in sizes]
    out = io.BytesIO()
    first.save(out, "TIFF", save_all=True, append_images=rest, compression="group4")
    return out.getvalue()


async def test_a_document_is_answered_page_by_page_and_as_a_whole(server: Server) -> None:
    status, whole = await server.read(THREE)
    assert (status, whole["success"], whole["page_count"], whole["errors"]) == (200, True, 3, [])
    assert [page["index"] for page in whole["pages"]] == [0, 1, 2]
    texts = [page["text"] for page in whole["pages"]]
    assert len(set(texts)) == 3
    assert whole["text"] == "\n\n---\n\n".join(texts)
    assert whole["boxes"] == []
    first = whole["pages"][0]
    assert (first["dpi"], first["image_dims"], first["error"]) == (144, {"w": 840, "h": 1190}, None)
    assert whole["image_dims"] == first["image_dims"]
    assert whole["metadata"]["model"] == "quick"
    assert "finish_reason" not in whole["metadata"]


async def test_pages_and_their_resolution_can_be_chosen(server: Server) -> None:
    _, all_pages = await server.read(THREE)
    status, some = await server.read(THREE, pages="3,1", dpi="144")
    assert status == 200
    assert [page["text"] for page in some["pages"]] == [all_pages["pages"][at]["text"] for at in (0, 2)]
    _, small = await server.read(THREE, pages="2-2", dpi="72")
    (page,) = small["pages"]
    assert (page["index"], page["dpi"], page["image_dims"]) == (1, 72, {"w": 420, "h": 595})
    assert small["boxes"] == page["boxes"] != []  # the only one that was requested
    assert small["text"] == page["text"]


async def test_frames_of_a_tiff_are_pages(server: Server) -> None:
    status, whole = await server.read(tiff((60, 40), (61, 40), (62, 40)))
    assert (status, whole["page_count"], len({page["text"] for page in whole["pages"]})) == (200, 3, 3)
    assert whole["pages"][0]["dpi"] is None
    _, one = await server.read(tiff((60, 40)))
    assert "pages" not in one  # one picture is answered as ever


@pytest.mark.parametrize(
    ("document", "fields", "status", "code", "param"),
    [
        (THREE, {"pages": "4"}, 422, "no_such_page", "pages"),
        (THREE, {"pages": "two"}, 422, "invalid_value", "pages"),
        (THREE, {"dpi": "601"}, 422, "invalid_value", "dpi"),
        (pdf([PdfPage("x")] * 5), {}, 413, "too_many_pages", "pages"),
        (pages.blank(), {"pages": "2"}, 422, "no_such_page", "pages"),
        (b"%PDF-1.7 ...", {}, 422, "invalid_pdf", "file"),
    ],
    ids=["page", "selection", "dpi", "many", "picture", "damaged"],
)
async def test_what_is_refused_as_a_whole(
    server: Server, document: bytes, fields: dict[str, Any], status: int, code: str, param: str
) -> None:
    got, error = await server.read(document, **fields)
    assert (got, error["code"], error["param"]) == (status, code, param)


async def test_a_document_longer_than_allowed_is_read_in_parts(server: Server) -> None:
    status, part = await server.read(pdf([PdfPage("x")] * 5), pages="4-")
    assert (status, [page["index"] for page in part["pages"]]) == (200, [3, 4])


async def test_a_page_that_is_too_large_is_an_error_in_its_place(server: Server) -> None:
    status, whole = await server.read(tiff((60, 40), (12_000, 12_000), (61, 40)))
    assert (status, whole["success"]) == (200, True)
    assert [bool(page["text"]) for page in whole["pages"]] == [True, False, True]
    assert whole["pages"][1]["error"]["code"] == "image_too_large"
    (error,) = whole["errors"]
    assert error.startswith("page 2 has 12000 x 12000 pixels")


async def test_a_page_that_fails_is_an_error_in_its_place(server: Server, folder: Path) -> None:
    _, whole = await server.read(THREE)
    key = whole["pages"][1]["text"].split()[4]
    (folder / "quick.json").write_text(json.dumps({f"page {key}": "fail"}))
    try:
        status, whole = await server.read(THREE)
        alone, error = await server.read(THREE, pages="2")
    finally:
        (folder / "quick.json").unlink()
    assert status == 200
    assert [page["error"] and page["error"]["code"] for page in whole["pages"]] == [
        None,
        "engine_failed",
        None,
    ]
    assert (alone, error["code"]) == (500, "engine_failed")  # where no page was read, the whole fails


async def test_a_model_that_does_not_load_fails_the_whole(server: Server) -> None:
    status, error = await server.read(THREE, model="broken")
    assert (status, error["code"]) == (503, "load_failed")


async def test_documents_wait_for_a_place_and_not_for_ever() -> None:
    places = Places(most=1, wait_seconds=0.01)
    async with places.taken():
        with pytest.raises(ApiError) as refused:
            async with places.taken():
                pytest.fail("there is one place")
    assert (refused.value.status, refused.value.code) == (429, "renderers_busy")
    async with places.taken():
        pass


# --- as clients of DeepSeek-OCR-WebUI have it ---------------------------------------------------------------------


async def test_a_document_is_answered_as_one_text_with_a_line_for_each_page(server: Server) -> None:
    _, whole = await server.read(THREE, prompt_type="ocr")
    status, body = await server.json("POST", "/ocr-pdf", data=inference.form(THREE, mode="ocr"))
    assert status == 200
    assert list(body) == ["success", "filename", "page_count", "pages", "merged_text", "errors", "metadata"]
    assert (body["success"], body["filename"], body["page_count"], body["errors"]) == (
        True,
        "page.png",
        3,
        [],
    )
    texts = [page["text"] for page in whole["pages"]]
    raw = [page["raw_text"] for page in whole["pages"]]
    assert body["pages"] == [
        {"page": at + 1, "text": texts[at], "raw_text": raw[at], "error": None} for at in range(3)
    ]
    assert body["merged_text"] == "\n".join(f"--- Page {at + 1} ---\n{texts[at]}\n" for at in range(3))
    assert (body["metadata"]["mode"], body["metadata"]["gpu_managed"]) == ("ocr", True)


async def test_a_page_that_cannot_be_read_has_its_line_too(server: Server) -> None:
    broken = pdf([PdfPage("one"), None, PdfPage("three")])
    status, body = await server.json("POST", "/ocr-pdf", data=inference.form(broken))
    assert (status, body["page_count"]) == (200, 3)
    assert body["pages"][1]["error"] in body["errors"][0]
    assert "--- Page 2 ---\n(this page could not be read)\n" in body["merged_text"]
    status, body = await server.json("POST", "/pdf-to-images", data=inference.form(broken))
    assert [image["page_number"] for image in body["images"]] == [1, 3]
    assert body["errors"][0].startswith("page 2 can't be loaded")


async def test_a_picture_is_a_document_of_one_page(server: Server) -> None:
    status, body = await server.json("POST", "/ocr-pdf", data=inference.form(pages.blank()))
    assert (status, body["page_count"], len(body["pages"])) == (200, 1, 1)
    status, body = await server.json("POST", "/pdf-to-images", data=inference.form(pages.blank()))
    assert (status, body["code"]) == (415, "unsupported_media_type")


async def test_pages_of_a_document_are_sent_as_pictures(server: Server) -> None:
    status, body = await server.json("POST", "/pdf-to-images", data=inference.form(THREE))
    assert (status, list(body)) == (200, ["success", "images", "page_count", "original_filename", "errors"])
    assert (body["success"], body["page_count"], body["original_filename"]) == (True, 3, "page.png")
    for at, image in enumerate(body["images"]):
        assert (image["name"], image["page_number"]) == (f"page_{at + 1}.png", at + 1)
        head, _, data = image["data"].partition(",")
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            assert (head, picture.format) == ("data:image/png;base64", "PNG")
            assert picture.size == (image["width"], image["height"]) == (840, 1190)
    status, body = await server.json(
        "POST", "/pdf-to-images", data=inference.form(THREE, pages="2", dpi="72")
    )
    assert [(each["page_number"], each["width"]) for each in body["images"]] == [(2, 420)]
    status, body = await server.json("POST", "/pdf-to-images", data=inference.form(THREE, pages="9"))
    assert (status, body["param"]) == (422, "pages")


async def test_names_that_are_not_utf8_do_no_harm(server: Server) -> None:
    head = b'--cut\r\nContent-Disposition: form-data; name="%s"; filename="\xff\xfe.pdf"\r\n\r\n'
    field = b'--cut\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n1\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=cut"}
    sent = field + head % b"file" + THREE + b"\r\n--cut--\r\n"
    status, body = await server.json("POST", "/ocr-pdf", data=sent, headers=headers)
    assert (status, body["filename"]) == (200, "??.pdf")
    assert body["metadata"]["ignored_fields"] == ["?"]
    status, body = await server.json(
        "POST", "/ocr", data=field + head % b"\xff" + b"x\r\n--cut--\r\n", headers=headers
    )
    assert status == 422
