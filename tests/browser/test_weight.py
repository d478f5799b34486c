"""What the first visit costs: bytes over the wire, and the time until something is seen."""

from playwright.sync_api import Browser

from tests.support import browser as support

MOST_BYTES = 300_000
MOST_MILLISECONDS = 1000
TRIES = 5
"""Visits of which the fastest counts: a machine that is busy with other things is slow, not the page."""

_COST = """() => {
    const loaded = performance.getEntriesByType("resource").concat(performance.getEntriesByType("navigation"));
    const [paint] = performance.getEntriesByName("first-contentful-paint");
    const bytes = loaded.reduce((sum, each) => sum + each.transferSize, 0);
    return {bytes, paint: paint.startTime, files: loaded.length};
}"""


def test_the_first_page_is_light_and_seen_at_once(browser: Browser, server: support.Server) -> None:
    costs = []
    for _ in range(TRIES):
        with browser.new_context(base_url=server.url) as context, support.page_of(context) as page:
            page.goto("/")
            page.get_by_role("heading", level=1).wait_for()
            page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
            costs.append(page.evaluate(_COST))
        if costs[-1]["paint"] <= MOST_MILLISECONDS:
            break
    print(costs)
    assert costs[0]["files"] > 20
    assert 30_000 < costs[0]["bytes"] <= MOST_BYTES
    assert min(each["paint"] for each in costs) <= MOST_MILLISECONDS, costs
