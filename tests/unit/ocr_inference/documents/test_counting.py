import io
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from ocr_inference.documents import counting
from tests.support import mutations


def several(name: str, count: int, **options: Any) -> bytes:
    first, *rest = [Image.new("L", (12, 9), 40 * index) for index in range(count)]
    out = io.BytesIO()
    first.save(out, name, save_all=True, append_images=rest, **options)
    return out.getvalue()


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("TIFF", {}),
        ("TIFF", {"big_tiff": True}),
        ("GIF", {"comment": b"c" * 700}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True, "exif": b"Exif\0\0"}),
        ("PNG", {}),
    ],
)
def test_frames_are_counted_as_the_decoder_counts_them(
    name: str, options: dict[str, Any], count: int
) -> None:
    data = several(name, count, **options)
    with Image.open(io.BytesIO(data)) as image:
        assert getattr(image, "n_frames", 1) == count
    assert counting.frames(data, name) == tuple(range(count))


def test_a_picture_before_an_animation_is_a_frame_of_its_own() -> None:
    data = several("PNG", 3, default_image=True)
    with Image.open(io.BytesIO(data)) as image:
        assert getattr(image, "n_frames", 1) == 3
    assert counting.frames(data, "PNG") == (0, 1, 2)


@pytest.mark.parametrize(
    ("kinds", "pages"),
    [
        ((0, 1, 2, 4), (0, 2)),  # a page, its thumbnail, a page of many, a mask
        ((1, 0), (1,)),
        ((1,), (0,)),  # nothing else is there
    ],
)
@pytest.mark.parametrize("big", [False, True])
def test_thumbnails_and_masks_in_a_tiff_are_no_pages(
    kinds: tuple[int, ...], pages: tuple[int, ...], big: bool
) -> None:
    out = io.BytesIO()
    tagged = []
    for kind in kinds:
        image = Image.new("L", (12, 9))
        directory = ImageFileDirectory_v2()
        directory[254] = kind
        image.encoderinfo = {"tiffinfo": directory}
        tagged.append(image)
    tagged[0].save(
        out,
        "TIFF",
        save_all=True,
        append_images=tagged[1:],
        tiffinfo=tagged[0].encoderinfo["tiffinfo"],
        big_tiff=big,
    )
    assert counting.frames(out.getvalue(), "TIFF") == pages


def test_a_tiff_whose_directories_are_a_circle_ends() -> None:
    data = struct.pack("<2sHIHHHIII", b"II", 42, 8, 1, 256, 4, 1, 9, 8)
    assert counting.frames(data, "TIFF") == (0,)


def test_what_lies_behind_the_bound_isnt_counted() -> None:
    head = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0)
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x00"
    assert len(counting.frames(head + frame * (counting.MAX_FRAMES + 5), "GIF")) == counting.MAX_FRAMES


@given(st.integers(0, 100_000))
def test_damage_anywhere_gives_frames(number: int) -> None:
    name, data = mutations.mutated(7, number)
    found = counting.frames(data, name)
    assert found
    assert list(found) == sorted(set(found))
