"""Files of what was read: downloaded as a person does, and opened again by what would open them."""

import json
import zipfile
from pathlib import Path

import docx
import pypdfium2
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.support import pages, webpage
from tests.support.shown import Part, Shown, show

FORMATS = {
    "markdown": "Markdown (.md)",
    "docx": "Word (.docx)",
    "pdf": "Searchable PDF",
    "text": "Plain text (.txt)",
    "json": "JSON (.json)",
}


def _export(page: Page, folder: Path, format_: str, scope: str | None = None) -> Path:
    page.locator(".menu summary").click()
    if scope:
        page.get_by_label(scope).check()
    with page.expect_download() as started:
        page.get_by_role("button", name=FORMATS[format_]).click()
    path = folder / started.value.suggested_filename
    started.value.save_as(path)
    expect(page.locator(".menu")).not_to_have_attribute("open", "")
    return path


def test_real_pages_are_exported_in_the_order_of_the_list_and_open_again(page: Page, tmp_path: Path) -> None:
    webpage.choose(
        page,
        {"name": "scan.png", "mimeType": "image/png", "buffer": pages.invoice()},
        {"name": "papers.pdf", "mimeType": "application/pdf", "buffer": pages.pdf(1)},
    )
    webpage.use(page, "pp-ocr")
    webpage.read(page)
    webpage.expect_states(page, ["Read", "Read"])
    webpage.choose(page, {"name": "later.png", "mimeType": "image/png", "buffer": pages.blank()})
    note = "without the text of 1 page"

    markdown = _export(page, tmp_path, "markdown", "All 3 pages")
    expect(page.get_by_text(note)).to_be_visible()
    assert markdown.name == "pages.md"
    first, second, third = markdown.read_text().split("\n\n---\n\n")
    assert first == second
    assert "Blue Harbour Ltd" in first
    assert third == "<!-- page 1 of later.png is missing: it wasn't read -->\n"

    text = _export(page, tmp_path, "text").read_text()
    assert [part.count("Total amount") for part in text.split("\f")] == [1, 1, 0]
    assert text.endswith("(page 1 of later.png is missing: it wasn't read)\n")

    found = json.loads(_export(page, tmp_path, "json").read_text())["pages"]
    assert [(each["document"], each["page"]) for each in found] == [
        ("scan.png", 1),
        ("papers.pdf", 1),
        ("later.png", 1),
    ]
    assert found[0]["model"] == "pp-ocr"
    assert found[2]["error"]["code"] == "unread"

    word = docx.Document(str(_export(page, tmp_path, "docx")))
    words = "\n".join(each.text for each in word.paragraphs)
    cells = [cell.text for table in word.tables for row in table.rows for cell in row.cells]
    assert words.count("Blue Harbour Ltd") == 2
    assert (words + "\n".join(cells)).count("134.75") == 2

    with pypdfium2.PdfDocument(_export(page, tmp_path, "pdf")) as searchable:
        assert len(searchable) == 2
        for each in searchable:
            texts = each.get_textpage()
            match = texts.search("Total amount").get_next()
            assert match
            assert texts.count_rects(*match) == 1
            left, bottom, right, top = texts.get_rect(0)
            scale = each.get_width() / 820
            assert left == pytest.approx(60 * scale, abs=4 * scale)
            assert each.get_height() - top == pytest.approx(454 * scale, abs=12 * scale)
            assert 100 * scale < right - left < 260 * scale
            assert 10 * scale < top - bottom < 50 * scale


PARTS = (
    Part("title", (50, 40, 800, 90), "# A report"),
    Part("image", (100, 700, 500, 1000), "A landscape"),
    Part("table", (50, 330, 900, 520), "<table><tr><td>Paper</td><td>504.50</td></tr></table>"),
)
TEXT = "\n\n".join(
    ("![image](#xywh=100,700,400,300)\n" if part.label == "image" else "") + part.text for part in PARTS
)


def test_figures_come_as_files_beside_the_markdown(page: Page, tmp_path: Path) -> None:
    show(
        page,
        Shown(PARTS, text=TEXT),
        Shown(PARTS, text=TEXT.replace("700", "5000")),
        Shown(state="cancelled"),
    )
    path = _export(page, tmp_path, "markdown", "All 3 pages")
    assert path.name == "report.zip"
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == ["images/page-1-1.png", "report.md"]
        first, second, third = archive.read("report.md").decode().split("\n\n---\n\n")
        assert first == TEXT.replace("#xywh=100,700,400,300", "images/page-1-1.png")
        assert "#xywh=100,5000,400,300" in second, "no such part of the page"
        assert "page 3 of report.pdf is missing" in third
        with archive.open("images/page-1-1.png") as file, Image.open(file) as figure:
            # Of a picture that has half of the pixels.
            assert figure.size == (200, 150)
            assert figure.convert("RGB").getpixel((100, 75)) == (204, 230, 179)


def test_figures_of_a_page_that_nobody_looked_at_are_drawn_for_it(page: Page, tmp_path: Path) -> None:
    webpage.choose(page, webpage.pdf(count=2))
    expect(webpage.entries(page)).to_have_count(2)
    reading = {
        "jobId": "job-0",
        "state": "done",
        "error": None,
        "asked": {"task": "document", "model": "quick", "findTerm": "", "prompt": ""},
        "result": Shown(text="![chart](#xywh=0,0,500,700)").as_json(1)["result"],
    }
    page.evaluate(
        """async (reading) => {
          const store = await import("/ui/store.js");
          store.patchPage(store.pages.value[1].id, {readings: [reading]});
        }""",
        reading,
    )
    with zipfile.ZipFile(_export(page, tmp_path, "markdown", "All 2 pages")) as archive:
        assert "![chart](images/page-2-1.png)" in archive.read("contract.md").decode()
        assert Image.open(archive.open("images/page-2-1.png")).size[0] > 300


def test_this_page_alone_is_exported_and_what_the_server_has_not_is_said(page: Page, tmp_path: Path) -> None:
    show(page, Shown(PARTS, text="one"), Shown(PARTS, text="two"))
    assert _export(page, tmp_path, "markdown", "This page").read_text() == "one\n"
    page.locator(".menu summary").click()
    page.get_by_role("button", name=FORMATS["docx"]).click()
    expect(page.get_by_role("log")).to_contain_text("None of these pages has been read yet.")
