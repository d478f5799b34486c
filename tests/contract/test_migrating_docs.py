"""`docs/migrating.md` says what the code does with requests of other servers' clients."""

import json
import re

import pytest

from ocr_inference.api import compatible, routes
from ocr_wire.tasks import Task
from tests.support.documents import FROZEN
from tests.support.paths import ROOT

TEXT = (ROOT / "docs" / "migrating.md").read_text()
ROUTES = {(method, path) for method, path, _ in (*routes.OPEN, *routes.CALLS, *routes.CONTROLS)}


def table(head: str) -> list[list[str]]:
    """The rows of the table with this head; code in each cell without its marks."""
    _, _, rest = TEXT.partition(head)
    assert rest, head
    rows = rest.split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def test_every_mode_has_its_row() -> None:
    rows = {mode.strip("`"): Task(task.strip("`")) for mode, task in table("| `mode` | `prompt_type` |")}
    assert rows == compatible.MODES


@pytest.mark.parametrize(("prompts", "task"), table("| `prompt` | task |"))
def test_every_published_prompt_is_the_task_of_its_row(prompts: str, task: str) -> None:
    for prompt in re.findall(r"`([^`]+)`", prompts):
        words = prompt.replace("\\|", "|").replace("…", "Total")
        for mark in ("", "<image>\n", "<image>\n<|grounding|>"):
            assert compatible.parse_ocr({"prompt": mark + words}).task is Task(task.strip("`"))


def test_every_prompt_that_is_known_has_a_row() -> None:
    listed = {
        prompt.lower().rstrip(".")
        for row in table("| `prompt` | task |")
        for prompt in re.findall(r"`([^`]+)`", row[0])
    }
    assert set(compatible.PROMPTS) <= listed


@pytest.mark.parametrize("name", [*compatible.OTHERS, "find_term", "custom_prompt", "timeout_seconds"])
def test_every_field_is_named(name: str) -> None:
    assert f"`{name}`" in TEXT


def test_every_call_that_is_named_is_one_of_ours() -> None:
    named = re.findall(r"`(GET|POST|PUT) (/[^`\s…]*)`", TEXT)
    assert len(named) > 15
    assert set(named) <= ROUTES
    assert ("GET", "/results/…") not in ROUTES


def test_every_recorded_call_of_theirs_is_named() -> None:
    for file in ("webui", "low-vram", "gpu-manager"):
        for case in json.loads((FROZEN / "clients" / f"{file}.json").read_text()):
            assert f"{case['method']} {case['path']}`" in TEXT, case["case"]
