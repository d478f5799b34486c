"""Every test is in the folder that CONTRIBUTING.md says: the unit tests run without torch, which is 5 GB."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

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
