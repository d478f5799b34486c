"""Tables of figures in docs say what the results say that they were made from."""

import json
import re

import pytest

from tests.support.paths import ROOT
from tests.support.quotes import QUOTES, README, Quote

ROW = re.compile(r"^\| ([^|]+?) \| (\d\.\d{3} \|.*) \|$", re.MULTILINE)
READERS = ("ours", "rapidocr", "docling")


def test_reading_order_is_measured_as_its_page_says() -> None:
    rows = json.loads((ROOT / "bench/results/layouts.json").read_text())["rows"]
    found = {row["what"]: row["value"] for row in rows}
    kinds = [what.removesuffix(": ours, error") for what in found if what.endswith(": ours, error")]
    text = (ROOT / "docs/reading-order.md").read_text(encoding="utf-8")
    said = {kind: figures.split(" | ") for kind, figures in ROW.findall(text)}
    assert list(said) == kinds
    for kind, figures in said.items():
        errors = [f"{found[f'{kind}: {reader}, error']:.3f}" for reader in READERS]
        orders = [f"{found[what]:.2f}" for what in (f"{kind}: {reader}, Kendall's tau" for reader in READERS)]
        assert figures == errors + orders, kind


def test_the_library_is_measured_as_its_page_says() -> None:
    rows = json.loads((ROOT / "bench/results/library.json").read_text())["rows"]
    found = {row["what"]: row["value"] for row in rows}
    text = (ROOT / "docs/library.md").read_text(encoding="utf-8")
    said = dict(re.findall(r"^\| ([^|]+?) \| ([^|]+? \| [^|]+?) \|$", text, re.MULTILINE))

    def both(what: str, form: str) -> list[str]:
        return [form.format(found[f"{reader}: {what}"]) for reader in ("other", "ours")]

    copied = zip(
        both("copied to the device by them", "{:,.0f}"), both("copied back by them", "{:,.0f}"), strict=True
    )
    theirs, ours = (f"{there} MiB, {back}" for there, back in copied)
    assert said["20 uses in a row: copied to the device, copied back"] == f"{theirs} MiB | {ours}"
    assert said["80 uses by 4 threads: the model left during"] == " | ".join(
        both("of 80 uses by 4 threads, the model left during", "{:.0f}")
    )
    theirs, ours = (found[f"{reader}: 20 uses in a row, median of one"] for reader in ("other", "ours"))
    assert said["one of them, median"] == f"{theirs:,.0f} ms | {ours:.1f} ms"
    assert said["an offload, median"] == " | ".join(
        f"{each} ms" for each in both("an offload, median", "{:,.0f}")
    )


@pytest.mark.parametrize("quote", QUOTES, ids=[f"{quote.page}: {quote.text}" for quote in QUOTES])
def test_pages_quote_results_as_they_are(quote: Quote) -> None:
    page = (ROOT / quote.page).read_text(encoding="utf-8")
    assert page.count(quote.said) == 1, f"{quote.page} doesn't have, or twice: {quote.said}"


def test_each_figure_of_the_readme_has_a_result_and_a_miss_is_called_so() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.partition("## Measured")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert rows
    for row in rows:
        quotes = [quote for quote in README if quote.said in row]
        assert len(quotes) == 1, row
        missed = any(figure.missed for figure in quotes[0].figures)
        assert not missed or "a miss" in row, row
