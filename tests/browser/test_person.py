"""What the page is for, from its opening to a free GPU, as one person does it."""

import io
import zipfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, expect

from tests.support import browser as support
from tests.support import webpage
from tests.support.paths import INVOICE


def test_a_pdf_is_dropped_read_searched_and_exported_and_the_model_leaves_the_gpu(
    browser: Browser, gpu_server: support.Server
) -> None:
    with (
        browser.new_context(
            base_url=gpu_server.url, locale="en-GB", viewport={"width": 1280, "height": 800}
        ) as context,
        support.page_of(context) as page,
    ):
        page.goto("/")
        model = page.locator(".model")
        page.get_by_label("Seconds").fill("600")
        page.get_by_role("button", name="Set", exact=True).click()

        webpage.drop(
            page, [webpage.File(name="invoices.pdf", mimeType="application/pdf", buffer=_invoices())]
        )
        expect(webpage.entries(page)).to_have_count(2)
        page.get_by_role("button", name="Read 2 pages").click()
        webpage.expect_states(page, ["Read", "Read"])
        expect(page.get_by_role("article")).to_contain_text("Harbour Paper Company")
        expect(page.get_by_role("table").get_by_role("cell", name="504.50")).to_be_visible()
        expect(model).to_contain_text("on the GPU")

        page.get_by_role("searchbox").fill("ledger")
        expect(page.locator(".find .count")).to_have_text("2 found")
        page.get_by_role("searchbox").press("Enter")
        expect(page.locator(".box[data-active]")).to_be_visible()

        page.locator("summary", has_text="Export").click()
        with page.expect_download() as download:
            page.get_by_role("button", name="Word (.docx)").click()
        assert "Harbour Paper Company" in _text(download.value.path())

        page.get_by_label("Seconds").fill("0")
        page.get_by_role("button", name="Set", exact=True).click()
        expect(model).to_contain_text("in host memory")
        expect(page.get_by_role("img", name="GPU memory").locator("title")).to_contain_text("now 0 B")


def _invoices() -> bytes:
    """Return a PDF of two pages that are pictures, as a scanner makes them."""
    data = io.BytesIO()
    with Image.open(INVOICE) as picture:
        page = picture.convert("RGB")
        page.save(data, "PDF", save_all=True, append_images=[page], resolution=144)
    return data.getvalue()


def _text(docx: Path) -> str:
    with zipfile.ZipFile(docx) as opened:
        return opened.read("word/document.xml").decode()
