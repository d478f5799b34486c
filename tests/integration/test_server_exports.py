"""What jobs read, as files: made, sent under safe names, and opened again; pages as pictures; jobs of kept files."""

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import docx
import pypdfium2
import pytest
import pytest_asyncio
from PIL import Image

from tests.support import inference, pages
from tests.support.inference import Server
from tests.support.pdfs import PdfPage, pdf

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODELS = "models: [{name: quick, engine: fake}]\nserver: {limits: {maxUploadBytes: 100000}}"
THREE = pdf([PdfPage("one"), PdfPage("two"), PdfPage("three")])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Server]:
    async with inference.server(MODELS, job_memory_bytes=1) as running:
        yield running


async def done(server: Server, document: bytes | None = THREE, **fields: str) -> str:
    """Submit a document; returns the job's id when it is read."""
    status, job = await server.json("POST", "/v1/jobs", data=inference.form(document, **fields))
    assert status == 202, job
    async with server.http.get(f"/v1/jobs/{job['id']}?watch=true") as response:
        states = [each["state"] async for each in inference.events(response)]
    assert states[-1] == "done"
    return str(job["id"])


async def fetched(server: Server, method: str, path: str, **request: Any) -> tuple[str, str, bytes]:
    """(content type, content disposition, file)"""
    async with server.http.request(method, path, **request) as response:
        assert response.status == 200, await response.text()
        return (
            response.headers["Content-Type"],
            response.headers["Content-Disposition"],
            await response.read(),
        )


async def test_a_job_as_each_format(server: Server) -> None:
    job = await done(server)
    path = f"/v1/jobs/{job}/result"
    _, kept = await server.json("GET", path)
    texts = [page["text"] for page in kept["pages"]]

    kind, disposition, file = await fetched(server, "GET", f"{path}?format=markdown")
    assert kind == "text/markdown; charset=utf-8"
    assert disposition == "attachment; filename=\"page.md\"; filename*=UTF-8''page.md"
    assert file.decode() == "\n\n---\n\n".join(texts) + "\n"

    _, _, file = await fetched(server, "GET", f"{path}?format=text&from=1")
    assert file.decode().count("\f") == 1

    kind, disposition, file = await fetched(server, "GET", f"{path}?format=json")
    assert kind == "application/json"
    assert "page.json" in disposition
    assert [page["text"] for page in (await server.json("GET", f"{path}?format=json"))[1]["pages"]] == texts

    _, _, file = await fetched(server, "GET", f"{path}?format=docx")
    assert texts[0].splitlines()[0].lstrip("# ") in docx.Document(io.BytesIO(file)).paragraphs[0].text

    kind, _, file = await fetched(server, "GET", f"{path}?format=pdf")
    assert kind == "application/pdf"
    document = pypdfium2.PdfDocument(file)
    assert [
        word in document[at].get_textpage().get_text_range()
        for at, word in enumerate(("one", "two", "three"))
    ]


async def test_pages_of_several_jobs_in_any_order_as_one_file(server: Server) -> None:
    first, second = await done(server), await done(server, pages.invoice())
    chosen = [{"job": first, "page": 3}, {"job": second, "page": 1}, {"job": first, "page": 1}]
    body = {"format": "pdf", "pages": chosen, "filename": "../../発票 <1>.tiff"}
    _, disposition, file = await fetched(server, "POST", "/v1/exports", json=body)
    assert disposition.startswith('attachment; filename="__ _1.pdf"; filename*=UTF-8')
    document = pypdfium2.PdfDocument(file)
    assert [round(page.get_width()) for page in document] == [420, 842, 420]
    assert "three" in document[0].get_textpage().get_text_range()
    _, _, file = await fetched(server, "POST", "/v1/exports", json={**body, "format": "json"})
    assert file.count(b'{"job":"') == 3


@pytest.mark.parametrize(
    ("change", "status", "code", "param"),
    [
        ({"format": "odt"}, 422, "invalid_value", "format"),
        ({"pages": []}, 422, "invalid_value", "pages"),
        ({"pages": [{"job": "x", "page": 0}]}, 422, "invalid_value", "pages[0].page"),
        ({"pages": [{"job": "x", "page": 1}]}, 404, "job_not_found", "pages[0].job"),
        ({"pages": "unknown page"}, 404, "no_such_page", "pages[0].page"),
        ({"nonsense": 1}, 422, "invalid_value", None),
    ],
)
async def test_what_cannot_be_exported_is_named(
    server: Server, change: dict[str, Any], status: int, code: str, param: str | None
) -> None:
    job = await done(server, pages="2")
    if change.get("pages") == "unknown page":
        change = {"pages": [{"job": job, "page": 1}]}
    body = {"format": "pdf", "pages": [{"job": job, "page": 2}], **change}
    got, error = await server.json("POST", "/v1/exports", json=body)
    assert (got, error["error"]["code"], error["error"]["param"]) == (status, code, param)


async def test_a_format_that_isnt_known_and_a_job_that_is_gone(server: Server) -> None:
    job = await done(server)
    path = f"/v1/jobs/{job}/result"
    status, error = await server.json("GET", f"{path}?format=odt")
    assert (status, error["error"]["param"]) == (422, "format")
    async with server.http.head(f"{path}?format=pdf") as response:
        assert (response.status, response.content_type) == (200, "application/pdf")
    await server.json("DELETE", f"/v1/jobs/{job}")
    assert (await server.json("GET", f"{path}?format=pdf"))[0] == 410


