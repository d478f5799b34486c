from pathlib import Path

import pytest

from devcluster.errors import DevclusterError
from devcluster.machine.layout import Identity, Layout, ProcessRecord, State

STATE = State(
    id="0123",
    supervisor=Identity(1, 2),
    phase="ready",
    url="https://127.10.0.1:6443",
    network="127.10.0.0/16",
    nodes=("gpu-a",),
    processes=(ProcessRecord("etcd", Identity(3, 4)), ProcessRecord("gpu-a", Identity(5, 6), -9)),
)


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    STATE.save(layout)
    assert State.load(layout) == STATE
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"id": 1}', b"[]"])
def test_a_missing_or_foreign_record_is_none(tmp_path: Path, content: bytes | None) -> None:
    layout = Layout(tmp_path)
    if content is not None:
        layout.state.write_bytes(content)
    assert State.load(layout) is None


def test_a_folder_of_ours_is_private_and_removed_as_a_whole(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "cluster")
    layout.create()
    assert layout.directory.stat().st_mode & 0o777 == 0o700
    layout.node("gpu-a").mkdir(parents=True)
    STATE.save(layout)
    layout.clear()
    assert [path.name for path in layout.directory.iterdir()] == ["lock"]
    layout.create()
    layout.remove()
    assert not layout.directory.exists()


def test_logs_of_a_cluster_that_did_not_come_up_stay(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "cluster")
    layout.create()
    layout.log("etcd").parent.mkdir()
    layout.log("etcd").write_text("no space left")
    layout.clear(keep_logs=True)
    assert layout.log("etcd").read_text() == "no space left"


def test_a_strangers_folder_is_neither_taken_nor_removed(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(DevclusterError, match="isn't a devcluster folder"):
        Layout(tmp_path).create()
    Layout(tmp_path).remove()
    assert (tmp_path / "thesis.txt").exists()


def test_clearing_does_not_follow_links(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    layout = Layout(tmp_path / "cluster")
    layout.create()
    (layout.directory / "link").symlink_to(outside)
    layout.clear()
    assert (outside / "kept").exists()
    assert not (layout.directory / "link").is_symlink()
