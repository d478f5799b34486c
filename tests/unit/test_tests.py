"""What CONTRIBUTING.md says of tests and no other tool holds: their folders, and how many examples properties get."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.lacking import lacks
from tests.support.paths import ROOT

TESTS: Final = ROOT / "tests"
TORCH: Final = {"torch", "transformers", "tokenizers"}
WITH_TORCH: Final = ("vlm", "gpu", "e2e")


def imported(file: Path) -> Iterator[str]:
    """Modules that a file imports anywhere in it, or would skip a test for."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                yield from (each.name for each in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield from (f"{module}.{each.name}" for each in names)
            case ast.Call(func=ast.Attribute(attr="importorskip"), args=[ast.Constant(value=str(name)), *_]):
                yield name


def needs_torch(file: Path, also: tuple[str, ...] = ()) -> bool:
    names = list(imported(file))
    return any(name.split(".")[0] in TORCH for name in names) or any(
        f"{name}.".startswith(f"{module}.") for name in names for module in also
    )


def test_what_needs_torch_is_in_folders_of_its_own() -> None:
    support = tuple(
        f"tests.support.{file.stem}" for file in (TESTS / "support").glob("*.py") if needs_torch(file)
    )
    assert "tests.support.chatmodels" in support
    engine = "ocr_inference.engines.transformers"
    elsewhere = [
        str(file.relative_to(TESTS))
        for file in sorted(TESTS.rglob("test_*.py"))
        if file.relative_to(TESTS).parts[0] not in WITH_TORCH and needs_torch(file, (*support, engine))
    ]
    assert elsewhere == []


def test_no_property_has_a_number_of_examples_of_its_own() -> None:
    """Or `make test-thorough` would not be thorough with it."""
    own = re.compile(r"\bmax_examples\s*=")
    files = [file for file in TESTS.rglob("test_*.py") if file != Path(__file__)]
    assert [
        str(file.relative_to(TESTS)) for file in files if own.search(file.read_text(encoding="utf-8"))
    ] == []


@pytest.mark.parametrize(
    ("ci", "user", "apt", "ends"),
    [
        ("true", 0, True, pytest.fail.Exception),
        ("true", 1000, True, pytest.skip.Exception),
        ("true", 0, False, pytest.skip.Exception),
        ("", 0, True, pytest.skip.Exception),
    ],
)
def test_what_root_could_install_is_no_reason_to_skip_in_ci(
    ci: str, user: int, apt: bool, ends: type[BaseException], tmp_path: Path
) -> None:
    if apt:
        (tmp_path / "apt-get").touch(mode=0o755)
    with pytest.raises(ends, match="apt-get install runc"):
        lacks("needs apt-get install runc", environment={"CI": ci}, user=user, path=str(tmp_path))


def test_what_ci_runs_on_a_real_node_is_the_main_job() -> None:
    """Each of them is marked: without its mark a test is slow, and CI doesn't see it."""
    tree = ast.parse((TESTS / "e2e" / "test_real_node.py").read_text(encoding="utf-8"))
    marked = [
        each.name
        for each in tree.body
        if isinstance(each, ast.FunctionDef)
        and any(ast.unparse(mark) == "pytest.mark.node" for mark in each.decorator_list)
    ]
    story = "helm_test timeout settings_that_arrive killed_container for_its_memory drained upgrade uninstall"
    for part in story.split():
        assert [name for name in marked if part in name], part
