"""Volume folders, as a kubelet writes them: files are links through `..data`, which one rename swaps."""

import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from devcluster.kube.model import HostPath
from devcluster.node.decide.podspec import ConfigError, File


def publish(folder: Path, files: Mapping[str, File]) -> None:
    """Make `folder` show exactly `files`; a reader sees either all of the old content or all of the new."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "..data"
    before = folder / os.readlink(data) if data.is_symlink() else None
    version = folder / f"..{secrets.token_hex(6)}"
    version.mkdir()
    for name, file in files.items():
        path = version / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(file.content)
        path.chmod(file.mode)
    fresh = folder / "..data_next"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(version.name)
    fresh.rename(data)
    shown = {name.split("/")[0] for name in files}
    for name in shown:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(Path("..data", name))
    for entry in folder.iterdir():
        if entry.name not in shown and not entry.name.startswith(".."):
            entry.unlink()
    if before is not None:
        shutil.rmtree(before, ignore_errors=True)


def host_folder(source: HostPath) -> Path:
    """Return the folder of a hostPath volume, checked or made as its type says."""
    path = Path(source.path)
    match source.type:
        case "DirectoryOrCreate":
            path.mkdir(parents=True, exist_ok=True)
        case "FileOrCreate":
            path.touch()
        case "Directory" if not path.is_dir():
            raise ConfigError(f"hostPath type check failed: {path} is not a directory")
        case "File" if not path.is_file():
            raise ConfigError(f"hostPath type check failed: {path} is not a file")
        case _:
            pass
    return path
