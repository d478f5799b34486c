"""What every page must keep: links resolve, commands and files exist, decisions have their parts."""

import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from ocr_operator.gpuload.trust import WELL_KNOWN
from tests.support.paths import ROOT
from tests.support.patience import PATIENCE

PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "charts/**/*.md", "examples/**/*.md", "bench/**/*.md")
    for path in ROOT.glob(pattern)
)
DECISIONS = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
TOP_LEVEL = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}

FENCE = re.compile(r"^ {0,3}```.*?^ {0,3}```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
MAKE = re.compile(r"\bmake ([a-z][a-z-]*)")
SEQUENCE_KEYWORD = re.compile(
    "activate|actor|alt|and|autonumber|box|break|create|critical|deactivate|destroy|details|else|end|links?|loop|note"
    "|opt|option|over|par|participant|properties|rect|title",
    re.IGNORECASE,
)
"""Words of Mermaid's sequence diagrams."""
OWN_COMMAND = re.compile(
    r"(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?"
    r"(ocr-inference|ocr-operator|python -m (?:devcluster|bench)[\w.]*)((?: [^|&;#>]*)?)"
)


CHARTS = {
    path.parent.name: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted(ROOT.glob("charts/*/values.yaml"))
}
"""The values of each chart, by its name."""
FILE = re.compile(r".*\.(?:json|md|py|ya?ml)")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


every_page = pytest.mark.parametrize("page", PAGES, ids=name)


def code_of(text: str) -> list[str]:
    """Lines of code blocks and spans of code: where a command is a command and not a word."""
    lines = [line for block in FENCE.findall(text) for line in block.splitlines()[1:-1]]
    return lines + CODE.findall(FENCE.sub("", text))


def anchors(path: Path) -> set[str]:
    """What a forge makes of headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    plain = [
        re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", each).lower()) for each in headings
    ]
    return {each.replace(" ", "-") for each in plain}


@cache
def make_targets() -> frozenset[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return frozenset(re.findall(r"^([a-z][a-z-]*):(?!=)", makefile, re.MULTILINE))


@cache
def help_of(*command: str) -> str:
    """The help text of one of our programs; fails when the program doesn't take the command."""
    done = subprocess.run(
        [sys.executable, "-m", *command, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)} --help: {done.stderr}"
    return done.stdout


def modules_of_programs() -> dict[str, str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {script: target.split(".", 1)[0] for script, target in project["scripts"].items()}


@every_page
def test_links_resolve(page: Path) -> None:
    broken = []
    for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        place, _, anchor = target.partition("#")
        file = (page.parent / place).resolve() if place else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


@every_page
def test_make_targets_exist(page: Path) -> None:
    mentioned = {
        target for code in code_of(page.read_text(encoding="utf-8")) for target in MAKE.findall(code)
    }
    assert mentioned <= make_targets()


@every_page
def test_files_exist(page: Path) -> None:
    missing = []
    for code in CODE.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        written_out = re.fullmatch(r"[\w./-]+", code) and "/" in code
        if written_out and code.split("/", 1)[0] in TOP_LEVEL and not (ROOT / code).exists():
            missing.append(code)
    assert missing == []


@every_page
def test_our_commands_take_what_is_written(page: Path) -> None:
    programs = modules_of_programs()
    for code in code_of(page.read_text(encoding="utf-8")):
        if not (call := OWN_COMMAND.fullmatch(code.split(" &&")[0].split("  #")[0].strip())):
            continue
        program, words = call[1], call[2].split()
        module = programs.get(program) or program.removeprefix("python -m ")
        assert find_spec(module), f"{module} does not exist"
        depth = 2 if words[:1] == ["gpu"] else 1
        subcommand = [
            word for word in words[:depth] if re.fullmatch(r"[a-z-]+", word) and not word.startswith("-")
        ]
        if words:
            text = help_of(module, *subcommand)
            assert {word.split("=")[0] for word in words if word.startswith("--")} - {"--version"} <= set(
                re.findall(r"--[a-z0-9-]+", text)
            )


def values_named(code: str, values: dict[str, Any]) -> list[str]:
    """What a line of code has that begins as a group of `values` does: values, and names of files, which look so."""
    groups = "|".join(key for key, value in values.items() if isinstance(value, dict))
    return re.findall(rf"(?<![\w./-])(?:{groups})(?:\.[A-Za-z]\w*)+", code)


def is_value(path: str, values: dict[str, Any]) -> bool:
    """Whether a dotted path is one of the values; below one that is an empty map, anything is."""
    node: Any = values
    for key in path.split("."):
        if not isinstance(node, dict) or (node and key not in node):
            return False
        node = node.get(key, {})
    return True


def test_value_that_no_chart_has_is_found() -> None:
    values = {"metrics": {"tokenSecretName": "", "labels": {}}, "name": ""}
    code = "--set metrics.authentication=x,metrics.tokenSecretName=y metrics.labels.any a.metrics.x"
    found = values_named(code, values)
    assert found == ["metrics.authentication", "metrics.tokenSecretName", "metrics.labels.any"]
    assert [each for each in found if not is_value(each, values)] == ["metrics.authentication"]


@every_page
def test_values_of_the_charts_exist(page: Path) -> None:
    """A page of a chart names its values, all others those of the operator's."""
    values = CHARTS.get(page.parent.name, CHARTS["ocr-operator"])
    named = {
        each for code in code_of(page.read_text(encoding="utf-8")) for each in values_named(code, values)
    }
    assert {each for each in named if not is_value(each, values) and not FILE.fullmatch(each)} == set()


PUBLISHED = re.compile(r"\boci://ghcr\.io/ocr-operator")
NOTES = sorted(ROOT.glob("charts/*/templates/NOTES.txt"))


@pytest.mark.parametrize("page", [*PAGES, *NOTES], ids=name)
def test_charts_are_taken_from_where_they_are(page: Path) -> None:
    """As long as they aren't published, a command with their registry works for nobody."""
    assert "chart aren't published yet" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert PUBLISHED.findall(page.read_text(encoding="utf-8")) == []


@every_page
def test_namespace_that_is_made_trusted_is_not_trusted_already(page: Path) -> None:
    labelled = re.findall(
        r"label (?:ns|namespace) (\S+) ocr-operator\.io/gpu-exporters=trusted",
        page.read_text(encoding="utf-8"),
    )
    assert not set(labelled) & WELL_KNOWN


@every_page
def test_folder_of_a_node_is_there_before_the_pod(page: Path) -> None:
    """What a kubelet creates is root's, and pods have another user."""
    assert "type: DirectoryOrCreate" not in page.read_text(encoding="utf-8")


@every_page
def test_prose_does_not_belittle(page: Path) -> None:
    words = re.findall(
        r"\b(?:simply|obviously)\b", CODE.sub("", page.read_text(encoding="utf-8")), re.IGNORECASE
    )
    assert words == []


@every_page
def test_participants_of_diagrams_are_no_keywords(page: Path) -> None:
    """A forge shows an error in the place of a sequence diagram with one."""
    text = page.read_text(encoding="utf-8")
    participants = re.findall(r"^\s*(?:participant|actor) (\w+)", text, re.MULTILINE)
    assert [each for each in participants if SEQUENCE_KEYWORD.fullmatch(each)] == []


@pytest.mark.parametrize("decision", DECISIONS, ids=name)
def test_decision_has_its_parts(decision: Path) -> None:
    text = decision.read_text(encoding="utf-8")
    number = decision.name[:4]
    assert re.match(rf"# {'NNNN' if number == '0000' else number}: \S", text)
    assert re.search(r"^Date: \S+ · Status: (proposed|accepted|replaced by \d{4})", text, re.MULTILINE)
    parts = ["Context", "Decision", "Consequences", "What would change it"]
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == parts
    for part in re.split(r"^## .+$", text, flags=re.MULTILINE)[1:]:
        assert part.strip()


def test_decisions_are_numbered_without_gaps() -> None:
    assert [path.name[:4] for path in DECISIONS] == [f"{number:04}" for number in range(len(DECISIONS))]
