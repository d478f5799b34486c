"""Files become pages of the list: chosen, dropped, pasted, from folders; what isn't a page is named."""

from pathlib import Path

from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.support import pages, webpage
from tests.support.paths import INVOICE


def test_several_files_become_pages_with_pictures_in_their_order(page: Page) -> None:
    webpage.choose(
        page, webpage.picture("b.png"), webpage.picture("a.png", INVOICE.read_bytes()), webpage.pdf(count=2)
    )
    expect(webpage.entries(page)).to_have_count(4)
    assert webpage.names(page) == ["b.png", "a.png", "contract.pdf Page 1 of 2", "contract.pdf Page 2 of 2"]
    # Drawn by the browser, and by the server.
    expect(page.locator(".page .thumb img")).to_have_count(4)
    for image in page.locator(".page .thumb img").all():
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    expect(page.get_by_role("heading", name="4 pages")).to_be_visible()


def test_a_second_drop_and_a_paste_add_to_the_first(page: Page) -> None:
    webpage.drop(page, [webpage.picture("one.png"), webpage.picture("two.png")])
    expect(webpage.entries(page)).to_have_count(2)
    webpage.drop(page, [webpage.picture("three.png")])
    expect(webpage.entries(page)).to_have_count(3)
    webpage.paste(page, webpage.picture("image.png"))
    expect(webpage.entries(page)).to_have_count(4)
    # Cells of a spreadsheet come with their picture: in a field they are text.
    webpage.paste(page, webpage.picture("cells.png"), into="#viewer-find", text="Total")
    assert webpage.names(page) == ["one.png", "two.png", "three.png", "image.png"]


def test_a_folder_is_taken_in_the_order_of_its_names_without_what_is_no_page(
    page: Page, tmp_path: Path
) -> None:
    (tmp_path / "inner").mkdir()
    for name in ("page10.png", "page2.png", "inner/page1.png"):
        (tmp_path / name).write_bytes(pages.blank())
    (tmp_path / "notes.docx").write_bytes(b"PK\x03\x04")
    (tmp_path / ".hidden.png").write_bytes(pages.blank())
    page.locator("[data-test=folder]").set_input_files(str(tmp_path))
    expect(webpage.entries(page)).to_have_count(3)
    assert webpage.names(page) == ["page1.png", "page2.png", "page10.png"]
    expect(page.get_by_role("log")).to_contain_text("1 file that isn’t a page was left out")


def test_what_a_file_is_its_bytes_say_and_what_is_none_is_named(page: Page) -> None:
    webpage.choose(
        page, webpage.picture("really-\u202ea\u2066\n.pdf"), webpage.picture("broken.png", b"no picture")
    )
    expect(webpage.entries(page)).to_have_count(1)
    # Without what would turn the text around it.
    assert webpage.names(page) == ["really-a.pdf"]
    expect(page.get_by_role("log")).to_contain_text("“broken.png” isn’t a picture, PDF or TIFF")


def test_a_document_that_cant_be_read_says_why_in_plain_words(page: Page) -> None:
    webpage.choose(
        page, {"name": "broken.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.7\nnothing"}
    )
    expect(webpage.entries(page)).to_contain_text("This PDF is damaged.")
    expect(page.locator("button.read")).to_be_disabled()


def test_pages_of_a_tiff_are_counted(page: Page) -> None:
    webpage.choose(page, {"name": "fax.tif", "mimeType": "image/tiff", "buffer": pages.tiff(3)})
    expect(webpage.entries(page)).to_have_count(3)


def test_a_dropped_folder_is_walked(page: Page, tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    (folder / "inner").mkdir(parents=True)
    for name in ("page10.png", "page2.png", "inner/page1.png", ".hidden.png"):
        (folder / name).write_bytes(pages.blank())
    # As a file manager drops it: a page can't make an event with a folder by itself.
    devtools = page.context.new_cdp_session(page)
    dropped = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
    for step in ("dragEnter", "dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": step, "x": 400, "y": 400, "data": dropped})
    expect(webpage.entries(page)).to_have_count(3)
    assert webpage.names(page) == ["page1.png", "page2.png", "page10.png"]


def test_pictures_of_pages_that_are_gone_are_let_go(context: BrowserContext, page: Page) -> None:
    held: list[Route] = []
    context.route("**/image?width=1600", lambda route: held.append(route))  # noqa: PLW0108 - Playwright looks into functions, built-in ones have nothing
    page.evaluate(
        """() => {
            const made = globalThis.made = new Set(), {createObjectURL, revokeObjectURL} = URL;
            URL.createObjectURL = blob => { const url = createObjectURL(blob); made.add(url); return url; };
            URL.revokeObjectURL = url => { made.delete(url); revokeObjectURL(url); };
        }"""
    )
    webpage.choose(page, webpage.picture(), webpage.pdf(count=1))
    expect(page.locator(".page .thumb img")).to_have_count(2)
    with page.expect_request("**/image?width=1600"):
        webpage.entries(page).nth(1).locator(".show").click()
    page.get_by_role("checkbox", name="Select all").check()
    page.get_by_role("button", name="Delete").click()
    with page.expect_response("**/image?width=1600") as answered:
        held[0].continue_()
    answered.value.finished()
    page.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
    assert page.evaluate("made.size") == 0
