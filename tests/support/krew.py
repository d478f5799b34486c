"""Installs a plugin's archive as krew does: https://krew.sigs.k8s.io/docs/developer-guide/plugin-lifecycle/"""

import hashlib
import tarfile
from pathlib import Path
from typing import Any


def install(platform: dict[str, Any], archive: Path, root: Path) -> Path:
    """Check the sum, unpack into the store and link the program; return the folder of links."""
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == platform["sha256"]
    store, programs = root / "store" / "ocr" / "v0", root / "bin"
    store.mkdir(parents=True)
    programs.mkdir()
    with tarfile.open(archive) as tar:
        for member in tar:
            # krew refuses each other kind of entry, links included, and what leads out of the folder.
            assert member.isreg() or member.isdir(), member.name
            tar.extract(member, store, filter="data")
    (programs / f"kubectl-{Path(platform['bin']).name.removeprefix('kubectl-')}").symlink_to(
        store / platform["bin"]
    )
    return programs
