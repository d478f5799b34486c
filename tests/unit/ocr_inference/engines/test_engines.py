"""One suite that every engine passes, the fake one included, then what is particular to each."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from ocr_inference import engines
from ocr_inference.engines import pictures
from ocr_inference.protocol.engine import (
    Engine,
    EngineError,
    Failure,
    FailureKind,
    InferRequest,
    ModelSpec,
    PageResult,
)
from ocr_inference.protocol.host_tier import HostTier
from ocr_wire import engines as engine_table
from tests.support.engines import picture
from tests.support.paths import INVOICE


def heading() -> bytes:
    """The top of the invoice: a few words, read in a moment."""
    data = io.BytesIO()
    with Image.open(INVOICE) as image:
        image.convert("RGB").crop((0, 0, 900, 130)).save(data, "PNG")
    return data.getvalue()


PAGE = InferRequest(image=heading())


@pytest.fixture
def host() -> Iterator[HostTier]:
    tier = HostTier.create("test")
    yield tier
    tier.close()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny one, of a model that knows no end: its context ends answers."""
    pytest.importorskip("torch", reason="needs the extra `transformers`")
    from tests.support import chatmodels, checkpoints

    folder = tmp_path_factory.mktemp("checkpoint")
    config = chatmodels.make(folder, "lighton_ocr") / "config.json"
    text = json.loads(config.read_text())["text_config"]
    checkpoints.edit_json(config, text_config={**text, "max_position_embeddings": 48})
    return folder


@pytest.fixture(params=sorted(engine_table.NAMES))
def make(request: pytest.FixtureRequest, host: HostTier, tmp_path: Path) -> Callable[[], Engine]:
    spec = ModelSpec(name="m", engine=request.param)
    if request.param == "rapidocr":
        pytest.importorskip("rapidocr")
    if request.param == "transformers":
        path = str(request.getfixturevalue("checkpoint"))
        # Where ready means that something is on a device.
        spec = ModelSpec(
            name="m", engine="transformers", device="simulated", path=path, cache_dir=str(tmp_path)
        )
    return lambda: engines.create(spec, host)


def answer(engine: Engine, request: InferRequest = PAGE) -> PageResult:
    (result,) = engine.infer([request])
    assert isinstance(result, PageResult), result
    return result


def failure(engine: Engine, data: bytes, max_pixels: int = 1_000_000) -> Failure:
    (result,) = engine.infer([InferRequest(image=data, max_pixels=max_pixels)])
    assert isinstance(result, Failure)
    return result


# --- every engine ---------------------------------------------------------------------------------------------


def test_the_whole_life_with_equal_answers(make: Callable[[], Engine], host: HostTier) -> None:
    engine = make()
    loaded = engine.load()
    assert loaded.host_bytes == host.size > 0
    assert loaded.device_bytes > 0
    first = answer(engine)
    for _ in range(2):
        offloaded = engine.offload()
        assert (offloaded.device_bytes, offloaded.host_bytes) == (0, loaded.host_bytes)
        assert engine.restore() == loaded
        again = answer(engine)
        assert (again.text, again.lines) == (first.text, first.lines)
    unloaded = engine.unload()
    assert (unloaded.device_bytes, unloaded.host_bytes, host.size) == (0, 0, 0)
    assert engine.load() == loaded


def test_a_fresh_process_restores_from_the_host_tier(make: Callable[[], Engine]) -> None:
    loader = make()
    loader.load()
    first = answer(loader)
    loader.offload()
    successor = make()
    successor.restore()
    assert answer(successor).text == first.text


def test_an_empty_host_tier_is_not_restored(make: Callable[[], Engine]) -> None:
    with pytest.raises(EngineError, match="host memory"):
        make().restore()


def test_unload_works_in_every_state(make: Callable[[], Engine], host: HostTier) -> None:
    engine = make()
    engine.unload()
    engine.load()
    engine.offload()
    engine.unload()
    assert host.size == 0