async def test_a_document_that_made_way_for_others_costs_its_pdf_alone(server: Server) -> None:
    job = await done(server)
    large = THREE + b"\n" * 90_000
    for _ in range(3):
        await done(server, large)
    path = f"/v1/jobs/{job}"
    status, error = await server.json("GET", f"{path}/result?format=pdf")
    assert (status, error["error"]["code"]) == (410, "document_gone")
    assert (await server.json("GET", f"{path}/pages/1/image"))[0] == 410
    assert (await fetched(server, "GET", f"{path}/result?format=docx"))[2].startswith(b"PK")


async def test_a_job_of_a_kept_file(server: Server) -> None:
    _, stored = await server.json("POST", "/v1/files", data=inference.form(THREE))
    job = await done(server, None, file_id=stored["id"], pages="2-")
    _, kept = await server.json("GET", f"/v1/jobs/{job}")
    assert (kept["filename"], kept["pages"]["total"]) == ("page.png", 2)
    _, read = await server.json("GET", f"/v1/jobs/{job}/result")
    assert "ignored_fields" not in read["pages"][0]["metadata"]
    await server.json("DELETE", f"/v1/files/{stored['id']}")
    assert (await fetched(server, "GET", f"/v1/jobs/{job}/result?format=pdf"))[2].startswith(b"%PDF")
    for form, status, code in (
        (inference.form(None, file_id=stored["id"]), 404, "file_not_found"),
        (inference.form(THREE, file_id=stored["id"]), 400, "two_files"),
    ):
        got, error = await server.json("POST", "/v1/jobs", data=form)
        assert (got, error["error"]["code"], error["error"]["param"]) == (status, code, "file_id")


async def test_pages_as_pictures(server: Server) -> None:
    job = await done(server)
    _, stored = await server.json("POST", "/v1/files", data=inference.form(pages.invoice()))
    wanted = {
        f"/v1/jobs/{job}/pages/2/image": {"?width=100": (100, 142)},
        f"/v1/files/{stored['id']}/pages/1/image": {"": (800, 546), "?width=2000": (820, 560)},
    }
    for path, sizes in wanted.items():
        for query, size in sizes.items():
            async with server.http.get(path + query) as response:
                assert (response.status, response.content_type) == (200, "image/jpeg")
                assert Image.open(io.BytesIO(await response.read())).size == size
                assert response.headers["Cache-Control"].startswith("private")
                tag = response.headers["ETag"]
            async with server.http.get(path + query, headers={"If-None-Match": f'"x", {tag}'}) as response:
                assert (response.status, await response.read()) == (304, b"")


async def test_pages_of_a_kept_document_are_counted(server: Server) -> None:
    for document, count in ((THREE, 3), (pages.invoice(), 1), (pages.tiff(2), 2)):
        _, stored = await server.json("POST", "/v1/files", data=inference.form(document))
        answer = {"id": stored["id"], "page_count": count}
        assert await server.json("GET", f"/v1/files/{stored['id']}/pages") == (200, answer)
    _, stored = await server.json("POST", "/v1/files", data=inference.form(b"%PDF-1.7 nothing"))
    status, error = await server.json("GET", f"/v1/files/{stored['id']}/pages")
    assert (status, error["error"]["code"], error["error"]["param"]) == (422, "invalid_pdf", "id")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("4/image", 404, "no_such_page"),
        ("0/image", 422, "invalid_value"),
        ("x/image", 422, "invalid_value"),
        ("1/image?width=15", 422, "invalid_value"),
        ("1/image?width=2401", 422, "invalid_value"),
    ],
)
async def test_pictures_that_there_arent(server: Server, path: str, status: int, code: str) -> None:
    _, stored = await server.json("POST", "/v1/files", data=inference.form(THREE))
    got, error = await server.json("GET", f"/v1/files/{stored['id']}/pages/{path}")
    assert (got, error["error"]["code"]) == (status, code)
    assert (await server.json("GET", f"/v1/files/nonsense/pages/{path}"))[0] == 404 or status == 422


async def test_a_list_has_the_jobs_of_the_key_that_asks(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("one\ntwo\n")
    mine, theirs = ({"Authorization": f"Bearer {key}"} for key in ("one", "two"))
    async with inference.server(api_keys_file=keys) as server:
        for path in ("/v1/jobs", "/v1/jobs/x/pages/1/image", "/v1/files/x/pages/1/image"):
            assert (await server.json("GET", path))[0] == 401
        assert (await server.json("POST", "/v1/exports", json={}))[0] == 401
        ids = []
        for _ in range(2):
            form = inference.form(pages.blank())
            ids.append((await server.json("POST", "/v1/jobs", data=form, headers=mine))[1]["id"])
        status, listed = await server.json("GET", "/v1/jobs", headers=mine)
        assert (status, [each["id"] for each in listed["data"]]) == (200, ids[::-1])
        assert (await server.json("GET", "/v1/jobs", headers=theirs))[1]["data"] == []
        assert (await server.json("GET", f"/v1/jobs/{ids[0]}", headers=theirs))[0] == 200


async def test_nobody_lists_jobs_where_there_are_no_keys(server: Server) -> None:
    status, error = await server.json("GET", "/v1/jobs")
    assert (status, error["error"]["code"]) == (403, "list_closed")
