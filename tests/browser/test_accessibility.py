"""Everybody can use the page: axe-core finds nothing, the keyboard reaches everything, nothing moves if it mustn't."""

from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from tests.support import browser as support
from tests.support import webpage
from tests.support.axe import barriers
from tests.support.engines import Faults
from tests.support.shown import Part, Shown, show

DESKTOP: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 360, "height": 740}
PARTS = (
    Part("title", (50, 40, 800, 90), "# Quarterly report"),
    Part("text", (50, 110, 900, 160), "Paper went from 5 to 6, see [the table](https://example.org/)."),
    Part("equation", (200, 200, 800, 300), "\\[\nE = mc^2\n\\]"),
    Part("table", (50, 330, 900, 520), "<table><tr><td>Paper</td><td>504.50</td></tr></table>"),
    Part("image", (100, 700, 500, 1000), "A landscape"),
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_no_barrier(
    browser: Browser, server: support.Server, scheme: Literal["light", "dark"], size: ViewportSize
) -> None:
    with (
        browser.new_context(
            base_url=server.url, viewport=size, color_scheme=scheme, locale="en-GB"
        ) as context,
        support.page_of(context) as page,
    ):
        page.goto("/")
        expect(page.get_by_role("button", name="Wake quick")).to_be_visible()
        assert barriers(page) == [], "before the first page"
        show(page, Shown(PARTS))
        expect(page.get_by_text("Quarterly report").first).to_be_visible()
        page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
        page.get_by_role("group", name="Idle time until offload").get_by_label("Seconds").fill("soon")
        page.get_by_role("button", name="Set", exact=True).click()
        expect(page.get_by_role("alert")).to_be_visible()
        assert barriers(page) == [], "with a page, with all that unfolds, with an error"


def test_axe_finds_no_barrier_in_dialogs_and_errors(page: Page, faults: Faults) -> None:
    faults.set(infer="fail")
    webpage.choose(page, webpage.picture(), webpage.picture("broken.png", b"no picture"))
    webpage.use(page, "faulty")
    webpage.read(page)
    expect(webpage.entries(page)).to_contain_text("The model failed on this page.")
    page.route(
        "**/gpu/load", lambda route: route.fulfill(status=401, json={"code": "missing_token", "error": "no"})
    )
    page.get_by_role("button", name="Wake quick").click()
    expect(page.get_by_role("dialog", name="Admin token")).to_be_visible()
    assert barriers(page) == []
    page.keyboard.press("Escape")
    page.context.set_offline(True)
    expect(page.get_by_role("region", name="Server")).to_contain_text("No connection.")
    assert barriers(page) == []


REACHABLE = """() => [...document.querySelectorAll("a[href], button, input, select, summary, textarea, [tabindex='0']")]
    .filter(each => each.checkVisibility({visibilityProperty: true}) && !each.disabled && each.type !== "file")
    .filter(each => each.type !== "radio" || each.checked)
    .filter(each => each.tabIndex >= 0)
    .forEach(each => { each.dataset.reach = "yes"; })"""
"""Marks what a person can act on; of radio buttons the chosen one, from which arrows lead to the others."""
FOCUSED = """() => {
    const at = document.activeElement;
    if (at === document.body) return null;
    delete at.dataset.reach;
    // A radio button that isn't drawn has its outline around its label.
    const seen = [at, at.closest("label") ?? at].some(each => getComputedStyle(each).outlineStyle !== "none");
    return seen ? "" : at.outerHTML.slice(0, 200);
}"""
"""What shows no sign of having the focus, else an empty text; null where the page's end is reached."""


def test_the_keyboard_reaches_everything_and_one_sees_where_it_is(page: Page) -> None:
    show(page, Shown(PARTS), Shown(PARTS))
    expect(page.get_by_text("Quarterly report").first).to_be_visible()
    page.get_by_role("button", name="Wake quick").click()
    expect(page.get_by_role("button", name="Release quick")).to_be_enabled()
    page.evaluate(REACHABLE)
    unseen, ends = [], 0
    while ends < 2:  # from where the person is to the page's end, and once around
        page.keyboard.press("Tab")
        found = page.evaluate(FOCUSED)
        ends += found is None
        unseen += [found] if found else []
    assert unseen == []
    left = page.evaluate(
        "[...document.querySelectorAll('[data-reach]')].map(each => each.outerHTML.slice(0, 200))"
    )
    assert left == []


def test_a_page_is_read_by_the_keyboard_alone(page: Page) -> None:
    keys = page.keyboard
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Add files").press("Enter")
    chooser.value.set_files([webpage.picture("a.png"), webpage.picture("b.png")])
    webpage.use(page, "quick")
    page.get_by_role("radio", name="Document").focus()
    keys.press("ArrowRight")
    expect(page.get_by_role("radio", name="Lines")).to_be_checked()
    page.get_by_role("button", name="Read 2 pages").focus()
    keys.press("Enter")
    webpage.expect_states(page, ["Read", "Read"])
    page.get_by_role("searchbox").focus()
    keys.type("fake")
    expect(page.locator(".find .count")).to_have_text("2 found")
    keys.press("Enter")
    expect(page.locator(".find .count")).to_have_text("1 of 2")
    quick = page.locator(".model").filter(has=page.get_by_role("heading", name="quick", exact=True))
    page.get_by_role("button", name="Release quick").focus()
    keys.press("Space")
    expect(quick).to_contain_text("Not loaded")
    page.get_by_role("textbox", name="Seconds").focus()
    keys.press("Control+a")
    keys.type("61")
    keys.press("Enter")
    expect(page.get_by_role("log")).to_contain_text("Idle time of All models: 61 sec")


def test_nothing_moves_for_who_asked_for_that(page: Page, faults: Faults) -> None:
    faults.set(load="hold")
    page.request.post("/gpu/release", data={"model": "faulty"})
    page.get_by_role("button", name="Wake faulty").click()
    expect(page.get_by_role("region", name="Server")).to_contain_text("Loading")
    moving = "document.getAnimations().length"
    assert page.evaluate(moving) > 0, "else this says nothing"
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(moving) == 0
