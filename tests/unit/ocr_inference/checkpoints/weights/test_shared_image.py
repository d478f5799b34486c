"""Shared images: whole or absent, made by one, never written again, and of the model that they say."""

import fcntl
import mmap
import multiprocessing
import os
import resource
import threading
from dataclasses import replace
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from ocr_inference.checkpoints.weights import files, shared_image
from ocr_inference.checkpoints.weights.files import ImageNotWritten
from ocr_inference.checkpoints.weights.header import BadWeights
from ocr_inference.checkpoints.weights.image import Key
from ocr_inference.checkpoints.weights.layout import Entry, Layout, plan
from tests.support.patience import PATIENCE

KEY = Key("deepseek-ai/DeepSeek-OCR", "abc123", "torch.bfloat16", "transformers 5.23.0", b"\1" * 32)
END_BYTES = 64


def make_layout(big: int = 30_000) -> Layout:
    return plan([Entry("weight", "BF16", (big, 7)), Entry("table", "F32", (9,), persistent=False)])


def full(layout: Layout, byte: int = 7) -> bytes:
    """A full host tier of a layout."""
    return bytes([byte]) * layout.total_bytes + layout.seal


def write(file: Path, layout: Layout, key: Key = KEY) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    shared_image.write(file, key, memoryview(full(layout)))


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return shared_image.path(tmp_path, KEY)


def mistaken(file: Path, at: int) -> None:
    """Change a byte, and leave no sign of when."""
    status = file.stat()
    file.chmod(0o644)
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(b"?")
    file.chmod(0o444)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_what_was_written_is_a_host_tier_that_only_reads(file: Path) -> None:
    layout = make_layout(big=5_000_000)  # several chunks
    write(file, layout)
    tier = shared_image.opened(file, KEY, layout)
    with tier.map(for_device=True) as mapped:
        assert mapped[: layout.total_bytes + len(layout.seal)] == full(layout)
        with pytest.raises(TypeError):
            mapped[0] = 1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(tier.fd, b"?", 0)
    with pytest.raises(PermissionError):
        mmap.mmap(tier.fd, 4096)
    with tier.map() as mapped:
        mapped[:5] = b"wrote"
        assert mapped[:5] == b"wrote", "a page of this process's own"
    assert os.pread(tier.fd, 5, 0) == full(layout)[:5]
    assert file.stat().st_mode & 0o777 == 0o444
    tier.close()


def test_it_has_a_place_of_its_own_for_each_key(tmp_path: Path) -> None:
    file = shared_image.path(tmp_path, KEY)
    assert file.parent == tmp_path / "shared" / "deepseek-ai--DeepSeek-OCR"
    other = shared_image.path(tmp_path, replace(KEY, library="transformers 5.24.0"))
    assert (other.parent, other.name != file.name) == (file.parent, True)


@pytest.mark.parametrize("bytes_left", [0, 1, 100, -1, -END_BYTES])
def test_a_file_that_is_cut_off_is_none(file: Path, bytes_left: int) -> None:
    layout = make_layout()
    write(file, layout)
    os.truncate(file, bytes_left if bytes_left >= 0 else file.stat().st_size + bytes_left)
    with pytest.raises(BadWeights, match=rf"{file.name}: has \d+ bytes, not"):
        shared_image.opened(file, KEY, layout)


def test_another_model_or_version_of_it_is_none(file: Path) -> None:
    layout = make_layout()
    write(file, layout)
    with pytest.raises(BadWeights, match="of another version of it"):
        shared_image.opened(file, replace(KEY, revision="def456"), layout)
    renamed = plan([replace(slot.entry, name=f"{name}2") for name, slot in layout.slots.items()])
    with pytest.raises(BadWeights, match="is of another model"):
        shared_image.opened(file, KEY, renamed)


def test_a_link_is_not_followed(file: Path, tmp_path: Path) -> None:
    layout = make_layout()
    write(tmp_path / "elsewhere", layout)
    file.parent.mkdir(parents=True)
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        shared_image.opened(file, KEY, layout)


def test_damage_is_found_where_no_mark_says_that_it_was_looked_for(file: Path) -> None:
    layout = make_layout()
    write(file, layout)
    mistaken(file, 1000)
    shared_image.opened(file, KEY, layout).close()  # its writer vouched for it
    file.with_suffix(files.VERIFIED).unlink()
    with pytest.raises(BadWeights, match="checksum: the weights differ"):
        shared_image.opened(file, KEY, layout)
    assert not file.with_suffix(files.VERIFIED).exists()
    file.unlink()
    write(file, layout)
    file.with_suffix(files.VERIFIED).unlink()
    shared_image.opened(file, KEY, layout).close()
    assert file.with_suffix(files.VERIFIED).exists()


