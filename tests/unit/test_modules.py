"""Every module is named once, with a sentence, by the docstring of the package that holds it."""

import ast
import re
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PROGRAMS = (  # docs/devcluster.md names the modules of devcluster
    "wire/ocr_wire",
    "operator/ocr_operator",
    "inference/ocr_inference",
    "plugin/kubectl_ocr",
)
PACKAGES = sorted(file.parent for program in PROGRAMS for file in (ROOT / program).rglob("__init__.py"))
ENTRY = re.compile(r"^- (?P<names>`\w+`(?:, `\w+`)*): \S", re.MULTILINE)
"""A line such as "- `scheduler`: decides what happens next"; several names may share one."""


def listed(package: Path) -> list[str]:
    """Return the names that a package's docstring lists."""
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8"))) or ""
    return [name for entry in ENTRY.finditer(text) for name in re.findall(r"\w+", entry["names"])]


def held(package: Path) -> set[str]:
    """Return the modules and packages that a package holds."""
    modules = {file.stem for file in package.glob("*.py")} - {"__init__"}
    return modules | {file.parent.name for file in package.glob("*/__init__.py")}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_package_lists_what_it_holds(package: Path) -> None:
    names = listed(package)
    assert sorted(names) == sorted(held(package)), "one line for each: - `name`: what it is for"
