"""Weight images: whole or absent, verified once, shared by whoever comes."""

import fcntl
import multiprocessing
import os
import resource
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open

from ocr_inference.checkpoints.weights import files, image
from ocr_inference.checkpoints.weights.header import BadWeights
from ocr_inference.checkpoints.weights.layout import Entry, Layout, plan

KEY = image.Key("deepseek-ai/DeepSeek-OCR", "abc123", "torch.bfloat16", "transformers 5.23.0", b"\1" * 32)


def make_layout(big: int = 3000) -> Layout:
    entries = (
        Entry("model.weight", "BF16", (big, 7)),
        Entry("model.bias", "F32", (5,)),
        Entry("model.table", "F32", (9,), persistent=False),
        Entry("model.none", "U8", (0, 3)),
    )
    return plan(entries, {"head.weight": "model.weight"})


def make_buffer(layout: Layout, seed: int = 1) -> bytearray:
    buffer = bytearray(layout.total_bytes)
    period = bytes((at * 31 + seed) % 256 for at in range(256))
    for slot in layout.slots.values():
        nbytes = slot.entry.nbytes
        buffer[slot.offset : slot.end] = (period * (nbytes // 256 + 1))[:nbytes]
    return buffer


def read(file: Path, layout: Layout) -> bytearray:
    buffer = bytearray(layout.total_bytes)
    assert image.read(file, layout, memoryview(buffer)) == layout.weight_bytes
    return buffer


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_what_was_written_is_read(tmp_path: Path) -> None:
    layout = make_layout(big=5_000_000 // 14 * 10)  # several chunks
    buffer = make_buffer(layout)
    file = tmp_path / "a" / "image.safetensors"
    image.write(file, layout, memoryview(buffer), {"source": "somewhere"})
    assert read(file, layout) == buffer
    assert names(file.parent) == ["image.safetensors", "image.verified"]


def test_an_image_is_plain_safetensors(tmp_path: Path) -> None:
    layout = make_layout()
    buffer = make_buffer(layout)
    image.write(tmp_path / "x.safetensors", layout, memoryview(buffer), {"source": "somewhere"})
    with safe_open(tmp_path / "x.safetensors", "numpy") as opened:
        assert opened.metadata()["source"] == "somewhere"
        assert set(opened.keys()) == set(layout.slots)
        slot = layout.slots["model.bias"]
        assert opened.get_tensor("model.bias").tobytes() == bytes(buffer[slot.offset : slot.end])


def test_a_key_has_one_name_and_another_has_another(tmp_path: Path) -> None:
    file = image.path(tmp_path, KEY)
    assert file.parent == tmp_path / "images" / "deepseek-ai--DeepSeek-OCR"
    others = [
        replace(KEY, **change)
        for change in (
            {"revision": "abc124"},
            {"dtype": "torch.float32"},
            {"library": "transformers 5.24.0"},
            {"layout": b"\2" * 32},
            {"source": "deepseek-ai--DeepSeek-OCR"},
        )
    ]
    assert len({image.path(tmp_path, key).name for key in [KEY, *others]}) == 6


@pytest.mark.parametrize("source", ["../../etc", "/models/x", "..", ".", "", "a\0b/ü", "x" * 400])
def test_no_source_leads_out_of_the_cache(tmp_path: Path, source: str) -> None:
    file = image.path(tmp_path, replace(KEY, source=source))
    assert file.parent.parent == tmp_path / "images"
    assert file.parent.name not in ("", ".", "..")
    file.parent.mkdir(parents=True)


def test_damage_is_found_before_it_is_used(tmp_path: Path) -> None:
    layout = make_layout()
    file = tmp_path / "x.safetensors"
    image.write(file, layout, memoryview(make_buffer(layout)))
    with file.open("r+b") as opened:
        opened.seek(-1000, os.SEEK_END)
        opened.write(b"?")
    with pytest.raises(BadWeights, match="the image is damaged") as caught:
        read(file, layout)
    assert (caught.value.file, caught.value.field) == ("x.safetensors", image.CHECKSUM)
    files.discard(file)
    assert names(tmp_path) == []
    with pytest.raises(FileNotFoundError):
        read(file, layout)


def test_it_is_verified_once_and_again_when_it_changed(tmp_path: Path) -> None:
    layout = make_layout()
    file = tmp_path / "x.safetensors"
    image.write(file, layout, memoryview(make_buffer(layout)))
    read(file, layout)
    status = file.stat()
    with file.open("r+b") as opened:
        opened.seek(-1000, os.SEEK_END)
        opened.write(b"?")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    read(file, layout)  # nobody looked: it was verified, and says it hasn't changed since
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    with pytest.raises(BadWeights, match="damaged"):
        read(file, layout)


def test_another_model_or_a_stranger_is_no_image(tmp_path: Path) -> None:
    layout = make_layout()
    file = tmp_path / "x.safetensors"
    image.write(file, layout, memoryview(make_buffer(layout)))
    other = plan([Entry("other", "F32", (2,))])
    with pytest.raises(BadWeights, match="is no weight image of this model"):
        read(file, other)
    with pytest.raises(BadWeights, match=r"model\.weight: is BF16"):
        read(file, make_layout(big=2999))
    file.write_bytes(file.read_bytes().replace(image.CHECKSUM.encode(), b"x" * len(image.CHECKSUM)))
    with pytest.raises(BadWeights, match="is no weight image"):
        read(file, layout)


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: the system refuses in the same place."""
    layout = make_layout(big=500_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))  # Python ignores SIGXFSZ
    try:
        with pytest.raises(files.ImageNotWritten, match=r"7000056 bytes can't be written.*bytes are free"):
            image.write(tmp_path / "x.safetensors", layout, memoryview(make_buffer(layout)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == []


def test_a_folder_that_can_not_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    layout = make_layout()
    with pytest.raises(files.ImageNotWritten, match=r"file/x\.safetensors"):
        image.write(tmp_path / "file" / "x.safetensors", layout, memoryview(make_buffer(layout)))


def test_what_a_killed_writer_left_is_swept_and_the_living_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / f"dead.0123{files.PART}").write_bytes(b"half")
    alive = os.open(tmp_path / f"alive.4567{files.PART}", os.O_CREAT | os.O_RDWR)
    fcntl.flock(alive, fcntl.LOCK_EX)
    layout = make_layout()
    image.write(tmp_path / "x.safetensors", layout, memoryview(make_buffer(layout)))
    assert names(tmp_path) == [f"alive.4567{files.PART}", "x.safetensors"]
    os.close(alive)


def test_a_writer_leaves_its_image_and_those_that_were_read_last(tmp_path: Path) -> None:
    layout = make_layout()
    images = [tmp_path / f"{number}.safetensors" for number in range(image.KEPT)]
    for age, file in enumerate(reversed(images)):
        image.write(file, layout, memoryview(make_buffer(layout)))
        read(file, layout)
        os.utime(file.with_suffix(files.VERIFIED), (1000 - age, 1000 - age))
    oldest = images[0]
    read(oldest, layout)  # so another one is the oldest now
    with images[1].open("rb") as opened:
        image.write(tmp_path / "new.safetensors", layout, memoryview(make_buffer(layout)))
        assert names(tmp_path) == sorted(
            [
                "new.safetensors",
                *(f"{each}.{kind}" for each in (0, 2, 3) for kind in ("safetensors", "verified")),
            ]
        )
        assert opened.read(8), "whoever has it open reads on"
    assert read(oldest, layout) == make_buffer(layout)


def _write_and_read(file: Path, rounds: int) -> None:
    layout = make_layout()
    buffer = make_buffer(layout)
    for _ in range(rounds):
        image.write(file, layout, memoryview(buffer))
        assert read(file, layout) == buffer


def test_pods_that_write_and_read_at_once_never_see_half_a_file(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    writers = [
        context.Process(target=_write_and_read, args=(tmp_path / "x.safetensors", 15)) for _ in range(3)
    ]
    for each in writers:
        each.start()
    for each in writers:
        each.join(60)
    assert [each.exitcode for each in writers] == [0, 0, 0]
    assert [name for name in names(tmp_path) if name.endswith(files.PART)] == []
