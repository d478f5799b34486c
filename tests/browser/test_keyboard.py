"""The whole way by keyboard alone: add, choose what to do, read, show another page."""

from playwright.sync_api import Page, expect

from tests.support import webpage

MOST_STOPS = 60


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until the element has the focus."""
    for _ in range(MOST_STOPS):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"Tab doesn't come to {selector}")


def test_pages_are_added_and_read_by_the_keyboard_alone(page: Page) -> None:
    page.on("filechooser", lambda _: None)  # choosers are caught from now on, which takes a moment
    tab_to(page, ".welcome .choose button")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files([webpage.picture("one.png"), webpage.picture("two.png")])
    expect(webpage.entries(page)).to_have_count(2)
    page.evaluate("document.activeElement.blur()")
    tab_to(page, "[name=task]")
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="Plain text")).to_be_checked()
    tab_to(page, ".go select")
    page.keyboard.type("quick")
    tab_to(page, "button.read")
    page.keyboard.press("Enter")
    webpage.expect_states(page, ["Read"] * 2)
    # What ended is said to those who don't see it.
    expect(page.get_by_text(".png: 1 page done")).to_have_count(1)
    tab_to(page, ".page .show")
    page.keyboard.press("ArrowDown")
    expect(page.locator(".page.current")).to_contain_text("two.png")
    expect(page.get_by_role("region", name="Page", exact=True)).to_contain_text("fake free of page")


def test_the_key_of_the_server_is_entered_and_its_place_closed_by_the_keyboard(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    tab_to(page, ".key summary")
    page.keyboard.press("Enter")
    field = page.get_by_label("API key of this server")
    box = field.bounding_box()
    assert box
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360
    page.keyboard.press("Escape")
    expect(field).to_be_hidden()