def test_pages_fail_alone(make: Callable[[], Engine]) -> None:
    engine = make()
    engine.load()
    good, bad, also_good = engine.infer(
        [InferRequest(image=picture()), InferRequest(image=b"GIF89a?"), InferRequest(image=picture(20, 60))]
    )
    assert isinstance(good, PageResult)
    assert isinstance(bad, Failure)
    assert isinstance(also_good, PageResult)
    assert (also_good.width, also_good.height) == (20, 60)


def test_a_model_that_is_not_loaded_says_so(make: Callable[[], Engine]) -> None:
    assert "not loaded" in failure(make(), picture()).message


def test_sizes_are_of_the_upright_picture(make: Callable[[], Engine]) -> None:
    engine = make()
    engine.load()
    data = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right by 90 degrees to look at it
    Image.new("RGB", (60, 40), "white").save(data, "JPEG", exif=exif)
    result = answer(engine, InferRequest(image=data.getvalue()))
    assert (result.width, result.height) == (40, 60)


# --- pictures -------------------------------------------------------------------------------------------------


def refused(data: bytes, max_pixels: int = 1_000_000) -> Failure:
    with pytest.raises(EngineError) as error:
        pictures.decode(data, max_pixels)
    return error.value.failure


def test_a_truncated_picture_names_the_problem() -> None:
    result = refused(INVOICE.read_bytes()[:2000])
    assert result.kind is FailureKind.INVALID_IMAGE
    assert "truncated" in result.message


