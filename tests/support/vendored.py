"""Libraries of the web page, as `vendor.json` names them: `make vendor` fetches those versions from npm again.

A file in the tree is the package's own but for two things: imports of packages by name are those of the file beside it,
since a page without a build step has nothing that resolves names, and the comment that names a source map is left out.
To add a library or take another version: change its entry, with empty digests, then `make vendor`.
"""

import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT

FOLDER = ROOT / "inference/ocr_inference/api/ui/static/vendor"
LIST = FOLDER / "vendor.json"
IMPORTED = {
    "preact": "preact.mjs",
    "preact/hooks": "preact-hooks.mjs",
    "@preact/signals-core": "signals-core.mjs",
}
"""What packages import of each other, and the file that has it."""

_IMPORT = re.compile(r'(?<=from)(\s*)"([^"./][^"]*)"')
_SOURCE_MAP = re.compile(r"\n?//# sourceMappingURL=\S+\s*$")


def entries() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(LIST.read_text())
    return found


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def adapted(name: str, content: bytes) -> bytes:
    """The file as the page loads it."""
    if not name.endswith((".mjs", ".js")):
        return content
    text = content.decode()
    if name.endswith(".mjs"):  # other scripts import nothing, and may well say "from"
        text = _IMPORT.sub(lambda found: f'{found[1]}"./{IMPORTED[found[2]]}"', text)
    return _SOURCE_MAP.sub("\n", text).encode()


def refresh() -> None:
    """Fetch every package, write its files and digests; stops where npm has another package under a version."""
    wanted = entries()
    for entry in wanted:
        package, integrity = _fetched(f"{entry['name']}@{entry['version']}")
        if entry["integrity"] not in {"", integrity}:
            sys.exit(f"{entry['name']} {entry['version']} is another package than it was: {integrity}")
        entry["integrity"] = integrity
        for file in entry["files"]:
            content = adapted(file["to"], package[f"package/{file['from']}"])
            (FOLDER / file["to"]).write_bytes(content)
            file["sha256"] = digest(content)
    LIST.write_text(json.dumps(wanted, indent=2) + "\n")


def _fetched(name: str) -> tuple[dict[str, bytes], str]:
    """The files of a package, by their paths in it, and its integrity as npm says it."""
    with tempfile.TemporaryDirectory() as folder:
        command = ("npm", "pack", "--json", "--pack-destination", folder, name)
        said = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        # An array, or an object by names in later versions of npm.
        (packed,) = said if isinstance(said, list) else said.values()
        (archive,) = Path(folder).iterdir()
        content = archive.read_bytes()
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        files = {each.name: tar.extractfile(each) for each in tar if each.isfile()}
        return {path: file.read() for path, file in files.items() if file}, packed["integrity"]


if __name__ == "__main__":
    refresh()
