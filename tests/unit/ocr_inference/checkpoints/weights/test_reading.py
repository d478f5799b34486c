"""Reading shards into a flat buffer, and refusing what only looks like them."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from ocr_inference.checkpoints.weights import reading
from ocr_inference.checkpoints.weights.header import BadWeights
from ocr_inference.checkpoints.weights.layout import Entry, Layout, plan
from ocr_inference.checkpoints.weights.reading import Checkpoint

np = pytest.importorskip("numpy")


def make_tensors(count: int = 5, size: int = 1000) -> dict[str, object]:
    random = np.random.default_rng(7)
    return {f"layer.{number}": random.standard_normal((size, number + 1)) for number in range(count)}


def save_sharded(folder: Path, tensors: Mapping[str, object], shards: int = 2) -> None:
    names = sorted(tensors)
    index: dict[str, str] = {}
    for number in range(shards):
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in names[number::shards]}
        save_file(part, folder / file)  # type: ignore[arg-type]
        index |= dict.fromkeys(part, file)
    (folder / reading.INDEX).write_text(json.dumps({"metadata": {}, "weight_map": index}))


def layout_of(tensors: Mapping[str, object]) -> Layout:
    return plan(Entry(name, "F64", value.shape) for name, value in tensors.items())  # type: ignore[attr-defined]


def holds(buffer: bytearray, layout: Layout, tensors: Mapping[str, object]) -> bool:
    return all(
        buffer[slot.offset : slot.end] == tensors[name].tobytes()  # type: ignore[attr-defined]
        for name, slot in layout.slots.items()
    )


def read(folder: Path, layout: Layout, **arguments: object) -> bytearray:
    buffer = bytearray(layout.total_bytes)
    with Checkpoint.open(folder) as checkpoint:
        checkpoint.read(layout, memoryview(buffer), **arguments)  # type: ignore[arg-type]
    return buffer


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("chunk_bytes", [1 << 12, 1 << 24])
def test_single_file_and_shards_fill_every_slot(tmp_path: Path, threads: int, chunk_bytes: int) -> None:
    tensors = make_tensors()
    layout = layout_of(tensors)
    for shards in (1, 2):
        folder = tmp_path / str(shards)
        folder.mkdir()
        save_sharded(folder, tensors, shards)
        assert holds(read(folder, layout, threads=threads, chunk_bytes=chunk_bytes), layout, tensors)
    save_file(tensors, tmp_path / reading.SINGLE)  # type: ignore[arg-type]
    assert holds(read(tmp_path, layout, threads=threads, chunk_bytes=chunk_bytes), layout, tensors)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.integers(1, 4), st.integers(8, 300))
def test_ranges_are_announced_once_they_are_complete(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], shards: int, chunk_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("checkpoint")
    tensors = {f"t{number}": np.full(size, number + 1.5) for number, size in enumerate(sizes)}
    save_sharded(folder, tensors, min(shards, len(sizes)))
    layout = layout_of(tensors)
    buffer, arrived = bytearray(layout.total_bytes), bytearray(layout.total_bytes)

    def on_range(offset: int, nbytes: int) -> None:
        arrived[offset : offset + nbytes] = buffer[offset : offset + nbytes]

    with Checkpoint.open(folder) as checkpoint:
        count = checkpoint.read(layout, memoryview(buffer), on_range=on_range, chunk_bytes=chunk_bytes)
    assert count == layout.weight_bytes
    assert holds(arrived, layout, tensors)


def test_more_tensors_in_a_chunk_than_a_system_call_takes(tmp_path: Path) -> None:
    tensors = {f"t{number:04}": np.array([float(number)]) for number in range(2500)}
    save_file(tensors, tmp_path / reading.SINGLE)
    layout = layout_of(tensors)
    assert holds(read(tmp_path, layout), layout, tensors)


def test_fits_tells_what_must_be_converted(tmp_path: Path) -> None:
    save_sharded(tmp_path, make_tensors(2))
    with Checkpoint.open(tmp_path) as checkpoint:
        as_stored = [Entry("layer.0", "F64", (1000, 1)), Entry("layer.1", "F64", (1000, 2))]
        assert checkpoint.fits(as_stored)
        assert checkpoint.fits([*as_stored, Entry("table", "F32", (3,), persistent=False)])
        assert not checkpoint.fits([*as_stored, Entry("table", "F32", (3,))])
        assert not checkpoint.fits([Entry("layer.0", "F32", (1000, 1))])
        assert not checkpoint.fits([Entry("layer.0", "F64", (1000,))])
        assert checkpoint.weight_bytes == 24_000
        checkpoint.check(as_stored)
        with pytest.raises(BadWeights, match=r"layer\.1: the model has no such tensor"):
            checkpoint.check(as_stored[:1])


def test_reading_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    save_sharded(tmp_path, make_tensors(1), 1)
    with Checkpoint.open(tmp_path) as checkpoint:
        for entry, words in (
            (Entry("layer.0", "F32", (1000, 1)), "is F64 .*, the model has F32"),
            (Entry("layer.9", "F64", (1,)), "missing"),
        ):
            layout = plan([entry])
            with pytest.raises(BadWeights, match=words):
                checkpoint.read(layout, memoryview(bytearray(layout.total_bytes)))


def test_a_failing_listener_ends_the_reading_and_frees_the_buffer(tmp_path: Path) -> None:
    tensors = make_tensors()
    save_sharded(tmp_path, tensors)
    layout = layout_of(tensors)
    buffer = bytearray(layout.total_bytes)

    def on_range(offset: int, nbytes: int) -> None:
        raise MemoryError("no room on the device")

    with (
        Checkpoint.open(tmp_path) as checkpoint,
        memoryview(buffer) as view,
        pytest.raises(MemoryError, match="no room"),
    ):
        checkpoint.read(layout, view, on_range=on_range, chunk_bytes=4096)
    buffer.clear()  # nobody holds a view any more, else this is a BufferError


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    tensors = make_tensors(1)
    save_file(tensors, tmp_path / reading.SINGLE)  # type: ignore[arg-type]
    layout = layout_of(tensors)
    with Checkpoint.open(tmp_path) as checkpoint:
        os.truncate(tmp_path / reading.SINGLE, 4000)
        with pytest.raises(BadWeights, match="ends at byte 4000 while it is read") as caught:
            checkpoint.read(layout, memoryview(bytearray(layout.total_bytes)))
    assert caught.value.file == reading.SINGLE


# --- hostile folders ------------------------------------------------------------------------------------------


def refused(folder: Path, words: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(BadWeights, match=words):
        Checkpoint.open(folder)
    assert len(os.listdir("/proc/self/fd")) == before


def test_links_may_lead_only_where_they_are_allowed_to(tmp_path: Path) -> None:
    blobs, folder = tmp_path / "cache" / "blobs", tmp_path / "cache" / "snapshots"
    blobs.mkdir(parents=True)
    folder.mkdir()
    save_file(make_tensors(1), blobs / "b10b")  # type: ignore[arg-type]
    (folder / reading.SINGLE).symlink_to("../blobs/b10b")
    refused(folder, "model.safetensors: is a link that leads out of")
    Checkpoint.open(folder, within=tmp_path / "cache").close()


def test_a_linked_folder_is_the_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    save_file(make_tensors(1), tmp_path / "real" / reading.SINGLE)  # type: ignore[arg-type]
    (tmp_path / "link").symlink_to("real")
    Checkpoint.open(tmp_path / "link").close()


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "model.safetensors: can't be opened: No such file")
    os.mkfifo(tmp_path / reading.SINGLE)
    refused(tmp_path, "model.safetensors: is not a file")
    (tmp_path / reading.SINGLE).unlink()
    (tmp_path / reading.SINGLE).mkdir()
    refused(tmp_path, "model.safetensors: is not a file")
    (tmp_path / reading.SINGLE).rmdir()
    (tmp_path / reading.SINGLE).write_bytes(b"")
    refused(tmp_path, "model.safetensors: has 0 bytes")


def test_index_and_shards_must_agree(tmp_path: Path) -> None:
    save_sharded(tmp_path, make_tensors(4))
    index = json.loads((tmp_path / reading.INDEX).read_text())
    weight_map = index["weight_map"]
    first, second = sorted(set(weight_map.values()))

    def write(changes: Mapping[str, str]) -> None:
        (tmp_path / reading.INDEX).write_text(json.dumps({"weight_map": weight_map | changes}))

    write({"layer.0": second})
    refused(tmp_path, r"weight_map\.layer\.0: model-00002-of-00002.safetensors has no such tensor")
    write({"layer.9": first})
    refused(tmp_path, r"weight_map\.layer\.9: model-00001-of-00002.safetensors has no such tensor")
    write({"layer.0": "gone.safetensors"})
    refused(tmp_path, "gone.safetensors: can't be opened")
    write({})
    (tmp_path / second).write_bytes((tmp_path / first).read_bytes())
    refused(
        tmp_path, "model-00002-of-00002.safetensors: layer.0: is in model-00001-of-00002.safetensors, too"
    )


def test_a_shard_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    save_sharded(tmp_path, make_tensors(4))
    shard = tmp_path / "model-00002-of-00002.safetensors"
    whole = shard.read_bytes()
    for size in (len(whole) - 1, 200, 20, 7, 0):
        shard.write_bytes(whole[:size])
        refused(tmp_path, "model-00002-of-00002.safetensors")


@given(st.data())
def test_damaged_bytes_are_refused_or_change_values_only(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever happens to a file, reading it ends in a `BadWeights` or in a filled buffer."""
    folder = tmp_path_factory.mktemp("damaged")
    tensors = make_tensors(3, size=4)
    save_file(tensors, folder / reading.SINGLE)  # type: ignore[arg-type]
    content = bytearray((folder / reading.SINGLE).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    (folder / reading.SINGLE).write_bytes(content)
    layout = layout_of(tensors)
    try:
        buffer = read(folder, layout)
    except BadWeights as error:
        file = error.file
    else:
        file = reading.SINGLE
        at = int.from_bytes(content[:8], "little") + 8
        stored = sorted(bytes(buffer[slot.offset : slot.end]) for slot in layout.slots.values())
        assert sorted(stored) == sorted(
            bytes(content[at:][begin:end]) for begin, end in ((0, 32), (32, 96), (96, 192))
        )
    assert file == reading.SINGLE
