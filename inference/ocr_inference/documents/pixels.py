"""What a picture's pixels mean: upright, in red, green and blue, as people see them.

Needs Pillow, so only processes that decode import this.
"""

import math
from collections.abc import Iterator, Mapping
from typing import BinaryIO, Final

from PIL import Image, ImageChops, ImageFilter, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from ocr_inference.documents import headers, unfinished
from ocr_inference.protocol.page import MAX_SIDE

_UPRIGHT: Final[Mapping[object, Image.Transpose]] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a picture upright, by its EXIF orientation."""
_ORIENTATION, _PHOTOMETRIC, _X_RESOLUTION, _Y_RESOLUTION = 0x0112, 262, 282, 283
_WHITE_IS_ZERO: Final = 0
_LEAST_STRETCH, _MOST_STRETCH = 1.2, 4.0
"""A fax's pixels are up to 4 times as high as wide. Less is hardly seen; more is a mistake in the file."""
_LEAST_BITS, _FEW_BITS, _BITS = 8, 13, 16
_STRIP_PIXELS: Final = 1 << 22
_VISIBLE: Final = 128
_SEVERAL: Final = 0.2
"""Part of the ink that may not be lost."""


def page(image: Image.Image, file: BinaryIO, max_pixels: int) -> Image.Image:
    """Return a picture that is open, from that file, as a page: decoded, upright, in 8 bits of red, green and blue,
    with pixels as high as they are wide, where its format says how high they are."""
    # Of a TIFF, before decoding turns it and drops the tag.
    turned = isinstance(image, TiffImageFile) and image.tag_v2.get(_ORIENTATION, 1) in (5, 6, 7, 8)
    inverted, stretch = _is_inverted(image), _stretch(image)
    image = _loaded(image, file)
    upright = _rgb(_shallow(_upright(image), inverted=inverted))
    return _stretched(upright, 1 / stretch if turned else stretch, max_pixels)


def _loaded(image: Image.Image, file: BinaryIO) -> Image.Image:
    try:
        image.load()
    except OSError:
        if image.format not in ("JPEG", "MPO"):
            raise
        return unfinished.load(file)
    return image


def _upright(image: Image.Image) -> Image.Image:
    """Turn it as its EXIF data says. Not by Pillow's own way, which writes all EXIF data anew."""
    if len(image.info.get("exif", b"")) > headers.MAX_EXIF:
        return image
    orientation = image.getexif().get(_ORIENTATION)
    method = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)


def _is_inverted(image: Image.Image) -> bool:
    """Whether zero is white and Pillow leaves it so, as it does with more than 8 bits."""
    return (
        isinstance(image, TiffImageFile)
        and _is_deep(image)
        and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    )


def _is_deep(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _shallow(image: Image.Image, *, inverted: bool) -> Image.Image:
    """Return a picture of more than 8 bits a pixel with 8. Pillow's own conversion clips above 255."""
    if not _is_deep(image):
        return image
    deep = image if image.mode == "F" else image.convert("I")
    least, most = _range(deep)
    scale = 255 / (most - least)
    if inverted:
        least, scale = most, -scale
    shallow = deep.point(lambda value: value * scale + -least * scale).convert("L")
    shallow.info.pop("transparency", None)  # of one of the 65536 shades
    return shallow


def _range(image: Image.Image) -> tuple[float, float]:
    """Return what is black and what is white: by the bits that are used, since scanners write 10 or 12 in 16."""
    low, high = image.getextrema()
    assert isinstance(low, (int, float))
    assert isinstance(high, (int, float))
    if not (math.isfinite(low) and math.isfinite(high)):
        return 0.0, 1.0
    if image.mode == "F" and low >= 0 and high <= 1:
        return 0.0, 1.0
    bits = max(_LEAST_BITS, math.ceil(high).bit_length())
    if low < 0 or bits > _BITS:
        return low, max(high, low + 1)
    return 0.0, float((1 << (bits if bits <= _FEW_BITS else _BITS)) - 1)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        shade = _ground(layer)
        image = Image.alpha_composite(Image.new("RGBA", layer.size, (shade, shade, shade, 255)), layer)
    return image.convert("RGB")


def _ground(layer: Image.Image) -> int:
    """Return the shade of grey on which a transparent picture's ink shows: white, unless that is what its ink is, as
    on pictures for dark pages."""
    lowest, highest = layer.getchannel("A").getextrema()
    if lowest == 255:
        return 255
    visible = min(_VISIBLE, int(highest) if isinstance(highest, (int, float)) else _VISIBLE)
    dark = middle = light = 0
    for strip in _strips(layer):
        alpha = strip.getchannel("A")
        ink = alpha.point(lambda value: 255 if value >= visible else 0)
        # Only where it meets the ground: what is inside of a photo says nothing.
        edge = ImageChops.darker(ink, ImageOps.invert(ink).filter(ImageFilter.MaxFilter(3)))
        shades = strip.convert("L").histogram(mask=edge)
        dark, middle, light = dark + sum(shades[:86]), middle + sum(shades[86:170]), light + sum(shades[170:])
    several = _SEVERAL * (dark + middle + light)
    if dark > several and light > several:
        return 128
    return 0 if light > dark + middle else 255


def _strips(image: Image.Image) -> Iterator[Image.Image]:
    rows = max(16, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(image.height, top + rows)))


def _stretch(image: Image.Image) -> float:
    """Return how many times higher than wide pixels are, by the resolutions in a TIFF's tags; 1 where they hardly
    are."""
    if not isinstance(image, TiffImageFile):
        return 1.0
    try:
        across, down = (float(image.tag_v2[tag]) for tag in (_X_RESOLUTION, _Y_RESOLUTION))
        stretch = across / down
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return 1.0
    ratio = max(stretch, 1 / stretch) if stretch > 0 else 1.0
    return stretch if _LEAST_STRETCH <= ratio <= _MOST_STRETCH else 1.0


def _stretched(image: Image.Image, stretch: float, max_pixels: int) -> Image.Image:
    if stretch == 1:
        return image
    width, height = image.size
    larger = (width, round(height * stretch)) if stretch > 1 else (round(width / stretch), height)
    if larger[0] * larger[1] > max_pixels or max(larger) > MAX_SIDE:
        return image
    return image.resize(larger, Image.Resampling.BICUBIC)
