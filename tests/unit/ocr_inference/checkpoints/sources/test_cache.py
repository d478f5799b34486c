"""The cache on the disk: whole or not there, one writer, nothing left behind, nothing that leads out of it."""

import errno
import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from ocr_inference.checkpoints.sources.cache import Place, location
from tests.support import hub as hubs

COMMIT, OTHER = "a" * 40, "b" * 40
WEIGHTS = "model.safetensors"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, "owner/name")


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def put(place: Place, files: Mapping[str, bytes], commit: str = COMMIT) -> Place:
    """With these files as blobs, linked."""
    for name, data in files.items():
        blob = place.blob(digest_of(data))
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        place.link(commit, name, digest_of(data))
    return place


def tree_of(files: Mapping[str, bytes]) -> dict[str, dict[str, str | int]]:
    return {name: {"size": len(data), "blob_id": hubs.git_hash(data)} for name, data in files.items()}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "/cache/hub"),
        ({"HF_HOME": "/home"}, "/home/hub"),
        ({"HF_HOME": "/home", "HF_HUB_CACHE": "/hub"}, "/hub"),
        ({"HF_HOME": "", "HF_HUB_CACHE": ""}, "/cache/hub"),
    ],
)
def test_the_cache_is_where_other_tools_are_told(environ: dict[str, str], expected: str) -> None:
    assert location(environ, Path("/cache")) == Path(expected)


def test_a_file_is_a_link_that_moves_with_the_cache(place: Place, tmp_path: Path) -> None:
    put(place, {"config.json": b"{}"})
    place.root.rename(tmp_path / "moved")
    file = tmp_path / "moved" / "snapshots" / COMMIT / "config.json"
    assert file.is_symlink()
    assert file.read_bytes() == b"{}"
    assert len(list((tmp_path / "moved" / "blobs").iterdir())) == 1


