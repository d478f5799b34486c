"""The screenshots of the documentation are of the page as it is, on a simulated GPU with a real engine."""

import io

from PIL import Image, ImageOps
from playwright.sync_api import Browser, Page, expect

from tests.support import browser as support
from tests.support import screenshots, webpage
from tests.support.paths import INVOICE


def test_the_documentations_screenshots_are_of_this_page(
    browser: Browser, gpu_server: support.Server
) -> None:
    with (
        browser.new_context(
            base_url=gpu_server.url,
            viewport={"width": 1280, "height": 720},
            locale="en-GB",
            reduced_motion="reduce",
        ) as context,
        support.page_of(context) as page,
    ):
        page.goto("/")
        _idle_seconds(page, "600")
        webpage.choose(page, webpage.picture("invoice.png", INVOICE.read_bytes()))
        webpage.read(page)
        webpage.expect_states(page, ["Read"])
        _take(page, "web-page-read")

        page.get_by_role("searchbox").fill("total")
        expect(page.locator(".find .count")).to_have_text("1 found")
        _take(page, "web-page-find")

        _idle_seconds(page, "0")
        expect(page.locator(".model")).to_contain_text("in host memory")
        gpu = page.get_by_role("img", name="GPU memory")
        expect(gpu.locator("title")).to_contain_text("now 0 B of 15 GiB, at most 6 GiB")
        expect(page.locator(".legend")).to_contain_text("everything on the GPU: 0 B")
        screenshots.check("web-page-panel", page.locator("#panel").screenshot(animations="disabled"))

        page.get_by_label("Language").select_option("zh-CN")
        expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
        page.evaluate("window.scrollTo(0, 0)")
        _take(page, "web-page-zh-CN")

        page.get_by_label("语言").select_option("en")
        page.emulate_media(color_scheme="dark", reduced_motion="reduce")
        page.set_viewport_size({"width": 360, "height": 740})
        page.locator("#viewer").evaluate("viewer => viewer.scrollIntoView()")
        _take(page, "web-page-phone-dark")


def test_another_layout_is_noticed_and_another_moment_is_not() -> None:
    with Image.open(screenshots.FOLDER / "web-page-read.png") as opened:
        picture = opened.convert("RGB")
    assert screenshots.apart(picture, picture) == 0
    noisy = ImageOps.autocontrast(picture.resize((1279, 719)).resize(picture.size))
    assert screenshots.apart(picture, noisy) < screenshots.MOST_APART / 4
    assert screenshots.apart(picture, ImageOps.mirror(picture)) > screenshots.MOST_APART
    assert screenshots.apart(picture, ImageOps.invert(picture)) > screenshots.MOST_APART
    assert screenshots.apart(picture, picture.crop((0, 0, 1000, 720))) == 1


def _idle_seconds(page: Page, seconds: str) -> None:
    page.get_by_label("Seconds").fill(seconds)
    page.get_by_role("button", name="Set", exact=True).click()
    said = page.get_by_role("log").get_by_text("Idle time")
    expect(said).to_be_visible()
    page.get_by_role("button", name="Dismiss").click()
    expect(said).to_have_count(0)


def _take(page: Page, name: str) -> None:
    page.evaluate("document.fonts.ready.then(() => new Promise(done => requestAnimationFrame(done)))")
    png = page.screenshot(animations="disabled")
    assert Image.open(io.BytesIO(png)).width == page.viewport_size["width"]  # type: ignore[index]
    screenshots.check(name, png)
