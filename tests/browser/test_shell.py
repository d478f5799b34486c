"""The page as it opens: its regions, its language, its policy."""

from playwright.sync_api import Browser, Page, expect

from tests.support import browser as support


def test_the_page_has_its_regions_and_says_that_it_is_connected(page: Page) -> None:
    for name in ("What to read", "Page", "Server"):
        expect(page.get_by_role("region", name=name, exact=True)).to_be_visible()
    expect(page.get_by_text("Connected")).to_be_visible()
    expect(page.get_by_role("region", name="Server")).to_contain_text("pp-ocr")


TITLES = {
    "zh-TW": "辨識頁面",
    "zh-Hans-SG": "识别页面",
    "ja-JP": "ページの読み取り",
    "fr-FR": "Read pages",
}


def test_the_language_is_the_browsers_then_the_chosen_one(browser: Browser, server: support.Server) -> None:
    for locale, title in (
        ("zh-TW", "辨識頁面"),
        ("zh-Hans-SG", "识别页面"),
        ("ja-JP", "ページの読み取り"),
        ("fr-FR", "Read pages"),
    ):
        with (
            browser.new_context(base_url=server.url, locale=locale) as context,
            support.page_of(context) as page,
        ):
            page.goto("/")
            expect(page.get_by_role("heading", level=1)).to_have_text(title)
    with (
        browser.new_context(base_url=server.url, locale="fr-FR") as context,
        support.page_of(context) as page,
    ):
        page.goto("/")
        page.get_by_label("Language").select_option("ja")
        expect(page.get_by_role("heading", level=1)).to_have_text("ページの読み取り")
        expect(page.locator("html")).to_have_attribute("lang", "ja")
        page.reload()
        expect(page.get_by_role("heading", level=1)).to_have_text("ページの読み取り")


def test_nothing_scrolls_sideways_on_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") == 360
