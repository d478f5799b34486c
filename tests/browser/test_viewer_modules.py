"""Modules of the viewer that decide: values in, values out, in the browser that runs them."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from ocr_inference.families import tags
from tests.support import browser as support


@pytest.fixture(scope="module")
def modules(browser: Browser, server: support.Server) -> Iterator[Page]:
    with browser.new_context(base_url=server.url) as context, support.page_of(context) as page:
        page.goto("/")
        yield page


def _each(modules: Page, module: str, function: str, cases: list[Any]) -> Any:
    """Call a function with each list of arguments."""
    return modules.evaluate(
        """async ([module, name, cases]) => {
          const found = (await import(`/ui/viewer/${module}.js`))[name];
          return cases.map((each) => found(...each));
        }""",
        [module, function, cases],
    )


PIECES = (
    *(
        "<|ref|>",
        "<|/ref|>",
        "<|det|>",
        "<|/det|>",
        "<|grounding|>",
        "<|det|>[[1, 2, 3",
        "title",
        " text ",
        "\n",
        "\r\n",
    ),
    *(
        "[[1,2,3,4]]",
        "[[9, 8, 1000, 5],[1,2,3,1001]]",
        "[[1,2,3,4],]",
        "[[ 1 , 2,3,4 ]]",
        "[[1 2,3,4]]",
        "[[1,2,3,12345]]",
    ),
    *(
        "é",
        "字",
        "😀",
        "x" * 600,
        "<|ref|>a<|/ref|><|det|>[[1, 2, 300, 400]]<|/det|>",
        "\x1b[31m",
        "\u202e",
        "<|r",
        "ef|>",
    ),
    *("[[٣,2,3,4]]", "<|/ref|> \n<|det|>", "😀" * 600),
)


def test_tags_are_parsed_as_the_server_parses_them(modules: Page) -> None:
    chance = random.Random(7)
    texts = ["".join(chance.choices(PIECES, k=chance.randrange(1, 14))) for _ in range(1500)]
    expected = []
    for text in texts:
        reading = tags.parse(text)
        blocks = [
            {"label": each.label, "places": [*map(list, each.places)], "text": each.text}
            for each in reading.blocks
        ]
        expected.append({"before": reading.before, "blocks": blocks})
    for text, found, wanted in zip(
        texts, _each(modules, "tags", "parse", [[text] for text in texts]), expected, strict=True
    ):
        assert found == wanted, text
    assert sum(len(each["blocks"]) for each in expected) > 300


def test_places_are_turned_into_pixels_as_the_server_does(modules: Page) -> None:
    chance = random.Random(8)
    cases = [
        (
            [chance.randrange(tags.SCALE + 1) for _ in range(4)],
            chance.randrange(1, 9999),
            chance.randrange(1, 9999),
        )
        for _ in range(500)
    ]
    wanted = [list(tags.pixels(tuple(place), width, height)) for place, width, height in cases]  # type: ignore[arg-type]
    assert _each(modules, "tags", "pixels", [list(case) for case in cases]) == wanted


def test_a_text_that_only_opens_tags_costs_little(modules: Page) -> None:
    long = "<|ref|>a<|/ref|><|det|>" + "[[1,2,3,4]," * 100_000
    spaces = "<|det|>[[" + " " * 500_000
    assert [len(each["blocks"]) for each in _each(modules, "tags", "parse", [[long], [spaces]])] == [0, 0]


def test_a_page_is_fitted_or_scaled(modules: Page) -> None:
    page, view = {"w": 1000, "h": 1400}, {"w": 500, "h": 350}
    cases = [
        ["width", page, view],
        ["page", page, view],
        [1.5, page, view],
        [99, page, view],
        ["page", {"w": 10, "h": 10}, view],
    ]
    assert _each(modules, "geometry", "scaleOf", cases) == [0.5, 0.25, 1.5, 8, 2]
    assert _each(
        modules, "geometry", "stepped", [[1, 1], [1, -1], [0.34, 1], [0.34, -1], [8, 1], [0.1, -1]]
    ) == [
        *(1.1, 0.9, 0.5),
        *(0.33, 8, 0.1),
    ]
    # A point of the page at 300 + 50 is at 700 when it is twice as large, and stays 50 from the view's edge.
    moved = _each(
        modules,
        "geometry",
        "scrolled",
        [[{"x": 300, "y": 0}, {"x": 50, "y": 10}, 1, 2], [{"x": 0, "y": 0}, {"x": 50, "y": 10}, 2, 1]],
    )
    assert moved == [{"x": 650, "y": 10}, {"x": 0, "y": 0}]
    assert _each(modules, "geometry", "placed", [[[100, 140, 600, 2800], page]]) == [
        {"left": 10, "top": 10, "width": 50, "height": 90}
    ]


FORMULAE = {
    r"a \(x\) b \[y\] c": ["x", "y"],
    r"$$z$$ and $w$": ["z", "w"],
    r"$5 or 6$ and $7": [],
    r"$x_1$ costs $5": ["x_1"],
    r"\\(not) \$x^2\$ \(never ends": [],
    r"\(a \) \) b": ["a "],
    r"\[ a \\[2pt] b \]": [r" a \\[2pt] b "],
    r"\begin{align}a&=b\end{align} \begin{evil}\end{evil}": [r"\begin{align}a&=b\end{align}"],
    r"\(" + "x" * 5000 + r"\)": [],
    r"\(\)": [],
}


def test_formulae_are_told_from_prices_and_brackets(modules: Page) -> None:
    found = _each(modules, "formulas", "formulae", [[text] for text in FORMULAE])
    assert [[each["tex"] for each in formulae] for formulae in found] == list(FORMULAE.values())


def test_openings_without_an_end_cost_little(modules: Page) -> None:
    hostile = [
        "\\(" * 30_000,
        "$" * 60_000,
        "\\[\n" * 20_000,
        "<a " * 20_000,
        "<table>\n\n" * 10_000,
        "*_" * 30_000,
        "[" * 30_000,
        "<!--" * 20_000,
    ]
    milliseconds = modules.evaluate(
        """async (texts) => {
          const { toHtml } = await import("/ui/viewer/markdown.js");
          const { harmless } = await import("/ui/viewer/sanitise.js");
          const began = performance.now();
          for (const text of texts) harmless(toHtml(text));
          return performance.now() - began;
        }""",
        hostile,
    )
    # Quadratic, each of them would take minutes.
    assert milliseconds < 60_000


def test_matches_are_found_whatever_case_spacing_and_width(modules: Page) -> None:
    found = modules.evaluate(
        """async (cases) => {
          const { excerpt, find, folded } = await import("/ui/viewer/matches.js");
          return cases.map(([text, term]) => find(folded(text), term).map((each) => text.slice(each.start, each.end)));
        }""",
        [
            ("Straße STRASSE", "strasse"),
            ("１２３ 1 2 3", "123"),
            ("ﬁne fine", "fi"),
            ("😀 a😀b", "😀"),
            ("aaaa", "aa"),
            ("x", " "),
            ("Ünder under", "ÜNDER"),
        ],
    )
    assert found == [
        ["Straße", "STRASSE"],
        ["１２３", "1 2 3"],
        ["ﬁ", "fi"],
        ["😀", "😀"],
        ["aa", "aa"],
        [],
        ["Ünder"],
    ]
    before, after = "two three four five six seven eight nine ten", "eleven twelve thirteen fourteen fifteen"
    text = f"one {before} HERE {after} sixteen seventeen\nnext"
    start = text.index("HERE")
    (excerpt,) = _each(modules, "matches", "excerpt", [[text, {"start": start, "end": start + 4}]])
    assert excerpt == {
        "before": f"…{before} ",
        "match": "HERE",
        "after": f" {after}…",
    }


def test_html_is_made_harmless_even_if_it_were_not_written_anew(modules: Page) -> None:
    html = (
        '<div id="app" class="top" data-x="1" data-lines="0-1"><a href="javascript:1">a</a>'
        '<form><input name="q"></form>'
        '<svg><use href="#x"/></svg><math><mi>m</mi></math><b class="figure-cut" data-xywh="1,2,3,4">b</b></div>'
        '<table><tr><td colspan="9999" rowspan="2" align="left">c</td></tr></table><button popovertarget="x">d</button>'
    )
    made = modules.evaluate(
        """async (html) => {
          const { harmless } = await import("/ui/viewer/sanitise.js");
          const shown = document.createElement("div");
          shown.append(harmless(html));
          return shown.innerHTML;
        }""",
        html,
    )
    assert made == (
        '<div data-lines="0-1">a<b class="figure-cut" data-xywh="1,2,3,4">b</b></div>'
        '<table><tbody><tr><td rowspan="2" align="left">c</td></tr></tbody></table>d'
    )


def test_html_in_markdown_is_written_anew_from_what_is_known(modules: Page) -> None:
    cases = {
        "<TD ColSpan='2' onclick=x() style=y>a</td>": '<td colspan="2">a</td>',
        "<script>a</script><stdio.h> 1 < 2": "&lt;script&gt;a&lt;/script&gt;&lt;stdio.h&gt; 1 &lt; 2",
        "<img src=x onerror=y><a href=z>a</a><!-- b --><br/>": "a<br>",
        "<b <i>&amp;</i": "&lt;b <i>&amp;&lt;/i",
        "<!-- never ends": "",
        '<td align="right" colspan=">">': '<td align="right">"&gt;',
    }
    assert _each(modules, "tables", "known", [[html] for html in cases]) == list(cases.values())
