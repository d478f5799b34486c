"""The list of pages: order and deletion, by mouse and by keyboard."""

import pytest
from playwright.sync_api import Page, expect

from tests.support import webpage


@pytest.fixture
def listed(page: Page) -> Page:
    webpage.choose(page, *(webpage.picture(f"{name}.png") for name in "abcd"))
    expect(webpage.entries(page)).to_have_count(4)
    return page


def expect_order(page: Page, names: str) -> None:
    expect(page.locator(".page .name")).to_have_text([f"{name}.png" for name in names])


def test_pages_are_moved_by_dragging(listed: Page) -> None:
    webpage.entries(listed).nth(3).drag_to(webpage.entries(listed).nth(0))
    expect_order(listed, "dabc")


def test_pages_are_shown_moved_and_deleted_by_the_keyboard(listed: Page) -> None:
    listed.locator(".page .show").first.focus()
    for key, then in (
        ("ArrowDown", "abcd"),
        ("Alt+ArrowDown", "acbd"),
        ("Alt+ArrowUp", "abcd"),
        ("End", "abcd"),
    ):
        listed.keyboard.press(key)
        expect_order(listed, then)
        expect(listed.locator(".page.current .show")).to_be_focused()
    # The shown page has the focus, wherever it is moved.
    expect(listed.locator(".page.current .show")).to_be_focused()
    expect(listed.locator(".page.current")).to_contain_text("d.png")
    listed.keyboard.press("Delete")
    expect_order(listed, "abc")
    expect(listed.locator(".page.current .show")).to_be_focused()
    expect(listed.locator(".page.current")).to_contain_text("c.png")


def test_what_is_ticked_moves_and_goes_together(listed: Page) -> None:
    for name in ("b", "d"):
        listed.get_by_role("checkbox", name=f"{name}.png").check()
    expect(listed.get_by_text("2 selected", exact=True)).to_be_visible()
    listed.get_by_role("button", name="Move up").click()
    expect_order(listed, "badc")
    listed.get_by_role("button", name="Delete").click()
    expect_order(listed, "ac")
    listed.get_by_role("checkbox", name="Select all").check()
    listed.get_by_role("button", name="Delete").click()
    expect(listed.get_by_text("Drop pages here")).to_be_visible()
