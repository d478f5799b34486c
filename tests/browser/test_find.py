"""Find: in text that was read, over all pages; and on the page itself, by the server's task."""

import pytest
from playwright.sync_api import Page, expect

from tests.support.paths import ROOT
from tests.support.shown import Part, Shown, show

FIRST = Shown(
    [
        Part("title", (50, 40, 800, 90), "# The energy report"),
        Part("text", (50, 110, 900, 160), r"Ener**gy**: \(E = mc^2\)"),
        Part("text", (50, 900, 900, 960), "Nothing of it here."),
    ]
)
SECOND = Shown(
    [Part("ＥＮＥＲ  ＧＹ of line 1", (50, 40, 800, 90)), Part("other", (50, 110, 900, 160))], task="ocr"
)
MARKED = "CSS.highlights.get('found')?.size ?? 0"


def test_text_of_all_pages_is_searched_whatever_its_case_width_and_markup(page: Page) -> None:
    _, second, _ = show(page, FIRST, SECOND, Shown(state=None))
    field = page.get_by_role("searchbox", name="Find in the text of all pages")
    field.fill("energy")
    matches = page.get_by_role("list", name="Matches in the text").get_by_role("button")
    expect(matches).to_have_text(
        ["Page 1 The energy report", "Page 1 Energy: E = mc^2", "Page 2 ＥＮＥＲ ＧＹ of line 1"]
    )
    expect(page.locator(".find .count")).to_have_text("3 found")
    assert page.evaluate(MARKED) == 2
    expect(page.locator(".box.hit")).to_have_count(2)
    field.press("Enter")
    expect(page.locator(".find .count")).to_have_text("1 of 3")
    expect(page.locator(".box[data-active]")).to_have_attribute("title", "Title: # The energy report")
    field.press("Shift+Enter")
    expect(page.locator(".find .count")).to_have_text("3 of 3")
    assert page.evaluate("import('/ui/store.js').then((store) => store.currentId.value)") == second
    expect(page.locator(".box[data-active]")).to_have_attribute("title", "ＥＮＥＲ  ＧＹ of line 1")
    matches.nth(1).click()
    expect(page.get_by_role("article")).to_contain_text("Nothing of it here.")
    expect(matches.nth(1)).to_have_attribute("aria-current", "true")
    assert page.evaluate("[...CSS.highlights.get('found-chosen')].map(String)") == ["Energy"]
    field.fill("mc^2")
    expect(matches).to_have_text(["Page 1 Energy: E = mc^2"])
    page.mouse.move(0, 0)
    field.press("Enter")
    expect(page.locator(".box[data-active]")).to_be_visible()
    field.fill("nowhere")
    expect(page.locator(".find .count")).to_have_text("Nothing found")
    expect(page.locator(".box[data-active]")).to_have_count(0)


def test_lines_that_have_a_match_are_marked_on_the_page(page: Page) -> None:
    lines = [Part("A LINE of", (50, 110, 500, 130)), Part("more than one", (50, 140, 900, 160))]
    show(page, Shown([Part("text", (50, 110, 900, 160), "A line of\nmore than one")], lines=lines))
    marked = page.locator(".boxes.lines i")
    page.get_by_role("searchbox").fill("line")
    expect(marked).to_have_count(1)
    expect(page.locator(".box.hit")).to_have_count(0)
    place, picture = (
        each.bounding_box() for each in (marked, page.get_by_role("img", name="Picture of page 1"))
    )
    assert place
    assert picture
    assert place["width"] / picture["width"] == pytest.approx(0.45, abs=0.002)
    # Where it breaks over lines, its part of the page is what is known.
    page.get_by_role("searchbox").fill("of more")
    expect(page.locator(".box.hit")).to_have_count(1)
    expect(marked).to_have_count(0)


def test_what_isnt_there_is_said_in_words(page: Page) -> None:
    show(page, FIRST, SECOND)
    field = page.get_by_role("searchbox")
    field.fill("unicorn")
    expect(page.locator(".find .count")).to_have_text("Nothing found")
    assert page.evaluate(MARKED) == 0
    field.fill("h1")  # which the markup has, and the text hasn't
    expect(page.locator(".find .count")).to_have_text("Nothing found")
    field.fill("")
    expect(page.locator(".find .count")).to_have_text("")


def test_pages_that_are_read_later_are_searched_too(page: Page) -> None:
    show(page, FIRST)
    page.get_by_role("searchbox").fill("ener")
    expect(page.locator(".find .count")).to_have_text("2 found")
    show(page, SECOND)
    expect(page.locator(".find .count")).to_have_text("3 found")


def test_the_server_looks_on_the_page(page: Page) -> None:
    """With the real invoice and the engine that reads it."""
    page.evaluate(
        """async (bytes) => {
          const store = await import("/ui/store.js");
          const file = new File([Uint8Array.from(bytes)], "invoice.png", {type: "image/png"});
          const docId = store.newId("document");
          const page = {docId, index: 0, thumb: null, size: {w: 900, h: 620}, readings: [], shown: null};
          const picture = URL.createObjectURL(file);
          store.add(
            [{id: docId, name: file.name, path: file.name, file, kind: "picture", pageCount: 1}],
            [{...page, id: "a", picture}, {...page, id: "b", picture}],
          );
        }""",
        [*(ROOT / "examples/invoice.png").read_bytes()],
    )
    look = page.get_by_role("button", name="Look on this page")
    expect(look).to_be_disabled()
    page.get_by_role("searchbox").fill("total")
    look.click()
    expect(page.locator(".found")).to_contain_text("“total” is at 1 place on the page")
    boxes = page.get_by_role("group", name="1 place found").get_by_role("button")
    expect(boxes).to_have_count(1)
    place, picture = boxes.bounding_box(), page.get_by_role("img", name="Picture of page 1").bounding_box()
    assert place
    assert picture
    scale = picture["width"] / 900
    # Where the README says that it is.
    assert abs(place["x"] - picture["x"] - 495 * scale) < 4
    assert abs(place["y"] - picture["y"] - 441 * scale) < 4
    page.get_by_role("searchbox").fill("totals")
    expect(page.locator(".located")).to_have_count(0)
    expect(boxes).to_have_count(0)
    page.get_by_role("searchbox").fill("unicorn")
    page.get_by_role("button", name="Look on all pages").click()
    expect(page.locator(".found")).to_contain_text("Nothing found: “unicorn” isn't on the page")
    expect(boxes).to_have_count(0)


def test_a_page_that_was_read_to_find_shows_its_places_or_says_that_there_are_none(page: Page) -> None:
    place = Part("total", (100, 200, 300, 250))
    show(
        page,
        Shown([place], text="Total 504.50", task="find", term="total"),
        Shown([], text="", task="find", term="unicorn"),
    )
    expect(page.get_by_role("group", name="1 place found").get_by_role("button")).to_have_count(1)
    expect(page.get_by_role("article")).to_have_text("Total 504.50")
    page.get_by_role("button", name="Next page").click()
    expect(page.locator(".text-frame")).to_contain_text("Nothing found: “unicorn” isn't on the page")
