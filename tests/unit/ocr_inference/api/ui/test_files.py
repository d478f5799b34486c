"""Files of the web page: what is served, the texts in every language, the libraries as they were fetched."""

import gzip
import json
import re
from pathlib import Path

import pytest

from ocr_inference.api.ui import files
from tests.support import vendored
from tests.support.paths import ROOT

STATIC = ROOT / "inference/ocr_inference/api/ui/static"
LANGUAGES = ("en", "zh-CN", "zh-TW", "ja")
TABLE = files.load()


def test_every_file_of_the_folder_is_in_the_table() -> None:
    found = {str(path.relative_to(STATIC)): path.read_bytes() for path in STATIC.rglob("*") if path.is_file()}
    assert {path: file.content for path, file in TABLE.items()} == found
    assert all(gzip.decompress(file.compressed) == file.content for file in TABLE.values() if file.compressed)


def test_a_file_that_grows_by_compression_is_sent_as_it_is() -> None:
    assert files.of("a.js", b"x").compressed is None
    assert files.of("a.js", b"x" * 1000).compressed
    assert files.of("a.woff2", b"x" * 1000).compressed is None
    with pytest.raises(KeyError):
        files.of("a.py", b"")


def test_every_language_has_the_same_texts_with_the_same_values() -> None:
    texts = {tag: json.loads((STATIC / f"locales/{tag}.json").read_text()) for tag in LANGUAGES}
    assert {path.stem for path in (STATIC / "locales").iterdir()} == set(LANGUAGES)
    for tag, found in texts.items():
        assert list(found) == list(texts["en"]), tag
        for key, text in found.items():
            assert text.strip(), (tag, key)
            assert _values(text) == _values(texts["en"][key]), (tag, key)


def _values(text: str) -> set[str]:
    return set(re.findall(r"\{(\w+)", text))


@pytest.mark.parametrize("path", sorted(STATIC.rglob("*.js")), ids=lambda path: path.name)
def test_every_text_that_a_module_asks_for_by_its_key_exists(path: Path) -> None:
    known = json.loads((STATIC / "locales/en.json").read_text())
    asked = set(re.findall(r'\bt\(\s*"([^"]+)"', path.read_text()))
    assert asked <= set(known), asked - set(known)


@pytest.mark.parametrize("entry", vendored.entries(), ids=lambda entry: entry["name"])
def test_a_library_is_the_one_that_was_fetched(entry: dict[str, object]) -> None:
    assert str(entry["integrity"]).startswith("sha512-")
    assert isinstance(entry["files"], list)
    for file in entry["files"]:
        assert vendored.digest((vendored.FOLDER / file["to"]).read_bytes()) == file["sha256"], file["to"]
    assert any("LICENSE" in file["to"] for file in entry["files"])


def test_every_file_of_a_library_is_listed() -> None:
    listed = {file["to"] for entry in vendored.entries() for file in entry["files"]}
    found = {str(path.relative_to(vendored.FOLDER)) for path in vendored.FOLDER.rglob("*") if path.is_file()}
    assert found - {vendored.LIST.name} == listed


def test_imports_by_a_packages_name_are_those_of_the_file_beside_it() -> None:
    adapted = vendored.adapted(
        "a.mjs", b'import{h}from"preact";export*from "./b.mjs"\n//# sourceMappingURL=a.map\n'
    )
    assert adapted == b'import{h}from"./preact.mjs";export*from "./b.mjs"\n'
    assert vendored.adapted("a.js", b'say("from","x")') == b'say("from","x")'
