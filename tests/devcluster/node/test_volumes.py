import threading
from pathlib import Path

import pytest

from devcluster.kube.model import HostPath
from devcluster.node.decide.podspec import ConfigError, File
from devcluster.node.pods import volumes


def shown(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.relative_to(folder).parts[0].startswith("..")
    }


def test_volume_shows_exactly_its_files(tmp_path: Path) -> None:
    volumes.publish(tmp_path / "v", {"a": File(b"1"), "deep/b": File(b"2", 0o400)})
    volumes.publish(tmp_path / "v", {"a": File(b"3", 0o600), "c": File(b"4")})
    assert {path.name for path in (tmp_path / "v").iterdir() if not path.name.startswith("..")} == {"a", "c"}
    assert shown(tmp_path / "v") == {"a": b"3", "c": b"4"}
    assert (tmp_path / "v" / "a").stat().st_mode & 0o777 == 0o600


def test_old_versions_are_removed(tmp_path: Path) -> None:
    for number in range(5):
        volumes.publish(tmp_path, {"a": File(str(number).encode())})
    assert (
        len([path for path in tmp_path.iterdir() if path.name.startswith("..")]) == 2
    )  # ..data and its target


def test_a_reader_never_sees_a_mixture(tmp_path: Path) -> None:
    volumes.publish(tmp_path, {"a": File(b"0"), "b": File(b"0")})
    done, mixtures = threading.Event(), []

    def read() -> None:
        while not done.is_set():
            version = (tmp_path / "..data").resolve()
            try:
                pair = (version / "a").read_bytes(), (version / "b").read_bytes()
            except FileNotFoundError:
                continue  # that version is gone as a whole
            if pair[0] != pair[1]:
                mixtures.append(pair)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(300):
        volumes.publish(tmp_path, {name: File(str(number).encode()) for name in "ab"})
    done.set()
    reader.join()
    assert mixtures == []


def test_host_path_types_are_checked(tmp_path: Path) -> None:
    made = tmp_path / "x" / "y"
    assert volumes.host_folder(HostPath(path=str(made), type="DirectoryOrCreate")) == made
    assert made.is_dir()
    with pytest.raises(ConfigError, match="not a file"):
        volumes.host_folder(HostPath(path=str(made), type="File"))
    with pytest.raises(ConfigError, match="not a directory"):
        volumes.host_folder(HostPath(path=str(tmp_path / "none"), type="Directory"))
