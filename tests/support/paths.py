"""Folders of the repository, for tests wherever they are."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
DOCS: Final = ROOT / "docs"
GOLDEN: Final = ROOT / "tests" / "golden"
CRDS: Final = ROOT / "crds"
INVOICE: Final = ROOT / "examples" / "invoice.png"
