"""docs/models.md says what families do: prompts, resolutions and tokens, loop guards, types written together."""

import re

import pytest

from ocr_inference import families
from ocr_inference.families import chat, deepseek_ocr, deepseek_ocr2, grounded, tags
from ocr_inference.families.tiling import views
from ocr_wire.tasks import Task
from tests.support.paths import ROOT

TEXT = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    for line in TEXT.splitlines()
    if line.startswith("|")
]
VERSIONS = {1: deepseek_ocr, 2: deepseek_ocr2}


def cells(first: str, count: int) -> list[str]:
    """The row of a table with so many columns that begins with this."""
    (row,) = [row for row in ROWS if len(row) == count and re.fullmatch(rf"`{first}`( \(default\))?", row[0])]
    return row


def test_families_and_their_tasks() -> None:
    for name, family in families.FAMILIES.items():
        told = cells(name, 4)[2]
        wanted = "all" if len(family.tasks) == len(Task) else ", ".join(f"`{task}`" for task in family.tasks)
        assert told == wanted


@pytest.mark.parametrize("task", Task)
def test_prompts(task: Task) -> None:
    wanted = grounded.PROMPTS.get(task, "{custom_prompt}")
    assert cells(task, 3)[2] == f"`{wanted}`"


@pytest.mark.parametrize("name", deepseek_ocr.RESOLUTIONS)
def test_resolutions_and_tokens(name: str) -> None:
    row = cells(name, 5)
    for version, (size, tokens) in {1: row[1:3], 2: row[3:5]}.items():
        resolution = VERSIONS[version].RESOLUTIONS.get(name)
        if resolution is None:
            assert (size, tokens) == ("", "")
            continue
        # In the space of one tile.
        whole = VERSIONS[version].image_tokens(views(1, 1, resolution))
        assert re.findall(r"\d+", tokens)[0] == str(whole)
        if resolution.tile is None:
            fit = {"stretch": "stretched", "pad": "on grey"}[resolution.fit]
            assert size.removesuffix(",") in {
                f"{resolution.side} × {resolution.side}, {fit}",
                f"{resolution.side} × {resolution.side} {fit}",
            }
        else:
            assert f"2 to {resolution.most_tiles} tiles of {resolution.tile} × {resolution.tile}" in size
    assert ("(default)" in row[0]) == (
        name == deepseek_ocr.DEFAULT_RESOLUTION == deepseek_ocr2.DEFAULT_RESOLUTION
    )


def test_the_worked_example() -> None:
    page = (1240, 1754)
    seen = [views(*page, module.RESOLUTIONS["gundam"]) for module in (deepseek_ocr, deepseek_ocr2)]
    assert [each.grid for each in seen] == [(2, 3), (2, 3)]
    assert f"= {deepseek_ocr.image_tokens(seen[0])} tokens in version 1" in TEXT
    assert f"= {deepseek_ocr2.image_tokens(seen[1])} in version 2" in TEXT


def test_the_example_of_a_place() -> None:
    assert list(tags.pixels((100, 50, 900, 100), 2480, 3508)) == [248, 176, 2234, 351]
    assert "is `[248, 176, 2234, 351]`" in TEXT
    assert f"#xywh=248,176,{2234 - 248},{351 - 176}" in TEXT
    assert str(tags.MAX_BOXES) in TEXT


def test_loop_guards() -> None:
    told = re.search(r"(\d+)\s+tokens in (\d+) for DeepSeek-OCR, (\d+) in (\d+) for chat models", TEXT)
    assert told
    for module, numbers in (
        (deepseek_ocr, told.groups()[:2]),
        (deepseek_ocr2, told.groups()[:2]),
        (chat, told.groups()[2:]),
    ):
        assert (str(module.GUARD.ngram), str(module.GUARD.window)) == numbers


def test_own_prompts_of_chat_models() -> None:
    for prompts in chat.OWN.values():
        for words in filter(None, prompts.values()):
            assert f"`{words.strip()}`" in TEXT