@pytest.mark.parametrize("data", [b"", b"hello", b"%PDF-1.4", b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    assert refused(data).kind is FailureKind.INVALID_IMAGE


def test_a_bomb_is_refused_by_its_header() -> None:
    data = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(data, "PNG")
    result = refused(data.getvalue(), 100_000_000)
    assert result.kind is FailureKind.IMAGE_TOO_LARGE
    assert result.message == "30000 x 30000 pixels; the limit is 100000000 in all and 65535 a side"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_mode_becomes_rgb_and_white_stays_white(mode: str) -> None:
    white: dict[str, int | tuple[int, ...]] = {
        "1": 1,
        "LA": (255, 255),
        "RGBA": (0, 0, 0, 0),
        "I;16": 65_535,
        "RGB": (255, 255, 255),
        "P": 0,
    }
    image = Image.new(mode, (8, 8), white.get(mode, 255))
    if mode == "P":
        image.putpalette([255, 255, 255])
    data = io.BytesIO()
    image.save(data, "PNG")
    decoded = pictures.decode(data.getvalue(), 1000)
    assert decoded.mode == "RGB"
    assert decoded.getpixel((3, 3)) == (255, 255, 255)


# --- rapidocr -------------------------------------------------------------------------------------------------


@pytest.fixture
def reader(host: HostTier) -> Engine:
    pytest.importorskip("rapidocr")
    engine = engines.create(ModelSpec(name="m", engine="rapidocr", options={"threads": 1}), host)
    engine.load()
    return engine


def test_rapidocr_reads_an_invoice(reader: Engine) -> None:
    result = answer(reader, InferRequest(image=INVOICE.read_bytes()))
    texts = [line.text for line in result.lines]
    assert {"INVOICE", "Harbour Paper Company", "504.50"} <= set(texts)
    assert result.text.splitlines() == texts
    for line in result.lines:
        assert 0.5 <= line.score <= 1
        assert all(0 <= x <= result.width and 0 <= y <= result.height for x, y in line.box)
        left, right = line.box[0][0], line.box[1][0]
        assert left < right


def test_rapidocr_finds_the_same_boxes_on_a_turned_photo(reader: Engine) -> None:
    upright = answer(reader)
    exif = Image.Exif()
    exif[0x0112] = 8  # turn left by 90 degrees to look at it
    data = io.BytesIO()
    with Image.open(io.BytesIO(heading())) as image:
        image.transpose(Image.Transpose.ROTATE_270).save(data, "PNG", exif=exif)
    turned = answer(reader, InferRequest(image=data.getvalue()))
    assert (turned.text, turned.lines) == (upright.text, upright.lines)


@pytest.mark.parametrize("size", [(1, 1), (3000, 20), (1, 6000), (2100, 2100)])
def test_rapidocr_survives_odd_sizes(reader: Engine, size: tuple[int, int]) -> None:
    result = answer(reader, InferRequest(image=picture(*size)))
    assert (result.text, result.lines, (result.width, result.height)) == ("", (), size)


def test_rapidocr_boxes_lie_on_the_text_of_a_thin_strip(reader: Engine) -> None:
    """Scaled down and up again, a thin strip must not move its boxes."""
    strip = Image.new("RGB", (3000, 36), "white")
    with Image.open(io.BytesIO(heading())) as image:
        word = next(line for line in answer(reader).lines if line.text == "INVOICE")
        left, top, right, bottom = (int(number) for number in (*word.box[0], *word.box[2]))
        strip.paste(image.crop((left, top, right, bottom)).resize((180, 36)), (2000, 0))
    data = io.BytesIO()
    strip.save(data, "PNG")
    (line,) = answer(reader, InferRequest(image=data.getvalue())).lines
    assert line.text == "INVOICE"
    assert abs(line.box[0][0] - 2000) < 40
    assert abs(line.box[1][0] - 2180) < 40
    assert line.box[2][1] <= 36


def test_rapidocr_refuses_odd_options(host: HostTier) -> None:
    pytest.importorskip("rapidocr")
    with pytest.raises(EngineError, match="option threads is a number"):
        engines.create(ModelSpec(name="m", engine="rapidocr", options={"threads": "many"}), host)


# --- fake -----------------------------------------------------------------------------------------------------


def test_fake_says_that_it_is_fake_and_depends_on_the_page_only(host: HostTier) -> None:
    engine = engines.create(ModelSpec(name="m", engine="fake"), host)
    engine.load()
    white = answer(engine, InferRequest(image=picture()))
    assert white.text.startswith("fake ocr of page")
    assert answer(engine, InferRequest(image=picture(kind="BMP"))).text == white.text
    assert answer(engine, InferRequest(image=picture(color="black"))).text != white.text


def test_fake_refuses_unknown_options(host: HostTier) -> None:
    with pytest.raises(EngineError, match="no option 'speed'"):
        engines.create(ModelSpec(name="m", engine="fake", options={"speed": 1}), host)
    with pytest.raises(EngineError, match="load_seconds is a number"):
        engines.create(ModelSpec(name="m", engine="fake", options={"load_seconds": "long"}), host)


# --- the registry ---------------------------------------------------------------------------------------------


def test_a_worker_of_one_engine_imports_no_other() -> None:
    code = (
        "import sys; from ocr_inference import engines; from ocr_inference.protocol.engine import ModelSpec;"
        "from ocr_inference.protocol.host_tier import HostTier;"
        "engines.create(ModelSpec(name='m', engine='fake'), HostTier.create('m')).load();"
        "print('onnxruntime' in sys.modules or 'rapidocr' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_host_tier_gives_its_memory_back() -> None:
    host = HostTier.create("test")
    before = _shared_bytes()
    host.resize(64 << 20)
    with Path(host.path).open("r+b") as file:
        file.write(b"x" * (64 << 20))
    assert host.size == 64 << 20
    assert os.fstat(host.fd).st_blocks * 512 >= 64 << 20
    host.resize(0)
    assert os.fstat(host.fd).st_blocks == 0
    assert _shared_bytes() - before < 1 << 20
    host.close()


def _shared_bytes() -> int:
    """Shared memory mapped by this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssShmem:"):
            return int(line.split()[1]) * 1024
    return 0