def test_a_full_disk_leaves_nothing(file: Path) -> None:
    """A limit on the size of files stands in for the disk: the system refuses in the same place."""
    layout = make_layout(big=500_000)
    file.parent.mkdir(parents=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))  # Python ignores SIGXFSZ
    try:
        with pytest.raises(ImageNotWritten, match=r"bytes can't be written: File too large.*bytes are free"):
            write(file, layout)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(file.parent) == []


def nobody(done: int, total: int) -> None:
    raise AssertionError(f"waited for {done} of {total} bytes")


def test_what_does_not_fit_is_not_begun(file: Path) -> None:
    with pytest.raises(ImageNotWritten, match="No space left"), shared_image.claim(file, 1 << 62, nobody):
        pytest.fail("it has no room")
    with shared_image.claim(file, 1000, nobody):
        pass


def test_a_folder_that_can_not_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "shared").write_text("in the way")
    file = shared_image.path(tmp_path, KEY)
    refused = pytest.raises(ImageNotWritten, match=r"shared image .* can't be written")
    with refused, shared_image.claim(file, 1000, nobody):
        pytest.fail("there is no folder")


def test_one_makes_it_and_the_others_hear_how_far_it_is(file: Path) -> None:
    heard: list[tuple[int, int]] = []
    is_waiting, has_it = threading.Event(), threading.Event()

    def wait() -> None:
        def hear(done: int, total: int) -> None:
            heard.append((done, total))
            is_waiting.set()

        with shared_image.claim(file, 1000, hear):
            has_it.set()

    other = threading.Thread(target=wait)
    with shared_image.claim(file, 1000, nobody) as claim:
        other.start()
        assert is_waiting.wait(PATIENCE)
        is_waiting.clear()
        claim.report(600, 1000)
        assert is_waiting.wait(PATIENCE)
        assert not has_it.is_set()
    other.join(PATIENCE)
    assert has_it.is_set()
    assert heard == [(0, 1000), (600, 1000)]


def test_a_maker_without_progress_is_not_waited_for(file: Path) -> None:
    heard: list[int] = []
    refused = pytest.raises(ImageNotWritten, match="without progress")
    again = shared_image.claim(file, 1000, lambda done, _: heard.append(done), patience=0.0)
    with shared_image.claim(file, 1000, nobody), refused, again:
        pytest.fail("another one has it")
    assert heard == [0]


def _make_and_hold(file: Path, holds: Event) -> None:
    with shared_image.claim(file, 1000, nobody):
        descriptor = os.open(file.with_name("x.0123.part"), os.O_CREAT | os.O_RDWR)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        holds.set()
        threading.Event().wait()


def test_a_killed_maker_leaves_the_claim_and_its_part_to_the_next(file: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    holds = context.Event()
    maker = context.Process(target=_make_and_hold, args=(file, holds))
    maker.start()
    assert holds.wait(PATIENCE)
    maker.kill()
    with shared_image.claim(file, 1000, lambda *_: None):
        assert names(file.parent) == [shared_image.CLAIM]
    maker.join(PATIENCE)


def test_images_go_that_nobody_has_mapped_but_the_one_read_last(tmp_path: Path) -> None:
    layout = make_layout()

    def place(revision: str) -> tuple[Path, Key]:
        key = replace(KEY, revision=revision)
        return shared_image.path(tmp_path, key), key

    for age, revision in enumerate(["mapped", "old", "older", "read last"]):
        file, key = place(revision)
        write(file, layout, key)
        os.utime(file.with_suffix(files.VERIFIED), (2000 + age, 2000 + age))
    mapped = shared_image.opened(*place("mapped"), layout)
    os.utime(place("mapped")[0].with_suffix(files.VERIFIED), (1000, 1000))
    with shared_image.claim(place("new")[0], 1000, nobody):
        pass
    left = {each.name for each in place("new")[0].parent.glob(f"*{shared_image.SUFFIX}")}
    assert left == {place("mapped")[0].name, place("read last")[0].name}
    assert place("mapped")[0].stat().st_mode & 0o777 == 0o444
    mapped.close()
    write(place("new")[0], layout, place("new")[1])
    with shared_image.claim(place("newer")[0], 1000, nobody):
        pass
    assert not place("mapped")[0].exists()