def test_where_links_cannot_be_made_the_file_itself_is_there(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", refuse)
    put(place, hubs.checkpoint())
    assert not (place.folder(COMMIT) / WEIGHTS).is_symlink()
    assert place.problem(COMMIT) is None
    assert list((place.root / "blobs").iterdir()) == []


def test_a_link_is_put_in_place_of_a_broken_one(place: Place) -> None:
    place.folder(COMMIT).mkdir(parents=True)
    (place.folder(COMMIT) / "config.json").symlink_to("nowhere")
    put(place, {"config.json": b"{}"})
    assert place.has(COMMIT, "config.json", 2)


@pytest.mark.parametrize("files", [hubs.checkpoint(), hubs.sharded()], ids=["single", "sharded"])
@pytest.mark.parametrize("recorded", [True, False])
def test_what_a_commit_lacks_shows(place: Place, files: dict[str, bytes], recorded: bool) -> None:
    last = max(files, key=lambda name: name.endswith(".safetensors"))
    assert "can't be read" in (place.problem(COMMIT) or "")
    if recorded:
        place.record(COMMIT, tree_of(files))
    put(place, {name: data for name, data in files.items() if name != last})
    assert place.problem(COMMIT)
    put(place, {last: files[last]})
    assert place.problem(COMMIT) is None


@pytest.mark.parametrize("name", ["generation_config.json", WEIGHTS])
def test_a_recorded_commit_misses_what_is_optional_or_too_short(place: Place, name: str) -> None:
    files = hubs.checkpoint() | {"generation_config.json": b"{}"}
    place.record(COMMIT, tree_of(files))
    put(place, files)
    assert place.problem(COMMIT) is None
    path = place.folder(COMMIT) / name
    if name == WEIGHTS:
        os.truncate(path, 50)
    else:
        path.unlink()
    assert place.problem(COMMIT) == f"{name} is missing, or not {len(files[name])} bytes long"


@pytest.mark.parametrize("data", [b"[" * 100_000, b"{}", b'{"format_version": 2, "files": {}}', b"\xff"])
def test_a_record_that_makes_no_sense_is_none(place: Place, data: bytes) -> None:
    put(place, hubs.checkpoint())
    place.record(COMMIT, {})
    (place.root / "trees" / f"{COMMIT}.json").write_bytes(data)
    assert place.problem(COMMIT) is None


def test_a_record_of_large_files_has_their_own_size(place: Place) -> None:
    files = hubs.checkpoint()
    entry = {"size": 134, "blob_id": "0" * 40, "lfs_sha256": "0" * 64, "lfs_size": len(files[WEIGHTS])}
    place.record(COMMIT, tree_of(files) | {WEIGHTS: entry})
    put(place, files)
    assert place.problem(COMMIT) is None


def test_a_record_that_is_there_stays(place: Place) -> None:
    place.record(COMMIT, {})
    place.record(COMMIT, tree_of(hubs.checkpoint()))
    assert json.loads((place.root / "trees" / f"{COMMIT}.json").read_bytes())["files"] == {}


@pytest.mark.parametrize("revision", ["main", "v1.0", "refs/pr/7", "a b", "x" * 80])
def test_what_a_branch_stands_for_is_remembered_where_other_tools_look(place: Place, revision: str) -> None:
    assert place.pinned(revision) is None
    place.pin(revision, COMMIT)
    assert place.pinned(revision) == COMMIT
    place.pin(revision, OTHER)
    assert place.pinned(revision) == OTHER
    assert (place.root / "refs" / revision).read_text() == OTHER


@pytest.mark.parametrize(
    "revision", ["../../evil", "..", "/etc/passwd", "a/../../b", "", "a//b", "x\0", "x" * 300]
)
def test_a_revision_that_leads_elsewhere_is_not_remembered(
    place: Place, tmp_path: Path, revision: str
) -> None:
    place.pin(revision, COMMIT)
    assert place.pinned(revision) is None
    assert list(tmp_path.iterdir()) == []


def test_a_commit_stands_for_itself(place: Place) -> None:
    assert place.pinned(COMMIT) == COMMIT
    place.pin(COMMIT, COMMIT)
    assert not place.root.exists()


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff", b"a" * 41, b"A" * 40])
def test_nonsense_in_a_reference_is_nothing(place: Place, content: bytes) -> None:
    place.pin("main", COMMIT)
    (place.root / "refs" / "main").write_bytes(content)
    assert place.pinned("main") is None


def test_a_cache_that_cannot_be_written_forgets_quietly(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"a file where the folder belongs")
    place = Place(tmp_path / "file", "owner/name")
    place.pin("main", COMMIT)
    place.record(COMMIT, {})
    place.sweep()
    assert place.pinned("main") is None
    assert place.problem(COMMIT)
    assert place.held(COMMIT, WEIGHTS, "sha256:0") == 0


def test_one_at_a_time(place: Place) -> None:
    order: list[str] = []
    waited = threading.Event()

    def second() -> None:
        with place.locked(f"git:{COMMIT}", waited.set):
            order.append("second")

    with place.locked(f"git:{COMMIT}", lambda: None):
        thread = threading.Thread(target=second)
        thread.start()
        assert waited.wait(20)
        order.append("first")
    thread.join(20)
    assert order == ["first", "second"]


def test_another_file_is_not_locked(place: Place) -> None:
    def never() -> None:
        raise AssertionError

    with place.locked(f"git:{COMMIT}", never), place.locked(f"git:{OTHER}", never):
        pass


def test_what_is_left_of_downloads_goes_unless_somebody_works_on_it(place: Place) -> None:
    names = {name: place.incomplete(f"git:{name * 40}") for name in "abc"}
    # huggingface_hub's own: whose process may be at work without a lock that is seen here.
    foreign = place.root / "blobs" / f"{COMMIT}.0123abcd.incomplete"
    foreign.parent.mkdir(parents=True)
    for path in (*names.values(), foreign):
        path.write_bytes(b"x")
    with place.locked(f"git:{'c' * 40}", lambda: None):
        place.sweep()
    assert set(foreign.parent.iterdir()) == {names["c"], foreign}


def test_what_is_discarded_leaves_nothing_but_what_was_there(place: Place) -> None:
    put(place, {"config.json": b"{}"}, OTHER)
    put(place, {"config.json": b"{}", WEIGHTS: b"12345"})
    place.record(COMMIT, {})
    place.incomplete(f"git:{COMMIT}").write_bytes(b"x")
    place.discard(COMMIT, {WEIGHTS: digest_of(b"12345")}, {f"git:{COMMIT}"})
    assert place.has(OTHER, "config.json", 2)
    assert os.listdir(place.folder(COMMIT)) == ["config.json"]
    assert os.listdir(place.root / "blobs") == [digest_of(b"{}").removeprefix("sha256:")]


def test_the_lock_is_the_one_that_others_take(place: Place, tmp_path: Path) -> None:
    with (
        place.locked(f"git:{COMMIT}", lambda: None),
        open(tmp_path / ".locks" / "models--owner--name" / f"{COMMIT}.lock") as file,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
