"""The cache on the disk: whole or not there, one writer, nothing left behind."""

import fcntl
import os
import threading
from pathlib import Path

import pytest

from ocr_inference.checkpoints.sources.cache import MANIFEST, Place

COMMIT, OTHER = "a" * 40, "b" * 40


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, "owner/name")


def filled(place: Place, commit: str = COMMIT, **files: bytes) -> Place:
    """With a partial checkpoint of these files, made complete."""
    partial = place.partial(commit)
    partial.mkdir(parents=True)
    for name, data in files.items():
        (partial / name).write_bytes(data)
    place.finish(commit, {name: len(data) for name, data in files.items()})
    return place


def test_a_checkpoint_appears_whole(place: Place, tmp_path: Path) -> None:
    assert not place.complete(COMMIT)
    filled(place, config=b"{}", weights=b"12345")
    assert place.complete(COMMIT)
    assert place.folder(COMMIT) == tmp_path / "models" / "owner--name" / COMMIT
    assert sorted(os.listdir(place.folder(COMMIT))) == [MANIFEST, "config", "weights"]
    assert not place.partial(COMMIT).exists()


def test_leftovers_of_a_download_do_not_come_along(place: Place) -> None:
    place.partial(COMMIT).mkdir(parents=True)
    (place.partial(COMMIT) / "sha256-xyz.part").write_bytes(b"junk")
    (place.partial(COMMIT) / "config").write_bytes(b"{}")
    place.finish(COMMIT, {"config": 2})
    assert sorted(os.listdir(place.folder(COMMIT))) == [MANIFEST, "config"]


@pytest.mark.parametrize("damage", ["shorter", "gone", "manifest gone", "manifest nonsense"])
def test_damage_shows_and_is_repaired_from_what_is_left(place: Place, damage: str) -> None:
    filled(place, config=b"{}", weights=b"12345")
    folder = place.folder(COMMIT)
    match damage:
        case "shorter":
            os.truncate(folder / "weights", 2)
        case "gone":
            (folder / "weights").unlink()
        case "manifest gone":
            (folder / MANIFEST).unlink()
        case "manifest nonsense":
            (folder / MANIFEST).write_bytes(b"[" * 100_000)
    assert not place.complete(COMMIT)
    place.reopen(COMMIT)
    assert not folder.exists()
    assert (place.partial(COMMIT) / "config").read_bytes() == b"{}"
    assert place.written(COMMIT) >= 2


def test_of_a_damaged_checkpoint_and_a_download_the_download_stays(place: Place) -> None:
    filled(place, weights=b"12345")
    os.truncate(place.folder(COMMIT) / "weights", 2)
    place.partial(COMMIT).mkdir()
    (place.partial(COMMIT) / "new").write_bytes(b"new")
    place.reopen(COMMIT)
    assert not place.folder(COMMIT).exists()
    assert os.listdir(place.partial(COMMIT)) == ["new"]


@pytest.mark.parametrize("revision", ["main", "v1.0", "refs/pr/7", "../../evil", "..", "a b", "x" * 80])
def test_what_a_branch_stands_for_is_remembered_in_its_place(place: Place, revision: str) -> None:
    assert place.pinned(revision) is None
    place.pin(revision, COMMIT)
    assert place.pinned(revision) == COMMIT
    place.pin(revision, OTHER)
    assert place.pinned(revision) == OTHER
    inside = place.root / "refs"
    assert [path.parent for path in inside.rglob("*")] == [inside]


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
    (tmp_path / "models").write_bytes(b"a file where the folder belongs")
    place = Place(tmp_path, "owner/name")
    place.pin("main", COMMIT)
    assert place.pinned("main") is None
    assert not place.complete(COMMIT)
    assert place.written(COMMIT) == 0


def test_one_at_a_time(place: Place) -> None:
    order: list[str] = []
    waited = threading.Event()

    def second() -> None:
        with place.locked(COMMIT, waited.set):
            order.append("second")

    with place.locked(COMMIT, lambda: None):
        thread = threading.Thread(target=second)
        thread.start()
        assert waited.wait(20)
        order.append("first")
    thread.join(20)
    assert order == ["first", "second"]


def test_another_commit_is_not_locked(place: Place) -> None:
    def never() -> None:
        raise AssertionError

    with place.locked(COMMIT, never), place.locked(OTHER, never):
        pass


def test_what_is_left_of_other_commits_goes_unless_somebody_works_on_it(place: Place) -> None:
    busy = "c" * 40
    for commit in (COMMIT, OTHER, busy):
        place.partial(commit).mkdir(parents=True)
        (place.partial(commit) / "x").write_bytes(b"x")
    (place.root / "strange.partial").mkdir()
    with open(place.root / f"{busy}.lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        place.sweep(COMMIT)
    left = {path.name for path in place.root.glob("*.partial")}
    assert left == {f"{COMMIT}.partial", f"{busy}.partial", "strange.partial"}
