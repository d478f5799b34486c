"""axe-core over the web page: what keeps people from using it, as far as a program can see that."""

from typing import Any, Final

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

MOST_ELEMENTS: Final = 3
"""Elements that are shown of each fault."""
_AXE: Final = Axe()


def barriers(page: Page) -> list[str]:
    """What axe-core finds in the page as it is now, by all of its rules, best practices too."""
    found: list[dict[str, Any]] = _AXE.run(page, options={"resultTypes": ["violations"]}).response[
        "violations"
    ]
    return [
        f"{each['id']} ({each['impact']}): {each['help']}: {node['html'][:200]} {node['failureSummary']}"
        for each in found
        for node in each["nodes"][:MOST_ELEMENTS]
    ]
